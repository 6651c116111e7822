//! The servers themselves: listeners, connections, time-outs, hooks and upstreams.
//!
//! A connection begins in [`Server::accept`] and is served by `connection`
//! (handshake and commands, on tokio). A publisher stays there. A player is handed to
//! a fan-out worker with its `PlayerDialogue`, and comes back when its play ends and
//! the connection does not. `http` reads requests over HTTP: `http_flv` makes a player of
//! the connection, `hls` answers one request after another.

mod accept;
mod admission;
mod backoff;
mod client;
mod clients;
mod connection;
mod counters;
mod counts;
mod dvr;
mod events;
mod file_names;
mod forward;
mod hls;
mod hooks;
mod http;
mod http2;
mod http_flv;
mod ingest;
mod line_limit;
mod load;
mod loop_guard;
mod memory;
mod overflow;
mod pace;
mod peer;
mod player;
mod programs;
mod quotas;
mod refusal;
mod returned;
mod slate;
mod socket;
mod stream_settings;
mod sweep;
mod switches;
mod tls;
mod totals;
mod trim;
mod turns;
pub(crate) mod upgrade;
mod upstream;
mod viewer;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rtmp_proto::session::StreamKey;
use rtmp_proto::wire::Limits;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use self::dvr::Dvr;
use self::forward::Forwards;
use self::hls::Hls;
use self::ingest::Ingests;
use self::programs::Programs;
use crate::config::{Config, Origin, Role, Upstream, Vhost};
use crate::stream::fanout::{
    Fanout, FlushTimes, GroupReport, LagTimes, SocketReport, no_lag_times,
};
use crate::stream::memory::MemoryPool;
use crate::stream::{Registry, Stream, Wakers, lock};
pub use accept::Protocol;
#[cfg(test)]
pub(crate) use admission::Asked;
pub(crate) use client::Activity;
pub use client::Client;
pub use clients::Clients;
use clients::ConnectionLimits;
use connection::close::CloseReason;
pub(crate) use counters::{PullReport, Pulls};
pub(crate) use dvr::{Recording, RecordingState};
pub(crate) use events::{EventKind, Events};
pub(crate) use forward::{Forward, ForwardState};
pub(crate) use hooks::max_sockets as max_hook_sockets;
pub(crate) use hooks::{Hooks, stream_url};
pub(crate) use ingest::{IngestReport, IngestState};
use load::Load;
pub(crate) use load::{LoadReport, report as report_load};
use loop_guard::LoopGuard;
use memory::StreamMemory;
use quotas::Quotas;
pub(crate) use refusal::Refusals;
use returned::receive_returned;
pub use socket::listen;
pub(crate) use socket::try_address;
use stream_settings::stream_settings;
use sweep::sweep;
use switches::Switches;
pub(crate) use tls::TlsClient;
pub(crate) use tls::check_certificates;
pub(crate) use totals::Total;
pub(crate) use upgrade::{
    FrozenServer, LAYOUT as HAND_OVER_LAYOUT, LOG_LAYOUT, OLDEST_LAYOUT as OLDEST_HAND_OVER_LAYOUT,
    Purpose, ServerPart,
};
use upgrade::{Phase, Safepoint};
use viewer::Viewer;

/// Time for the fan-out workers to say where their players stand.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// An origin or an edge.
#[derive(Debug)]
pub struct Server {
    role: Role,
    config: watch::Sender<Arc<Config>>,
    limits: Limits,
    /// This server's id, by which it recognises its own connections.
    id: LoopGuard,
    registry: Registry,
    /// Memory of incomplete messages, shared by all connections.
    messages: Arc<MemoryPool>,
    fanout: Fanout<Viewer>,
    lag_times: LagTimes,
    clients: Clients,
    quotas: Arc<Quotas>,
    load: Arc<Load>,
    started: Instant,
    draining: AtomicBool,
    /// By vhost, the origin that last had a stream.
    last_good_origins: Mutex<HashMap<String, Origin>>,
    hooks: Hooks,
    refusals: Refusals,
    events: Arc<Events>,
    pulls: Pulls,
    switches: Switches,
    tls: tls::Acceptor,
    /// TLS towards origins and hooks.
    tls_client: Arc<TlsClient>,
    hls: Hls,
    dvr: Dvr,
    forwards: Forwards,
    ingests: Ingests,
    programs: Programs,
    /// The runtime of pulls from origins.
    pull_runtime: Handle,
    /// Where connections stand still before an upgrade.
    safepoint: Arc<Safepoint>,
}

/// What a server keeps when its process becomes another program.
#[derive(Debug)]
struct Identity {
    id: LoopGuard,
    started: Instant,
    /// Messages' times of arrival are counted from here.
    epoch: Instant,
}

impl Server {
    /// Starts the fan-out workers and everything else but listeners. It must be
    /// called within a tokio runtime.
    ///
    /// # Errors
    /// No thread or descriptor left, or a certificate cannot be used.
    pub fn start(role: Role, config: Config) -> io::Result<Arc<Self>> {
        let now = Instant::now();
        let identity = Identity {
            id: LoopGuard::new_server(),
            started: now,
            epoch: now,
        };
        Self::start_as(identity, role, config, Phase::Running)
    }

    fn start_as(
        identity: Identity,
        role: Role,
        config: Config,
        phase: Phase,
    ) -> io::Result<Arc<Self>> {
        let safepoint = Arc::new(Safepoint::new(phase));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = config.workers.unwrap_or(cores);
        let wakers = Wakers::new(workers)?;
        let events = Arc::<Events>::default();
        let tls = tls::Acceptor::new(&config, events.clone(), phase == Phase::Settling)?;
        let tls_client = Arc::new(TlsClient::default());
        let hooks = Hooks::new(config.server_id.as_deref(), tls_client.clone());
        let (returning, returned) = mpsc::unbounded_channel();
        let returned_safepoint = safepoint.clone();
        let fanout = Fanout::start(wakers.clone(), move |player| {
            // An error means that the process ends.
            let _ = returning.send((player, returned_safepoint.join()));
        })?;
        let memory = StreamMemory::new(config.stream_memory);
        let server = Arc::new(Self {
            role,
            config: watch::Sender::new(Arc::new(config)),
            limits: Limits::default(),
            id: identity.id,
            registry: Registry::new(wakers, memory.logs, identity.epoch),
            messages: MemoryPool::new(memory.messages),
            fanout,
            lag_times: no_lag_times(),
            clients: Clients::default(),
            quotas: Arc::default(),
            load: Arc::default(),
            started: identity.started,
            draining: AtomicBool::new(false),
            last_good_origins: Mutex::default(),
            hooks,
            refusals: Refusals::default(),
            events,
            pulls: Pulls::default(),
            switches: Switches::default(),
            tls,
            tls_client,
            hls: Hls::default(),
            dvr: Dvr::default(),
            forwards: Forwards::default(),
            ingests: Ingests::default(),
            programs: Programs::start()?,
            pull_runtime: upstream::threads::start(role, workers)?,
            safepoint,
        });
        tokio::spawn(receive_returned(server.clone(), returned));
        tokio::spawn(sweep(server.clone()));
        tokio::spawn(load::run(server.clone()));
        tokio::spawn(tls::watch(server.clone()));
        tokio::spawn(ingest::run(server.clone()));
        Ok(server)
    }

    /// The limits for connections, and as many viewers by HLS.
    fn connection_limits(&self) -> ConnectionLimits {
        let config = self.config();
        ConnectionLimits {
            all: config.max_connections,
            per_address: config.max_connections_per_address,
        }
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    /// The settings of `vhost` in the configuration in force; `vhost` itself if that
    /// has none of its name any more.
    fn current_vhost(&self, vhost: Arc<Vhost>) -> Arc<Vhost> {
        let config = self.config.borrow();
        config.vhosts.get(&vhost.name).cloned().unwrap_or(vhost)
    }

    /// Puts another configuration in force, for what begins from now on. Present
    /// streams take over what can change.
    pub fn reconfigure(&self, config: Config) {
        let memory = StreamMemory::new(config.stream_memory);
        self.registry.logs().pool().set_limit(memory.logs);
        self.messages.set_limit(memory.messages);
        self.tls.reload(&config);
        let config = Arc::new(config);
        self.config.send_replace(config.clone());
        for stream in self.registry.list() {
            if let Some(vhost) = config.vhost(&stream.key().vhost) {
                stream.apply(&stream_settings(&config, vhost));
            }
        }
    }

    /// TLS for the HTTP API.
    #[must_use]
    pub fn http_api_tls(&self) -> tokio_rustls::TlsAcceptor {
        self.tls.http_api()
    }

    /// The kind of server: origin or edge.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// All streams.
    #[must_use]
    pub fn streams(&self) -> Vec<Arc<Stream>> {
        self.registry.list()
    }

    /// Memory pool of the logs of all streams.
    #[must_use]
    pub fn log_memory(&self) -> &MemoryPool {
        self.registry.logs().pool()
    }

    /// Memory pool of the incomplete messages of all connections.
    #[must_use]
    pub fn message_memory(&self) -> &MemoryPool {
        &self.messages
    }

    /// All connections.
    #[must_use]
    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    /// Number of players of each fan-out worker.
    #[must_use]
    pub fn players_per_worker(&self) -> Vec<usize> {
        self.fanout.players()
    }

    /// Durations of the flushes of each fan-out worker.
    pub(crate) fn flush_times(&self) -> impl Iterator<Item = &FlushTimes> {
        self.fanout.flush_times()
    }

    /// The lag of each player, for each time that it was looked for.
    pub(crate) fn lag_times(&self) -> &LagTimes {
        &self.lag_times
    }

    /// Number of clients that were refused, by reason.
    pub(crate) fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// The pulls from origins.
    pub(crate) fn pulls(&self) -> &Pulls {
        &self.pulls
    }

    /// The switches between publishers.
    pub(crate) fn switches(&self) -> &Switches {
        &self.switches
    }

    /// The hooks.
    pub(crate) fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    /// The latest events.
    pub(crate) fn events(&self) -> &Events {
        &self.events
    }

    /// Counts the end of a connection, or of a request of it, that was refused.
    fn count_end(&self, client: &Client, reason: &CloseReason) {
        if let Some(refusal) = reason.refusal() {
            self.refusals.count(refusal);
            let ip = Some(client.peer.ip());
            self.events.record(EventKind::Refused, None, ip, reason);
        }
    }

    /// Asks the fan-out workers where all players stand.
    pub(crate) async fn report_players(&self) -> Vec<GroupReport> {
        collect(self.fanout.report()).await
    }

    /// Asks the fan-out workers how the connections of the players with these ids do.
    pub(crate) async fn inspect_players(&self, ids: Vec<u64>) -> Vec<SocketReport> {
        collect(self.fanout.inspect(ids)).await
    }

    /// Time since the start.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Ends the connection with this id. Returns false if there is none.
    pub fn dismiss(&self, id: u64) -> bool {
        if let Some(client) = self.clients.find(id) {
            let activity = client.activity();
            let (stream, ip) = (activity.stream(), client.peer.ip());
            let text = format!("c{id} is dismissed");
            self.events
                .record(EventKind::Dismiss, stream.map(|it| &**it), Some(ip), text);
        }
        // In this order: a player that its worker dismisses is soon removed from
        // `clients`, and would not be found there.
        let known = self.clients.dismiss(id);
        self.fanout.dismiss(id);
        self.hls.dismiss(self, id);
        known
    }

    /// Ends all connections gracefully.
    pub fn dismiss_all(&self) {
        self.fanout.dismiss_all();
        self.hls.dismiss_all(self);
        for client in self.clients.list() {
            self.clients.dismiss(client.id);
        }
    }

    /// Begins to drain: new publishers and players are refused, present ones may
    /// finish. Those that can are asked to connect again.
    pub fn drain(&self) {
        self.events.record(
            EventKind::Drain,
            None,
            None,
            "new clients are refused, present ones may finish",
        );
        self.draining.store(true, Ordering::Relaxed);
        self.fanout.announce_drain();
        // Wakes the connections that no worker serves: they look whether the server drains.
        self.config.send_modify(|_| {});
    }

    /// Removes the files of HLS that are not to stay.
    pub(crate) async fn remove_files(&self) {
        self.hls.remove_files().await;
    }

    /// The recordings.
    pub(crate) fn dvr(&self) -> &Dvr {
        &self.dvr
    }

    /// The forwards to other servers.
    pub(crate) fn forwards(&self) -> &Forwards {
        &self.forwards
    }

    /// The streams that are fetched.
    pub(crate) fn ingests(&self) -> &Ingests {
        &self.ingests
    }

    /// The programs that are run.
    pub(crate) fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Ends the streams that are fetched, and all programs.
    pub(crate) async fn finish_ingests(&self) {
        tokio::join!(self.ingests.finish(), self.programs.finish());
    }

    /// Waits until the notifications of hooks are delivered, for a bounded time: what is not
    /// is lost.
    pub(crate) async fn flush_hooks(&self) {
        if !self.hooks.flush(hooks::TIMEOUT).await {
            log::warn!("the hooks are too slow: some events are lost");
        }
    }

    /// True once new publishers and players are refused.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Number of the origin that last had a stream of `vhost`, among those of
    /// `settings`; 0 if there is none.
    fn first_origin(&self, vhost: &str, settings: &Upstream) -> usize {
        let good = lock(&self.last_good_origins);
        let number = |good| settings.origins.iter().position(|origin| origin == good);
        good.get(vhost).and_then(number).unwrap_or(0)
    }

    /// Makes the next pull of a stream of `vhost` begin with `origin`.
    fn set_first_origin(&self, vhost: &str, origin: &Origin) {
        lock(&self.last_good_origins).insert(vhost.to_owned(), origin.clone());
    }

    /// The stream called `key` at `vhost`; a new one if there is none.
    fn stream(&self, key: &StreamKey, vhost: &Vhost) -> Arc<Stream> {
        let settings = stream_settings(&self.config(), vhost);
        self.registry.obtain(key, &settings, Instant::now())
    }
}

/// All that the workers answer. One that has stopped does not answer at all.
async fn collect<T>(mut answers: mpsc::UnboundedReceiver<Vec<T>>) -> Vec<T> {
    let mut all = Vec::new();
    let collected = async {
        while let Some(answer) = answers.recv().await {
            all.extend(answer);
        }
    };
    let _ = tokio::time::timeout(REPORT_TIMEOUT, collected).await;
    all
}
