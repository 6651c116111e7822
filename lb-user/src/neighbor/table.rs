//! What the kernel has said about links, routes and neighbours, and the
//! Ethernet hop that follows from it. No netlink here.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::dataplane::state::{NextHop, Vlan};
use crate::netlink::link::{Link, Mac};

/// How frames reach an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hop {
    /// By this hop.
    Ready {
        /// The Ethernet hop.
        next_hop: NextHop,
        /// Name of the interface that frames leave by.
        interface: String,
    },
    /// Not at all, for this reason.
    NotReady(String),
}

/// The answer to a route look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Leaves by an interface.
    Via {
        /// Index of the interface.
        interface_index: u32,
        /// Whose MAC address frames carry: the gateway's, or the address itself.
        neighbor: IpAddr,
    },
    /// The address is one of this machine's.
    Local,
    /// There is none, for this reason.
    None(String),
}

/// The state of an entry of the kernel's neighbour table, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbor {
    /// The MAC address is known.
    Known(Mac),
    /// The MAC address is known and was given by an administrator, or cannot be
    /// asked for: the kernel never asks.
    Fixed(Mac),
    /// The neighbour was asked and does not answer.
    Failed,
    /// The neighbour is being asked.
    Asking,
}

/// The kernel's tables as far as they concern the addresses in question.
#[derive(Debug, Default)]
pub struct Table {
    /// Links by index.
    pub links: HashMap<u32, Link>,
    /// Neighbours by interface index and address.
    pub neighbors: HashMap<(u32, IpAddr), Neighbor>,
    /// MAC addresses that the configuration names, by destination.
    pub named: HashMap<IpAddr, Mac>,
    /// Routes by destination.
    pub routes: HashMap<IpAddr, Route>,
}

impl Table {
    /// The hop towards `address`.
    pub fn hop(&self, address: IpAddr) -> Hop {
        let (interface_index, neighbor) = match self.routes.get(&address) {
            None => return Hop::NotReady("the route is being looked up".to_owned()),
            Some(Route::None(reason)) => return Hop::NotReady(reason.clone()),
            Some(Route::Local) => {
                return Hop::NotReady(format!("{address} is an address of this machine"));
            }
            Some(Route::Via {
                interface_index,
                neighbor,
            }) => (*interface_index, *neighbor),
        };
        let Some(link) = self.links.get(&interface_index) else {
            return Hop::NotReady(format!("its interface (index {interface_index}) is gone"));
        };
        let name = &link.name;
        if !link.running {
            return Hop::NotReady(format!("{name} is down or has no carrier"));
        }
        let Some(source) = link.mac else {
            return Hop::NotReady(format!(
                "{name} has no MAC address: direct routing needs one"
            ));
        };
        let named = self.named.get(&address).map(|mac| Neighbor::Fixed(*mac));
        let seen = self.neighbors.get(&(interface_index, neighbor)).copied();
        match named.or(seen) {
            Some(Neighbor::Known(destination) | Neighbor::Fixed(destination)) => Hop::Ready {
                next_hop: NextHop {
                    interface_index,
                    source,
                    destination,
                    vlan: Vlan::Untagged,
                },
                interface: name.clone(),
            },
            Some(Neighbor::Failed) => Hop::NotReady(format!(
                "{neighbor} does not answer for its MAC address on {name}"
            )),
            Some(Neighbor::Asking) | None => Hop::NotReady(format!(
                "{neighbor} is being asked for its MAC address on {name}"
            )),
        }
    }

    /// Takes what the kernel says of a neighbour; false if that is no news.
    ///
    /// That it is being asked says nothing: what was known stays good, and what
    /// failed stays so, until there is an answer.
    pub fn note_neighbor(&mut self, key: (u32, IpAddr), neighbor: Neighbor) -> bool {
        if neighbor == Neighbor::Asking && self.neighbors.contains_key(&key) {
            return false;
        }
        self.neighbors.insert(key, neighbor) != Some(neighbor)
    }

    /// Whom to ask so that `address` becomes or stays reachable.
    pub fn whom_to_ask(&self, address: IpAddr) -> Option<(u32, IpAddr)> {
        if self.named.contains_key(&address) {
            return None;
        }
        match self.routes.get(&address)? {
            Route::Via {
                interface_index,
                neighbor,
            } => {
                let link = self.links.get(interface_index)?;
                (link.running && link.mac.is_some()).then_some((*interface_index, *neighbor))
            }
            Route::Local | Route::None(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Mac = [2, 0, 0, 0, 0, 1];
    const THEIRS: Mac = [2, 0, 0, 0, 0, 2];

    fn server() -> IpAddr {
        "172.16.1.211".parse().expect("an address")
    }

    fn gateway() -> IpAddr {
        "172.16.1.1".parse().expect("an address")
    }

    fn table(neighbor: IpAddr, entry: Option<Neighbor>) -> Table {
        let mut table = Table::default();
        let link = Link {
            index: 2,
            name: "eth2".to_owned(),
            mac: Some(OURS),
            running: true,
        };
        table.links.insert(2, link);
        table.routes.insert(
            server(),
            Route::Via {
                interface_index: 2,
                neighbor,
            },
        );
        if let Some(entry) = entry {
            table.neighbors.insert((2, neighbor), entry);
        }
        table
    }

    fn reason(table: &Table) -> String {
        match table.hop(server()) {
            Hop::NotReady(reason) => reason,
            ready => panic!("expected a reason, got {ready:?}"),
        }
    }

    #[test]
    fn a_known_neighbour_is_the_hop_and_the_interface_its_source() {
        for neighbor in [server(), gateway()] {
            let table = table(neighbor, Some(Neighbor::Known(THEIRS)));
            let next_hop = NextHop {
                interface_index: 2,
                source: OURS,
                destination: THEIRS,
                vlan: Vlan::Untagged,
            };
            let expected = Hop::Ready {
                next_hop,
                interface: "eth2".to_owned(),
            };
            assert_eq!(table.hop(server()), expected);
            assert_eq!(table.whom_to_ask(server()), Some((2, neighbor)));
        }
    }

    #[test]
    fn a_named_mac_address_is_the_hop_whatever_the_neighbour_answers() {
        const NAMED: Mac = [2, 0, 0, 0, 0, 9];
        for entry in [None, Some(Neighbor::Failed), Some(Neighbor::Known(THEIRS))] {
            let mut table = table(server(), entry);
            table.named.insert(server(), NAMED);
            assert!(
                matches!(table.hop(server()), Hop::Ready { next_hop, .. }
                    if next_hop.destination == NAMED && next_hop.source == OURS),
                "{:?}",
                table.hop(server())
            );
            assert_eq!(table.whom_to_ask(server()), None);
            table.links.get_mut(&2).expect("the link").running = false;
            assert_eq!(reason(&table), "eth2 is down or has no carrier");
        }
    }

    #[test]
    fn being_asked_changes_nothing_until_there_is_an_answer() {
        for known in [Neighbor::Known(THEIRS), Neighbor::Failed] {
            let mut table = table(server(), Some(known));
            let before = table.hop(server());
            assert!(!table.note_neighbor((2, server()), Neighbor::Asking));
            assert_eq!(table.hop(server()), before);
        }
        let mut table = table(server(), Some(Neighbor::Failed));
        assert!(table.note_neighbor((2, server()), Neighbor::Known(THEIRS)));
        assert!(matches!(table.hop(server()), Hop::Ready { .. }));
        assert!(
            !table.note_neighbor((2, server()), Neighbor::Known(THEIRS)),
            "no news"
        );
    }

    #[test]
    fn a_server_that_is_not_ready_has_a_reason() {
        assert_eq!(
            reason(&table(server(), None)),
            "172.16.1.211 is being asked for its MAC address on eth2"
        );
        assert_eq!(
            reason(&table(gateway(), Some(Neighbor::Failed))),
            "172.16.1.1 does not answer for its MAC address on eth2"
        );

        let mut down = table(server(), Some(Neighbor::Known(THEIRS)));
        down.links.get_mut(&2).expect("the link").running = false;
        assert_eq!(reason(&down), "eth2 is down or has no carrier");
        assert_eq!(down.whom_to_ask(server()), None, "nobody hears a question");

        let mut tunnel = table(server(), None);
        tunnel.links.get_mut(&2).expect("the link").mac = None;
        assert_eq!(
            reason(&tunnel),
            "eth2 has no MAC address: direct routing needs one"
        );

        let mut gone = table(server(), Some(Neighbor::Known(THEIRS)));
        gone.links.clear();
        assert_eq!(reason(&gone), "its interface (index 2) is gone");

        let mut local = Table::default();
        assert_eq!(reason(&local), "the route is being looked up");
        local.routes.insert(server(), Route::Local);
        assert_eq!(reason(&local), "172.16.1.211 is an address of this machine");
        local
            .routes
            .insert(server(), Route::None("there is no route to it".to_owned()));
        assert_eq!(reason(&local), "there is no route to it");
    }
}
