//! The servers themselves: listeners, connections, time-outs, upstreams, and
//! the daemon around them.
//!
//! A connection's way: [`Server::accept`] → `connection` (handshake and
//! commands, on tokio) → a publisher stays there, a player goes to a fan-out
//! worker with its [`player::PlayerDialogue`] and comes back when it wants
//! something else.

pub mod clients;
mod connection;
pub mod daemon;
mod descriptors;
mod hooks;
mod logging;
mod memory;
pub mod options;
mod peer;
mod pid_file;
pub mod player;
mod socket;
mod trim;
mod upstream;
mod via;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rtmp_proto::session::StreamKey;
use rtmp_proto::wire::Limits;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::config::{Config, Role, Vhost};
use crate::stream::fanout::{Departed, Fanout};
use crate::stream::memory::MemoryPool;
use crate::stream::{Registry, Retention, Stream, StreamSettings, Wakers};
use clients::Clients;
use connection::Connection;
use hooks::Hooks;
use memory::StreamMemory;
use player::PlayerDialogue;
pub use socket::listen;
use trim::Trim;
use via::Via;

/// A message that is kept takes at least so much of a stream's `queue_bytes`,
/// however small it is: more than what is noted about it takes.
const MIN_MESSAGE_BYTES: u64 = 1_024;
/// How often streams are looked over that nobody may need.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// A pause after the kernel refused to give us a connection: most likely there
/// are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An origin or an edge.
#[derive(Debug)]
pub struct Server {
    role: Role,
    config: watch::Sender<Arc<Config>>,
    limits: Limits,
    /// What it is known by to itself, when its own connection reaches it.
    id: Via,
    registry: Registry,
    /// What connections hold of messages that are not complete.
    messages: Arc<MemoryPool>,
    fanout: Fanout<PlayerDialogue>,
    clients: Clients,
    started: Instant,
    draining: AtomicBool,
    /// Of each vhost the origin that last had a stream.
    good_origins: Mutex<HashMap<String, String>>,
    hooks: Hooks,
    /// Where pulls from origins run.
    pulls: Handle,
}

impl Server {
    /// Starts the fan-out workers and all that does not depend on listeners.
    /// To be called within a tokio runtime.
    ///
    /// # Errors
    /// No thread or descriptor left.
    pub fn start(role: Role, config: Config) -> io::Result<Arc<Self>> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = config.workers.unwrap_or(cores);
        let wakers = Wakers::new(workers)?;
        let hooks = Hooks::new(config.server_id.as_deref());
        let (departing, departed) = mpsc::unbounded_channel();
        let fanout = Fanout::start(wakers.clone(), move |player| {
            // Nobody listens any more only when the process ends.
            let _ = departing.send(player);
        })?;
        let memory = StreamMemory::new(config.stream_memory);
        let server = Arc::new(Self {
            role,
            config: watch::Sender::new(Arc::new(config)),
            limits: Limits::default(),
            id: Via::new_server(),
            registry: Registry::new(wakers, memory.logs),
            messages: MemoryPool::new(memory.messages),
            fanout,
            clients: Clients::default(),
            started: Instant::now(),
            draining: AtomicBool::new(false),
            good_origins: Mutex::default(),
            hooks,
            pulls: upstream::threads::start(role, workers)?,
        });
        tokio::spawn(take_back(server.clone(), departed));
        tokio::spawn(sweep(server.clone()));
        Ok(server)
    }

    /// Takes connections from `listener` until the task is dropped.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            let (socket, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    log::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let most = self.config().max_connections as usize;
            let Some(client) = self.clients.enter(peer, most, Instant::now()) else {
                log::warn!("{peer} is turned away: {most} connections are there (max_connections)");
                continue;
            };
            match socket::prepare(&socket) {
                Ok(()) => {
                    let connection = Connection::new(self.clone(), client, socket);
                    tokio::spawn(Box::new(connection).run());
                    // Those that are on their way come first: of a thousand that
                    // arrive together few are half-way at a time, each of which
                    // holds several times what a player does.
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    log::debug!("{client}: gone before it was accepted: {error}");
                    self.clients.remove(client.id);
                }
            }
        }
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    /// What the configuration in force makes of `vhost`, which an earlier one
    /// may have named; the same where it names none of that name.
    fn in_force(&self, vhost: Arc<Vhost>) -> Arc<Vhost> {
        let config = self.config.borrow();
        config.vhosts.get(&vhost.name).cloned().unwrap_or(vhost)
    }

    /// Puts another configuration in force: for what begins from now on, and
    /// for the streams that are there as far as it can change.
    pub fn reconfigure(&self, config: Config) {
        let memory = StreamMemory::new(config.stream_memory);
        self.registry.logs().pool().set_limit(memory.logs);
        self.messages.set_limit(memory.messages);
        let config = Arc::new(config);
        self.config.send_replace(config.clone());
        for stream in self.registry.list() {
            if let Some(vhost) = config.vhost(&stream.key().vhost) {
                stream.apply(&stream_settings(vhost));
            }
        }
    }

    /// Which of the two servers this is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// All streams.
    #[must_use]
    pub fn streams(&self) -> Vec<Arc<Stream>> {
        self.registry.list()
    }

    /// The memory that the logs of all streams share.
    #[must_use]
    pub fn log_memory(&self) -> &MemoryPool {
        self.registry.logs().pool()
    }

    /// The memory that the unfinished messages of all connections share.
    #[must_use]
    pub fn message_memory(&self) -> &MemoryPool {
        &self.messages
    }

    /// All connections.
    #[must_use]
    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    /// How many players each fan-out worker has.
    #[must_use]
    pub fn players_per_worker(&self) -> Vec<usize> {
        self.fanout.players()
    }

    /// How long it has been running.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Lets a connection go; whether there is one with this id.
    pub fn dismiss(&self, id: u64) -> bool {
        // In this order: whom a worker has dismissed is forgotten soon.
        let known = self.clients.dismiss(id);
        self.fanout.dismiss(id);
        known
    }

    /// Lets all connections go, politely.
    pub fn dismiss_all(&self) {
        self.fanout.dismiss_all();
        for client in self.clients.list() {
            self.clients.dismiss(client.id);
        }
    }

    /// Begins to drain: no new publishers and players, those that are there
    /// may finish.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The stream called `key` at `vhost`; a new one if there is none.
    fn stream(&self, key: &StreamKey, vhost: &Vhost) -> Arc<Stream> {
        self.registry
            .obtain(key, &stream_settings(vhost), Instant::now())
    }
}

fn stream_settings(vhost: &Vhost) -> StreamSettings {
    StreamSettings {
        chunk_size: vhost.chunk_size,
        mw_latency: vhost.effective_mw_latency(),
        gop_cache: vhost.gop_cache,
        nodelay: vhost.tcp_nodelay,
        keyframe_timeout: vhost.keyframe_timeout,
        retention: Retention {
            queue_length: vhost.queue_length,
            max_bytes: vhost.queue_bytes.into(),
            max_messages: usize::try_from(u64::from(vhost.queue_bytes) / MIN_MESSAGE_BYTES)
                .unwrap_or(usize::MAX),
            gop_cache_max_frames: vhost.gop_cache_max_frames as usize,
        },
    }
}

/// Takes players back from the fan-out workers.
async fn take_back(
    server: Arc<Server>,
    mut departed: mpsc::UnboundedReceiver<Departed<PlayerDialogue>>,
) {
    while let Some(player) = departed.recv().await {
        if let Some(connection) = Connection::take_back(server.clone(), player) {
            tokio::spawn(Box::new(connection).run());
        }
    }
}

/// Ends and forgets streams whose publisher does not return, and gives back
/// what connections have left behind.
async fn sweep(server: Arc<Server>) {
    let mut interval = tokio::time::interval(SWEEP_INTERVAL);
    let mut trim = Trim::default();
    loop {
        interval.tick().await;
        if trim.is_due(Instant::now(), server.clients.changes()) {
            tokio::task::spawn_blocking(trim::trim);
        }
        let config = server.config();
        server.registry.sweep(Instant::now(), |stream| {
            let vhost = config.vhost(&stream.key().vhost);
            vhost.map_or(Duration::ZERO, |vhost| match &vhost.upstream {
                Some(upstream) if stream.origins_unreachable() => upstream.return_timeout,
                _ => vhost.publish_return_timeout,
            })
        });
    }
}
