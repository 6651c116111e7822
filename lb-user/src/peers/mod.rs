//! Directors that are servers themselves tell each other of their own server's clients.
//!
//! A viewer only receives. If the director that leads dies along with its own server, nobody
//! else knows that server's viewers, and they say nothing: they would wait for their own
//! time-out. So the director that leads a virtual router sends the others a list of its own
//! server's connections, about once a second ([`message`]), to the group or the peers of its
//! adverts. Whoever leads next asks these clients to speak ([`crate::resets::ask_clients`]).
//!
//! A list counts if it is signed with a secret of the virtual router (a key of `auth_hmac`, or
//! the password of VRRP 2), names an address of that, and has crossed no router, unless it
//! comes from a peer by name. Lists sent again by somebody who has recorded them do no harm: a
//! client that has no such connection answers with a reset.

mod known;
mod message;
mod socket;

use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use lb_dataplane::ConntrackSnapshot;
use lb_model::ServiceKey;
use socket2::Socket;

use known::{KnownClients, MAX_CLIENTS};
pub(crate) use known::{LostClient, LostClients};
use message::{Client, Clients};

/// Time from one list to the next.
const INTERVAL: Duration = Duration::from_secs(1);
/// A scan of the tables may take this part of the time.
const MAX_SCAN_SHARE: u32 = 10;
/// Datagrams sent at once, and the pause after them: what a receiver's buffer holds.
const BURST: usize = 16;
const BURST_PAUSE: Duration = Duration::from_millis(5);

/// A virtual router, as far as its directors tell each other of clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Router {
    /// Its number.
    pub(crate) id: u8,
    /// The interface of its adverts.
    pub(crate) interface: String,
    /// Source address of its adverts, if one is configured.
    pub(crate) source: Option<IpAddr>,
    /// A group, or peers.
    pub(crate) destinations: Vec<IpAddr>,
    /// What its directors share, the one to sign with first.
    pub(crate) secrets: Vec<Vec<u8>>,
    /// The virtual addresses.
    pub(crate) addresses: Vec<IpAddr>,
}

/// What is told of the own server's clients.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    /// The tables in which they are found.
    pub(crate) snapshot: ConntrackSnapshot,
    /// By virtual router that this director leads: services, each with the own server.
    pub(crate) routers: Vec<(Router, Vec<(ServiceKey, SocketAddr)>)>,
}

/// Tells, and listens, until it is dropped.
#[derive(Debug)]
pub(crate) struct Peers {
    reports: mpsc::Sender<Report>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    routers: Vec<Router>,
    known: Mutex<KnownClients>,
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, KnownClients> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peers {
    /// Starts to listen for what other directors of `routers` tell.
    pub(crate) fn start(routers: Vec<Router>) -> Self {
        let families: Vec<bool> = [false, true]
            .into_iter()
            .filter(|is_ipv6| {
                let mut all = routers.iter().flat_map(|router| &router.destinations);
                all.any(|destination| destination.is_ipv6() == *is_ipv6)
            })
            .collect();
        let shared = Arc::new(Shared {
            routers,
            known: Mutex::default(),
        });
        for is_ipv6 in families {
            let shared = Arc::downgrade(&shared);
            thread::spawn(move || listen(&shared, is_ipv6));
        }
        let (reports, incoming) = mpsc::channel();
        thread::spawn(move || tell(&incoming));
        Self { reports, shared }
    }

    /// The virtual routers that it was started for.
    pub(crate) fn routers(&self) -> &[Router] {
        &self.shared.routers
    }

    /// Has this told from now on, again and again.
    pub(crate) fn report(&self, report: Report) {
        // The thread waits for reports as long as there is a sender.
        let _ = self.reports.send(report);
    }

    /// The clients that other directors have told of, at the addresses for which `is_ours`
    /// is true. They are told once.
    pub(crate) fn take_lost(&self, is_ours: impl Fn(IpAddr) -> bool) -> LostClients {
        self.shared.known().take_out(is_ours, Instant::now())
    }
}

/// Listens until nobody wants to know any more.
fn listen(shared: &Weak<Shared>, is_ipv6: bool) {
    let mut socket: Option<Socket> = None;
    let (mut has_complained, mut is_full) = (false, false);
    let mut buffer = [0; message::BUFFER_BYTES];
    while let Some(shared) = shared.upgrade() {
        let received = match &socket {
            Some(socket) => socket::receive(socket, &mut buffer),
            None => socket::open_receiver(&shared.routers, is_ipv6).map(|opened| {
                socket = Some(opened);
                None
            }),
        };
        match received {
            Ok(Some(received)) => {
                if let Some(told) = read(&shared.routers, &received, &buffer[..received.length]) {
                    let has_room = shared.known().take(&told, Instant::now());
                    if !has_room && !is_full {
                        log::warn!(
                            "another director tells of more than {MAX_CLIENTS} clients: the \
                             others will notice its loss by their own time-out"
                        );
                    }
                    is_full |= !has_room;
                }
            }
            Ok(None) => {}
            Err(error) => {
                if !has_complained {
                    log::warn!(
                        "cannot listen on UDP port {} for what other directors tell of their \
                         own servers' clients, and tries again: {error}",
                        socket::PORT
                    );
                    has_complained = true;
                }
                socket = None;
                drop(shared);
                thread::sleep(INTERVAL);
            }
        }
    }
}

/// What a datagram tells, if it counts.
fn read(routers: &[Router], received: &socket::Received, datagram: &[u8]) -> Option<Clients> {
    let id = message::virtual_router_id(datagram)?;
    routers
        .iter()
        .filter(|router| router.id == id)
        .find_map(|router| {
            let is_peer = router.destinations.contains(&received.source);
            if !received.is_on_link && !is_peer {
                return None;
            }
            let secrets = router.secrets.iter().map(Vec::as_slice);
            let without: &[&[u8]] = if router.secrets.is_empty() {
                &[&[]]
            } else {
                &[]
            };
            let told = message::decode(datagram, secrets.chain(without.iter().copied()))?;
            let address = told.service.ip();
            router.addresses.contains(&address).then_some(told)
        })
}

/// Tells what the last report says, until no more can come.
fn tell(reports: &mpsc::Receiver<Report>) {
    let mut report: Option<Report> = None;
    let mut due = Instant::now() + INTERVAL;
    let mut has_complained = false;
    loop {
        match reports.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(new) => report = Some(new),
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let begun = Instant::now();
                if let Some(report) = &report
                    && !report.routers.is_empty()
                {
                    let told = tell_once(report);
                    if let Err(error) = &told
                        && !has_complained
                    {
                        log::warn!("cannot tell other directors of the own clients: {error:#}");
                    }
                    has_complained = told.is_err();
                }
                due = Instant::now() + INTERVAL.max(begun.elapsed() * MAX_SCAN_SHARE);
            }
        }
    }
}

fn tell_once(report: &Report) -> anyhow::Result<()> {
    for (router, servers) in &report.routers {
        let mut found: Vec<Vec<Client>> = vec![Vec::new(); servers.len()];
        let mut room = MAX_CLIENTS;
        report.snapshot.for_each_client(servers, |number, orphan| {
            if room > 0 {
                room -= 1;
                found[number].push(Client {
                    client: orphan.client,
                    port: orphan.service.port(),
                    awaited_sequence: orphan.awaited_sequence,
                });
            }
        })?;
        let secret = router.secrets.first().map_or(&[][..], Vec::as_slice);
        let mut datagrams = Vec::new();
        for ((service, server), clients) in servers.iter().zip(found) {
            for clients in clients.chunks(message::MAX_CLIENTS) {
                let clients = Clients {
                    virtual_router_id: router.id,
                    service: service.address,
                    server: *server,
                    clients: clients.to_vec(),
                };
                datagrams.push(message::encode(&clients, secret));
            }
        }
        for is_ipv6 in [false, true] {
            send_all(router, is_ipv6, &datagrams)?;
        }
    }
    Ok(())
}

fn send_all(router: &Router, is_ipv6: bool, datagrams: &[Vec<u8>]) -> std::io::Result<()> {
    let all = router.destinations.iter();
    let destinations: Vec<_> = all.filter(|it| it.is_ipv6() == is_ipv6).collect();
    if destinations.is_empty() || datagrams.is_empty() {
        return Ok(());
    }
    let socket = socket::open_sender(router, is_ipv6)?;
    for (number, datagram) in datagrams.iter().enumerate() {
        if number > 0 && number.is_multiple_of(BURST) {
            thread::sleep(BURST_PAUSE);
        }
        for destination in &destinations {
            socket::send(&socket, router, **destination, datagram)?;
        }
    }
    Ok(())
}
