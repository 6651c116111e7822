//! The clients of another director's own server, as that has told of them. No I/O.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use lb_wire::clients::Clients;

/// Maximum number of clients that are remembered: some 10 MB.
pub(super) const MAX_CLIENTS: usize = 100_000;
/// Maximum number of servers whose clients are remembered.
pub(super) const MAX_SERVERS: usize = 1000;
/// Time from one search for directors that are silent to the next.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Time for which a client counts that is told of no more while others of its server are.
pub(super) const MAX_AGE: Duration = Duration::from_secs(10);

/// A client that has lost its server along with the director that led.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LostClient {
    /// The client's end.
    pub(crate) client: SocketAddr,
    /// The end that it has connected to.
    pub(crate) service: SocketAddr,
    /// The last acknowledgement number that is known.
    pub(crate) awaited_sequence: u32,
    /// How far that has risen between the last two reports.
    pub(crate) advance: u32,
}

/// The clients of a server that was lost, by service and server.
pub(crate) type LostClients = HashMap<(SocketAddr, SocketAddr), Vec<LostClient>>;

/// Who has told of clients.
#[derive(Debug, Clone, Copy)]
pub(super) struct Teller {
    /// The director's address.
    pub(super) source: IpAddr,
    /// Time after which another director leads if this one is silent: what it has told counts
    /// no longer.
    pub(super) max_silence: Duration,
}

/// What has been told.
#[derive(Debug, Default)]
pub(super) struct KnownClients {
    servers: HashMap<(SocketAddr, SocketAddr), Server>,
    count: usize,
    /// The director that has told last of a virtual address, which is the one that leads.
    leaders: HashMap<IpAddr, IpAddr>,
    swept: Option<Instant>,
}

/// A server's clients, by both ends of their connections.
#[derive(Debug)]
struct Server {
    clients: HashMap<(SocketAddr, u16), Known>,
    teller: Teller,
    heard: Instant,
    /// When those who have gone were forgotten.
    pruned: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    awaited_sequence: u32,
    advance: u32,
    heard: Instant,
}

impl KnownClients {
    /// Takes what `teller` has told at `now`: what another director has told of the same
    /// virtual address before is forgotten. Returns false if there was no room for all.
    pub(super) fn take(&mut self, told: &Clients, teller: Teller, now: Instant) -> bool {
        if self.swept.is_none_or(|swept| now - swept >= SWEEP_INTERVAL) {
            self.forget_silent(now);
        }
        let address = told.service.ip();
        if self.leaders.insert(address, teller.source) != Some(teller.source) {
            self.retain(|service, server| {
                service.ip() != address || server.teller.source == teller.source
            });
        }
        let key = (told.service, told.server);
        let is_new = !self.servers.contains_key(&key);
        if is_new && told.clients.is_empty() {
            return true;
        }
        if is_new && self.servers.len() >= MAX_SERVERS {
            return false;
        }
        let server = self.servers.entry(key).or_insert_with(|| Server {
            clients: HashMap::new(),
            teller,
            heard: now,
            pruned: now,
        });
        server.heard = now;
        let before = server.clients.len();
        if now.duration_since(server.pruned) > MAX_AGE {
            server.pruned = now;
            let clients = &mut server.clients;
            clients.retain(|_, known| now.duration_since(known.heard) <= MAX_AGE);
        }
        self.count -= before - server.clients.len();
        let mut has_room = true;
        for client in &told.clients {
            let key = (client.client, client.port);
            let sequence = client.awaited_sequence;
            let former = server.clients.get(&key);
            if former.is_none() {
                if self.count >= MAX_CLIENTS {
                    has_room = false;
                    continue;
                }
                self.count += 1;
            }
            let advance = former.map_or(0, |former| {
                // Whatever goes back is another connection.
                let advance = sequence.wrapping_sub(former.awaited_sequence);
                if advance.cast_signed() < 0 {
                    0
                } else {
                    advance
                }
            });
            let known = Known {
                awaited_sequence: sequence,
                advance,
                heard: now,
            };
            server.clients.insert(key, known);
        }
        has_room
    }

    fn forget_silent(&mut self, now: Instant) {
        self.swept = Some(now);
        self.retain(|_, server| now.duration_since(server.heard) <= server.teller.max_silence);
    }

    /// Forgets the servers for which `stays` is false, given the service.
    fn retain(&mut self, stays: impl Fn(SocketAddr, &Server) -> bool) {
        let count = &mut self.count;
        self.servers.retain(|(service, _), server| {
            let stays = stays(*service, server);
            *count -= if stays { 0 } else { server.clients.len() };
            stays
        });
    }

    /// Takes out the clients of the services at those addresses for which `is_ours` is true.
    pub(super) fn take_out(
        &mut self,
        is_ours: impl Fn(IpAddr) -> bool,
        now: Instant,
    ) -> LostClients {
        self.forget_silent(now);
        let taken = self
            .servers
            .extract_if(|(service, _), _| is_ours(service.ip()));
        let mut lost = LostClients::new();
        for ((service, server), known) in taken {
            self.count -= known.clients.len();
            let present = known.clients.iter();
            let present = present
                .filter(|(_, client)| known.heard.duration_since(client.heard) <= MAX_AGE)
                .map(|((client, port), known)| LostClient {
                    client: *client,
                    service: SocketAddr::new(service.ip(), *port),
                    awaited_sequence: known.awaited_sequence,
                    advance: known.advance,
                });
            lost.insert((service, server), present.collect());
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_wire::clients::{Client, Stamp};

    const SECOND: Duration = Duration::from_secs(1);
    const MAX_SILENCE: Duration = Duration::from_secs(15);
    const A: Teller = teller(10);
    const B: Teller = teller(11);

    const fn teller(number: u8) -> Teller {
        Teller {
            source: IpAddr::V4(std::net::Ipv4Addr::new(172, 16, 1, number)),
            max_silence: MAX_SILENCE,
        }
    }

    fn end(text: &str) -> SocketAddr {
        text.parse().expect("an end")
    }

    fn told(clients: &[(u16, u32)]) -> Clients {
        let client = |(port, awaited_sequence): &(u16, u32)| Client {
            client: SocketAddr::new([10, 0, 0, 7].into(), *port),
            port: 1935,
            awaited_sequence: *awaited_sequence,
        };
        Clients {
            virtual_router_id: 1,
            stamp: Stamp {
                started_ms: 1,
                number: 1,
            },
            service: end("172.16.1.200:1935"),
            server: end("172.16.1.10:1935"),
            clients: clients.iter().map(client).collect(),
        }
    }

    fn lost(known: &mut KnownClients, now: Instant) -> Vec<(u16, u32, u32)> {
        let lost = known.take_out(|_| true, now);
        let mut lost: Vec<_> = lost.into_values().flatten().collect();
        lost.sort_by_key(|client| client.client);
        let of = |lost: LostClient| (lost.client.port(), lost.awaited_sequence, lost.advance);
        lost.into_iter().map(of).collect()
    }

    #[test]
    fn the_last_report_of_each_client_counts_and_the_rise_since_the_one_before() {
        let (mut known, start) = (KnownClients::default(), Instant::now());
        assert!(known.take(&told(&[(5000, u32::MAX), (5001, 7)]), A, start));
        assert!(known.take(&told(&[(5000, 99), (5001, 3)]), A, start + SECOND));
        let taken = known.take_out(|address| address != end("172.16.1.200:0").ip(), start);
        assert!(taken.is_empty(), "another address");
        let lost_clients = lost(&mut known, start + 2 * SECOND);
        assert_eq!(lost_clients, [(5000, 99, 100), (5001, 3, 0)]);
        assert_eq!(lost(&mut known, start + 2 * SECOND), [], "taken out");
        assert_eq!(known.count, 0);
    }

    #[test]
    fn who_has_gone_is_forgotten_and_so_is_a_director_that_is_silent() {
        let (mut known, start) = (KnownClients::default(), Instant::now());
        known.take(&told(&[(5000, 1), (5001, 1)]), A, start);
        for second in 1..=11 {
            known.take(&told(&[(5001, 1)]), A, start + second * SECOND);
        }
        assert_eq!(known.count, 1);
        assert_eq!(lost(&mut known, start + 20 * SECOND), [(5001, 1, 0)]);
        known.take(&told(&[(5000, 1)]), A, start);
        assert_eq!(lost(&mut known, start + MAX_SILENCE + SECOND), []);
        assert_eq!(known.count, 0);
    }

    #[test]
    fn there_is_a_limit() {
        let (mut known, start) = (KnownClients::default(), Instant::now());
        known.count = MAX_CLIENTS - 1;
        assert!(known.take(&told(&[(5000, 1)]), A, start));
        assert!(!known.take(&told(&[(5000, 2), (5001, 1)]), A, start));
        let lost = known.take_out(|_| true, start);
        assert_eq!(lost.into_values().flatten().count(), 1);
    }

    #[test]
    fn who_led_before_the_last_leader_is_forgotten_also_if_that_one_has_no_clients() {
        for of_b in [&[(6000, 1)][..], &[]] {
            let (mut known, start) = (KnownClients::default(), Instant::now());
            assert!(known.take(&told(&[(5000, 1)]), A, start));
            assert!(known.take(&told(of_b), B, start + SECOND));
            let expected: Vec<_> = of_b.iter().map(|(port, at)| (*port, *at, 0)).collect();
            assert_eq!(known.count, expected.len());
            assert_eq!(lost(&mut known, start + SECOND), expected);
        }
    }

    #[test]
    fn servers_are_limited_and_none_is_remembered_without_clients() {
        let (mut known, start) = (KnownClients::default(), Instant::now());
        let of = |number: u16, clients: &[(u16, u32)]| {
            let mut told = told(clients);
            told.server.set_port(number);
            told
        };
        assert!(known.take(&of(1, &[]), A, start));
        assert_eq!(known.servers.len(), 0);
        for number in 1..=MAX_SERVERS as u16 {
            assert!(known.take(&of(number, &[(5000, 1)]), A, start));
        }
        assert!(!known.take(&of(0, &[(5000, 1)]), A, start));
        assert!(known.take(&of(1, &[(5001, 1)]), A, start), "known already");
        assert_eq!(known.servers.len(), MAX_SERVERS);
    }

    #[test]
    fn the_silent_are_looked_for_once_a_second() {
        let (mut known, start) = (KnownClients::default(), Instant::now());
        known.take(&told(&[(5000, 1)]), A, start);
        let swept = known.swept;
        known.take(&told(&[(5000, 1)]), A, start + SECOND / 2);
        assert_eq!(known.swept, swept);
        known.take(&told(&[(5000, 1)]), A, start + SECOND);
        assert_eq!(known.swept, Some(start + SECOND));
    }
}
