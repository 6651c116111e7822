//! The clients of another director's own server, as that has told of them. No I/O.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::message::Clients;

/// Maximum number of clients that are remembered: some 10 MB.
pub(super) const MAX_CLIENTS: usize = 100_000;
/// Time for which a client counts that is told of no more while others of its server are.
const MAX_AGE: Duration = Duration::from_secs(10);
/// Time after which a server of which nothing is told any more counts no longer: longer than
/// any VRRP with which somebody leads (`Master_Down_Interval`).
const MAX_SILENCE: Duration = Duration::from_secs(120);

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

/// What has been told.
#[derive(Debug, Default)]
pub(super) struct KnownClients {
    servers: HashMap<(SocketAddr, SocketAddr), Server>,
    count: usize,
}

/// A server's clients, by both ends of their connections.
#[derive(Debug)]
struct Server {
    clients: HashMap<(SocketAddr, u16), Known>,
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
    /// Takes what was told at `now`. Returns false if there was no room for all.
    pub(super) fn take(&mut self, told: &Clients, now: Instant) -> bool {
        let key = (told.service, told.server);
        let server = self.servers.entry(key).or_insert_with(|| Server {
            clients: HashMap::new(),
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
        self.forget_silent(now);
        has_room
    }

    fn forget_silent(&mut self, now: Instant) {
        let count = &mut self.count;
        self.servers.retain(|_, server| {
            let is_heard = now.duration_since(server.heard) <= MAX_SILENCE;
            *count -= if is_heard { 0 } else { server.clients.len() };
            is_heard
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
    use super::super::message::Client;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

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
        assert!(known.take(&told(&[(5000, u32::MAX), (5001, 7)]), start));
        assert!(known.take(&told(&[(5000, 99), (5001, 3)]), start + SECOND));
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
        known.take(&told(&[(5000, 1), (5001, 1)]), start);
        for second in 1..=11 {
            known.take(&told(&[(5001, 1)]), start + second * SECOND);
        }
        assert_eq!(known.count, 1);
        assert_eq!(lost(&mut known, start + 100 * SECOND), [(5001, 1, 0)]);
        known.take(&told(&[(5000, 1)]), start);
        assert_eq!(lost(&mut known, start + MAX_SILENCE + SECOND), []);
        assert_eq!(known.count, 0);
    }

    #[test]
    fn there_is_a_limit() {
        let (mut known, start) = (KnownClients::default(), Instant::now());
        known.count = MAX_CLIENTS - 1;
        assert!(known.take(&told(&[(5000, 1)]), start));
        assert!(!known.take(&told(&[(5000, 2), (5001, 1)]), start));
        let lost = known.take_out(|_| true, start);
        assert_eq!(lost.into_values().flatten().count(), 1);
    }
}
