//! The order in which servers are asked for a connection: of what all directors tell, the
//! newest table's server first.
//!
//! All servers must reach the same order from the same answers, so that a packet that goes
//! along it passes each server once: nothing here depends on who computes it, or when.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use lb_dataplane::second_chance::{Hop, NextHops, ServiceHops};
use lb_dataplane::{is_prime, maglev_table};
use lb_model::{MAX_GENERATIONS, ServiceTables, Tables};
use net_types::MacAddress;

/// The most places of a table that are worked out.
const MAX_PLACES: u32 = 1 << 20;

/// Form of a table: only tables of one form can be compared place by place.
type Form = (u32, bool);

/// What a director tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told<'a> {
    /// Its tables.
    pub(crate) tables: &'a Tables,
    /// True if it knows which servers are up now: it answers.
    pub(crate) is_current: bool,
}

/// What all directors tell of one service.
#[derive(Debug, Default)]
struct Merged {
    servers: BTreeMap<SocketAddr, MacAddress>,
    /// By form and content.
    generations: BTreeMap<(Form, BTreeMap<SocketAddr, u32>), Age>,
}

/// The age of a table.
#[derive(Debug, Clone, Copy)]
struct Age {
    /// The time from which on it was last in force, in milliseconds since 1970, by the clock of
    /// the director that says the latest.
    since_ms: u64,
    /// Number of tables that a director had after it; the least of all directors.
    rank: usize,
}

/// The hops of packets that reach the server with the MAC address `own`, by service, as
/// `directors` tell: all of them which tables there were, and those that are current which
/// servers are up.
pub(crate) fn hops<'a>(
    own: MacAddress,
    directors: impl IntoIterator<Item = Told<'a>>,
) -> Vec<ServiceHops> {
    let mut services: BTreeMap<SocketAddr, Merged> = BTreeMap::new();
    for Told { tables, is_current } in directors {
        for service in tables.services.iter().filter(|service| is_sound(service)) {
            let merged = services.entry(service.address).or_default();
            merged.merge(service, is_current);
        }
    }
    let hops = services
        .into_iter()
        .filter_map(|(address, merged)| merged.hops(own, address));
    hops.collect()
}

/// True if tables can be made of what a director tells.
fn is_sound(service: &ServiceTables) -> bool {
    (3..=MAX_PLACES).contains(&service.places) && is_prime(service.places)
}

impl Merged {
    fn merge(&mut self, service: &ServiceTables, is_current: bool) {
        if is_current {
            let servers = service.servers.iter();
            self.servers
                .extend(servers.map(|server| (server.address, server.mac)));
        }
        let form = (service.places, service.hash_port);
        let generations = service.generations.iter().take(MAX_GENERATIONS);
        for (rank, generation) in generations.enumerate() {
            let key = (form, generation.weights.clone());
            let since_ms = generation.since_ms;
            let age = self
                .generations
                .entry(key)
                .or_insert(Age { since_ms, rank });
            age.since_ms = since_ms.max(age.since_ms);
            age.rank = rank.min(age.rank);
        }
    }

    /// The hops of the service; `None` if it has no table.
    fn hops(self, own: MacAddress, address: SocketAddr) -> Option<ServiceHops> {
        let mut generations: Vec<_> = self.generations.into_iter().collect();
        generations.sort_by_cached_key(|(content, age)| (Reverse(age.since_ms), content.clone()));
        let ((form, _), _) = generations.first()?;
        let (places, hash_port) = *form;
        generations.retain(|((of, _), _)| *of == (places, hash_port));
        let mut generations: Vec<_> = generations.into_iter().enumerate().collect();
        // Each director has its part of the places, also if the clock of another is ahead.
        generations.sort_by_key(|(position, (_, age))| (age.rank, *position));
        generations.truncate(MAX_GENERATIONS);
        generations.sort_by_key(|(position, _)| *position);
        let generations = generations.into_iter().map(|(_, generation)| generation);
        let mut orders: Vec<Vec<Hop>> = vec![Vec::new(); places as usize];
        for (generation, ((_, weights), _)) in generations.enumerate() {
            let weights: Vec<_> = weights.into_iter().collect();
            let macs: Vec<_> = weights
                .iter()
                .map(|(server, _)| self.servers.get(server).copied())
                .collect();
            let table = maglev_table(&weights, places);
            for (order, server) in orders.iter_mut().zip(table) {
                // One that is down has no connections.
                let Some(server) = macs[server as usize] else {
                    continue;
                };
                if order.iter().all(|hop| hop.server != server) {
                    order.push(Hop {
                        server,
                        generation: generation as u32,
                    });
                }
            }
        }
        Some(ServiceHops {
            address,
            hash_port,
            places: orders.iter().map(|order| next(own, order)).collect(),
        })
    }
}

/// The servers that follow `own` in an order.
fn next(own: MacAddress, order: &[Hop]) -> NextHops {
    let position = order.iter().position(|hop| hop.server == own);
    NextHops {
        from_director: order.iter().find(|hop| hop.server != own).copied(),
        from_server: position.and_then(|position| order.get(position + 1).copied()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use lb_model::{Generation, TableServer};

    use super::*;

    fn server(number: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, number], 1935))
    }

    fn mac(number: u8) -> MacAddress {
        MacAddress([2, 0, 0, 0, 0, number])
    }

    /// A director that had these tables, the newest first, and of which these servers are
    /// up.
    fn director(up: &[u8], generations: &[(u64, &[u8])]) -> Tables {
        let servers = up.iter().map(|number| TableServer {
            address: server(*number),
            mac: mac(*number),
        });
        let generations = generations.iter().map(|(since_ms, servers)| Generation {
            since_ms: *since_ms,
            weights: servers.iter().map(|number| (server(*number), 1)).collect(),
        });
        Tables {
            version: 1,
            services: vec![ServiceTables {
                address: SocketAddr::from(([10, 0, 0, 200], 1935)),
                places: 251,
                hash_port: false,
                servers: servers.collect(),
                generations: generations.collect(),
            }],
        }
    }

    /// What a director tells that answers.
    fn current(tables: &Tables) -> Told<'_> {
        let is_current = true;
        Told { tables, is_current }
    }

    /// The way of a packet through the servers, from that which it reaches first.
    fn way(directors: &[Tables], place: usize, first: u8) -> Vec<u8> {
        let mut way = vec![first];
        let mut comes_from_director = true;
        loop {
            let own = mac(*way.last().expect("it has begun"));
            let hops = &hops(own, directors.iter().map(current))[0].places[place];
            let next = if comes_from_director {
                hops.from_director
            } else {
                hops.from_server
            };
            let Some(Hop { server, .. }) = next else {
                return way;
            };
            way.push(server.0[5]);
            comes_from_director = false;
            assert!(way.len() < 20, "it goes round in circles: {way:?}");
        }
    }

    /// The server that a table of `servers` names.
    fn named(servers: &[u8], place: usize) -> u8 {
        let weights: Vec<_> = servers.iter().map(|number| (server(*number), 1)).collect();
        servers[maglev_table(&weights, 251)[place] as usize]
    }

    #[test]
    fn a_packet_reaches_the_server_that_an_earlier_table_named_wherever_it_begins() {
        let told = [director(
            &[1, 2, 3, 4],
            &[(30, &[1, 2, 3, 4]), (20, &[1, 2, 3]), (10, &[2, 3])],
        )];
        for place in 0..251 {
            let had_it = [
                named(&[1, 2, 3, 4], place),
                named(&[1, 2, 3], place),
                named(&[2, 3], place),
            ];
            for first in [1, 2, 3, 4] {
                let way = way(&told, place, first);
                assert!(
                    had_it.iter().all(|server| way.contains(server)),
                    "place {place}: {way:?} misses one of {had_it:?}"
                );
            }
            let direct = way(&told, place, had_it[0]);
            let mut seen = direct.clone();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), direct.len(), "each server once: {direct:?}");
        }
    }

    #[test]
    fn servers_that_are_down_are_left_out() {
        let told = [director(&[1, 3], &[(20, &[1, 3]), (10, &[1, 2, 3])])];
        for place in 0..251 {
            for first in [1, 3] {
                assert!(!way(&told, place, first).contains(&2));
            }
        }
    }

    #[test]
    fn of_a_director_that_does_not_answer_only_the_tables_count() {
        let dead = director(&[1, 2, 3], &[(20, &[1, 2, 3]), (10, &[2, 3])]);
        let alive = director(&[1, 3], &[(30, &[1, 3])]);
        let told = |is_current| Told {
            tables: &dead,
            is_current,
        };
        let targets = |dead| -> BTreeSet<u8> {
            let hops = hops(mac(1), [dead, current(&alive)]);
            let places = hops[0].places.iter();
            let targets = places.filter_map(|it| it.from_director);
            targets.map(|hop| hop.server.0[5]).collect()
        };
        assert_eq!(targets(told(true)), BTreeSet::from([2, 3]));
        assert_eq!(targets(told(false)), BTreeSet::from([3]));
        // The earlier table of the dead one finds connections that the newest does not.
        let alone = hops(mac(1), [current(&alive)]);
        assert_ne!(hops(mac(1), [told(false), current(&alive)]), alone);
    }

    #[test]
    fn a_director_whose_clock_is_ahead_takes_no_others_places() {
        // Each with tables of its own, as by loads.
        let many = |first_ms: u64, heavy: u8| {
            let mut director = director(&[1, 2, 3], &[]);
            let generations = (0..MAX_GENERATIONS as u32).map(|number| Generation {
                since_ms: first_ms - u64::from(number),
                weights: [1, 2, 3]
                    .map(|it| (server(it), if it == heavy { 50 + number } else { 7 }))
                    .into(),
            });
            director.services[0].generations = generations.collect();
            director
        };
        let (ahead, right) = (many(1_000_000, 1), many(1_000, 2));
        let newest = &right.services[0].generations[0].weights;
        let newest: Vec<_> = newest.iter().map(|(it, weight)| (*it, *weight)).collect();
        let told = [ahead, right.clone()];
        for (place, server) in maglev_table(&newest, 251).into_iter().enumerate() {
            let server = server as u8 + 1;
            assert!(way(&told, place, 1).contains(&server), "place {place}");
        }
    }

    #[test]
    fn all_directors_count_and_their_order_makes_no_difference() {
        let old = director(&[1, 2], &[(20, &[1, 2]), (5, &[2])]);
        let new = director(&[1, 2, 3], &[(31, &[1, 2, 3]), (19, &[1, 2])]);
        for number in [1, 2, 3] {
            let (one, other) = (
                hops(mac(number), [&old, &new].map(current)),
                hops(mac(number), [&new, &old].map(current)),
            );
            assert_eq!(one, other);
            let newest = named(&[1, 2, 3], 7);
            if number != newest {
                let first = one[0].places[7].from_director.expect("somebody is next");
                assert_eq!((first.server, first.generation), (mac(newest), 0));
            }
        }
    }

    #[test]
    fn a_single_table_leaves_nobody_to_ask() {
        let told = [director(&[1, 2], &[(20, &[1, 2])])];
        for place in 0..251 {
            let owner = named(&[1, 2], place);
            assert_eq!(way(&told, place, owner), [owner]);
        }
    }

    #[test]
    fn what_makes_no_table_is_left_out() {
        let mut told = director(&[1], &[(20, &[1])]);
        told.services[0].places = 250;
        assert_eq!(hops(mac(1), [current(&told)]), []);
        assert_eq!(hops(mac(1), [current(&director(&[1], &[]))]), []);
        let empty = director(&[1], &[(20, &[])]);
        let places = &hops(mac(1), [current(&empty)])[0].places;
        assert!(places.iter().all(|place| *place == NextHops::default()));
    }
}
