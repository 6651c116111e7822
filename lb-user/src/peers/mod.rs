//! Directors that are servers themselves tell each other of their own server's clients.
//!
//! A viewer only receives. If the director that leads dies along with its own server, nobody
//! else knows that server's viewers, and they say nothing: they would wait for their own
//! time-out. So the director that leads a virtual router sends the others a list of its own
//! server's connections, about once a second ([`clients`]), to the group or the peers of its
//! adverts. Whoever leads next asks these clients to speak ([`crate::resets::ask_clients`]).
//!
//! A list counts if it has come by the interface of the virtual router, is signed with a secret
//! of that (a key of `auth_hmac`, or the password of VRRP 2), names a service that is configured
//! here, is newer than the last of its sender, and has crossed no router, unless it comes from a
//! peer by name and is signed ([`accept`]). The password of VRRP 2 travels in clear in each
//! advert, so that it keeps nobody off who is on the link. Whatever is told, a client is only
//! ever asked: one whose server lives keeps its connection.

mod accept;
mod complaints;
mod known;
mod socket;

use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use std::{io, thread};

use lb_dataplane::ConntrackSnapshot;
use lb_model::ServiceKey;
use service_kit::unix_ms;

use accept::Acceptance;
use complaints::Complaints;
use known::{KnownClients, MAX_AGE, MAX_CLIENTS, MAX_SERVERS, Teller};
pub(crate) use known::{LostClient, LostClients};
use lb_wire::clients::{self, Client, Clients, Stamp};
use socket::{Receiver, Sender};

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
    /// The addresses that virtual routers share: none is a source of what is told.
    pub(crate) virtual_addresses: Vec<IpAddr>,
    /// A group, or peers.
    pub(crate) destinations: Vec<IpAddr>,
    /// What its directors share, the one to sign with first.
    pub(crate) secrets: Vec<Vec<u8>>,
    /// The services of TCP at its addresses.
    pub(crate) services: Vec<SocketAddr>,
    /// Time within which another director leads if the one that led is silent.
    pub(crate) max_silence: Duration,
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
    let mut socket: Option<Receiver> = None;
    let mut joined = Instant::now();
    let mut complaints = Complaints::default();
    let mut acceptance = Acceptance::default();
    let what = format!(
        "listen on UDP port {} ({}) for what other directors tell of their own servers' clients",
        socket::PORT,
        if is_ipv6 { "IPv6" } else { "IPv4" }
    );
    let mut is_full = false;
    let mut buffer = [0; clients::BUFFER_BYTES];
    while let Some(shared) = shared.upgrade() {
        let received = match &mut socket {
            Some(socket) => {
                if joined.elapsed() >= INTERVAL {
                    join(socket, &shared.routers, &mut complaints);
                    joined = Instant::now();
                }
                socket.receive(&mut buffer)
            }
            None => Receiver::open(is_ipv6, socket::PORT).map(|mut opened| {
                join(&mut opened, &shared.routers, &mut complaints);
                joined = Instant::now();
                socket = Some(opened);
                None
            }),
        };
        let outcome = received.map(|received| {
            let (length, origin) = received?;
            let (router, told) = acceptance.read(&shared.routers, &origin, &buffer[..length])?;
            let teller = Teller {
                source: origin.source,
                max_silence: router.max_silence + MAX_AGE,
            };
            let has_room = shared.known().take(&told, teller, Instant::now());
            if !has_room && !is_full {
                log::warn!(
                    "another director tells of more than {MAX_CLIENTS} clients or \
                     {MAX_SERVERS} servers: the clients of the others will notice its loss by \
                     their own time-out"
                );
            }
            is_full |= !has_room;
            Some(())
        });
        let has_failed = outcome.is_err();
        complaints.note(&what, outcome.map(drop));
        if has_failed {
            socket = None;
            drop(shared);
            thread::sleep(INTERVAL);
        }
    }
}

/// Joins the groups of all virtual routers whose interfaces are there.
fn join(socket: &mut Receiver, routers: &[Router], complaints: &mut Complaints) {
    for router in routers {
        let what = format!(
            "listen on {} for what other directors of virtual router {} tell of their own \
             servers' clients",
            router.interface, router.id
        );
        complaints.note(&what, socket.join(router));
    }
}

/// Tells what the last report says, until no more can come.
fn tell(reports: &mpsc::Receiver<Report>) {
    let mut report: Option<Report> = None;
    let mut due = Instant::now() + INTERVAL;
    let mut complaints = Complaints::default();
    let mut stamp = Stamp {
        started_ms: unix_ms(),
        number: 0,
    };
    loop {
        match reports.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(new) => report = Some(new),
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let begun = Instant::now();
                if let Some(report) = &report {
                    tell_once(report, &mut stamp, &mut complaints);
                }
                due = Instant::now() + INTERVAL.max(begun.elapsed() * MAX_SCAN_SHARE);
            }
        }
    }
}

fn tell_once(report: &Report, stamp: &mut Stamp, complaints: &mut Complaints) {
    for (router, servers) in &report.routers {
        let found = find_clients(&report.snapshot, servers);
        let lists = found.map(|found| {
            let lists = lists(router, servers, found, stamp);
            for (to, sent) in send_all(router, &lists) {
                let what = format!(
                    "tell {to} of the own clients of virtual router {} on {}",
                    router.id, router.interface
                );
                complaints.note(&what, sent);
            }
        });
        let what = format!("find the own clients of virtual router {}", router.id);
        complaints.note(&what, lists);
    }
}

/// The clients of each of the servers.
fn find_clients(
    snapshot: &ConntrackSnapshot,
    servers: &[(ServiceKey, SocketAddr)],
) -> Result<Vec<Vec<Client>>, lb_dataplane::Error> {
    let mut found: Vec<Vec<Client>> = vec![Vec::new(); servers.len()];
    let mut room = MAX_CLIENTS;
    snapshot.for_each_client(servers, |number, orphan| {
        if room > 0 {
            room -= 1;
            found[number].push(Client {
                client: orphan.client,
                port: orphan.service.port(),
                awaited_sequence: orphan.awaited_sequence,
            });
        }
    })?;
    Ok(found)
}

/// What is told of the clients of each of the servers: an empty list, too, by which others
/// notice who leads.
fn lists(
    router: &Router,
    servers: &[(ServiceKey, SocketAddr)],
    found: Vec<Vec<Client>>,
    stamp: &mut Stamp,
) -> Vec<Clients> {
    let mut lists = Vec::new();
    for ((service, server), clients) in servers.iter().zip(found) {
        let chunks = clients.chunks(clients::MAX_CLIENTS);
        let none = clients.is_empty().then_some(&[][..]);
        for clients in chunks.chain(none) {
            stamp.number += 1;
            lists.push(Clients {
                virtual_router_id: router.id,
                stamp: *stamp,
                service: service.address,
                server: *server,
                clients: clients.to_vec(),
            });
        }
    }
    lists
}

/// Sends all lists to each destination; one that fails keeps the others from nothing.
fn send_all(router: &Router, lists: &[Clients]) -> Vec<(IpAddr, io::Result<()>)> {
    let secret = router.secrets.first().map_or(&[][..], Vec::as_slice);
    let destinations = router.destinations.iter();
    let mut senders: Vec<_> = destinations
        .map(|to| (*to, Sender::open(router, *to)))
        .collect();
    for (number, list) in lists.iter().enumerate() {
        if number > 0 && number.is_multiple_of(BURST) {
            thread::sleep(BURST_PAUSE);
        }
        for (_, sender) in &mut senders {
            if let Ok(open) = sender
                && let Err(error) = open.send(&clients::encode(list, open.source, secret))
            {
                *sender = Err(error);
            }
        }
    }
    let outcomes = senders.into_iter();
    outcomes
        .map(|(to, sender)| (to, sender.map(drop)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use lb_model::Protocol;

    use super::*;

    fn router() -> Router {
        Router {
            id: 51,
            interface: "lo".to_owned(),
            source: None,
            virtual_addresses: Vec::new(),
            destinations: vec![
                // From a documentation prefix: `lo` has no such route (RFC 9637).
                Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 1).into(),
                Ipv4Addr::LOCALHOST.into(),
            ],
            secrets: Vec::new(),
            services: Vec::new(),
            max_silence: Duration::ZERO,
        }
    }

    fn server() -> (ServiceKey, SocketAddr) {
        let service = ServiceKey {
            protocol: Protocol::Tcp,
            address: SocketAddr::new([172, 16, 1, 200].into(), 1935),
        };
        (service, SocketAddr::new([172, 16, 1, 10].into(), 1935))
    }

    #[test]
    fn each_datagram_has_a_greater_number_and_there_is_one_without_clients() {
        let client = Client {
            client: SocketAddr::new([10, 0, 0, 7].into(), 40_000),
            port: 1935,
            awaited_sequence: 7,
        };
        let mut stamp = Stamp {
            started_ms: 1000,
            number: 5,
        };
        for (clients, sizes) in [
            (0, &[0][..]),
            (clients::MAX_CLIENTS + 1, &[clients::MAX_CLIENTS, 1]),
        ] {
            let before = stamp;
            let lists = lists(
                &router(),
                &[server()],
                vec![vec![client; clients]],
                &mut stamp,
            );
            let told: Vec<_> = lists.iter().map(|list| list.clients.len()).collect();
            assert_eq!(told, sizes);
            assert!(before < lists[0].stamp);
            assert!(lists.is_sorted_by(|one, next| one.stamp < next.stamp));
            assert_eq!(lists[lists.len() - 1].stamp, stamp);
        }
    }

    #[test]
    fn a_destination_that_fails_keeps_no_other_from_being_told() {
        let mut stamp = Stamp {
            started_ms: 1000,
            number: 0,
        };
        let lists = lists(&router(), &[server()], vec![Vec::new()], &mut stamp);
        let sent = send_all(&router(), &lists);
        let outcomes: Vec<_> = sent.iter().map(|(_, sent)| sent.is_ok()).collect();
        assert_eq!(outcomes, [false, true], "{sent:?}");
    }
}
