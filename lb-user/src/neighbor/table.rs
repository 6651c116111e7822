//! Links, routes and neighbours as the kernel has reported them, and the
//! Ethernet hop that follows from it. No netlink here.

use net_types::MacAddress;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::hop::{Hop, Path};
use ::netlink::link::{Link, VlanLink};
use lb_model::{NextHop, Vlan};

/// A neighbour: the index of the interface that it is on, and its address.
pub(super) type Key = (u32, IpAddr);

/// The answer to a route look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// Leaves by an interface.
    Via {
        /// Index of the interface.
        interface_index: u32,
        /// Whose MAC address frames carry: the gateway's, or the address itself.
        neighbor: IpAddr,
        /// Our address on the way.
        source: IpAddr,
        /// The largest packet by the route, in bytes; without it the
        /// interface decides.
        mtu: Option<u32>,
    },
    /// The address is one of this machine's.
    Local {
        /// Index of the interface that has it, if one with a MAC address does.
        interface_index: Option<u32>,
    },
    /// There is none, for this reason.
    None(String),
}

/// The state of an entry of the kernel's neighbour table, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Neighbor {
    /// The MAC address is known.
    Known(MacAddress),
    /// The MAC address is known and was given by an administrator, or cannot be
    /// asked for: the kernel never asks.
    Fixed(MacAddress),
    /// The neighbour was asked and does not answer.
    Failed,
    /// The neighbour is being asked.
    Incomplete,
}

/// The kernel's tables as far as they concern the addresses in question.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Links by index.
    pub links: HashMap<u32, Link>,
    /// Neighbours.
    pub neighbors: HashMap<Key, Neighbor>,
    /// MAC addresses that the configuration names, by destination.
    pub named: HashMap<IpAddr, MacAddress>,
    /// Routes by destination.
    pub routes: HashMap<IpAddr, Route>,
    /// The neighbours that default routes lead to.
    pub gateways: HashSet<Key>,
}

impl Table {
    /// The hop towards `address`.
    pub(super) fn hop(&self, address: IpAddr) -> Hop {
        let (interface_index, neighbor, ours, mtu) = match self.routes.get(&address) {
            None => return Hop::pending("the route is being looked up"),
            Some(Route::None(reason)) => return Hop::none(reason),
            Some(Route::Local { interface_index }) => return self.local_hop(*interface_index),
            Some(Route::Via {
                interface_index,
                neighbor,
                source,
                mtu,
            }) => (*interface_index, *neighbor, *source, *mtu),
        };
        let Some(link) = self.links.get(&interface_index) else {
            return Hop::none(format!("its interface (index {interface_index}) is gone"));
        };
        let name = &link.name;
        if !link.running {
            return Hop::none(down(name));
        }
        let Some(source) = link.mac else {
            return Hop::none(format!(
                "{name} has no MAC address: frames to servers need one"
            ));
        };
        let (interface_index_below, vlan) = match self.tags(link) {
            Ok(way) => way,
            Err(reason) => return Hop::none(reason),
        };
        let named = self.named.get(&address).map(|mac| Neighbor::Fixed(*mac));
        let seen = self.neighbors.get(&(interface_index, neighbor)).copied();
        match named.or(seen) {
            Some(Neighbor::Known(it) | Neighbor::Fixed(it)) if it == source => Hop::none(format!(
                "{neighbor} has the MAC address of {name} itself: frames to it go nowhere"
            )),
            Some(Neighbor::Known(destination) | Neighbor::Fixed(destination)) => Hop::Ready {
                next_hop: NextHop {
                    interface_index: interface_index_below,
                    source,
                    destination,
                    vlan,
                    is_router: neighbor != address || self.is_gateway(destination),
                },
                interface: name.clone(),
                path: Some(Path {
                    source: ours,
                    mtu: u16::try_from(mtu.unwrap_or(link.mtu)).unwrap_or(u16::MAX),
                }),
            },
            Some(Neighbor::Failed) => Hop::none(format!(
                "{neighbor} does not answer for its MAC address on {name}"
            )),
            Some(Neighbor::Incomplete) | None => Hop::pending(format!(
                "{neighbor} is being asked for its MAC address on {name}"
            )),
        }
    }

    /// The hop to this machine itself, which its own stack reaches whether or not a link is up.
    fn local_hop(&self, interface_index: Option<u32>) -> Hop {
        const LOOPBACK: u32 = 1;
        let link = interface_index.and_then(|index| self.links.get(&index));
        let (index, mac, name) = match link {
            Some(Link {
                index,
                mac: Some(mac),
                name,
                ..
            }) => (*index, *mac, name.clone()),
            _ => (LOOPBACK, MacAddress([0; 6]), "lo".to_owned()),
        };
        Hop::Ready {
            next_hop: NextHop::local(index, mac),
            interface: name,
            path: None,
        }
    }

    /// True if a default route leads to the neighbour with this MAC address.
    fn is_gateway(&self, mac: MacAddress) -> bool {
        let mut gateways = self.gateways.iter();
        gateways.any(|key| match self.neighbors.get(key) {
            Some(Neighbor::Known(known) | Neighbor::Fixed(known)) => *known == mac,
            Some(Neighbor::Failed | Neighbor::Incomplete) | None => false,
        })
    }

    /// The interface that frames of `link` really leave by, and their tags.
    fn tags(&self, link: &Link) -> Result<(u32, Vlan), String> {
        let Some(inner) = link.vlan else {
            return Ok((link.index, Vlan::Untagged));
        };
        let below = |vlan: VlanLink, name: &str| {
            let below = self.links.get(&vlan.lower);
            let below = below
                .ok_or_else(|| format!("the interface below {name} is not in this namespace"))?;
            // A VLAN interface may be told to keep its own state (`loose_binding`).
            match below.running {
                true => Ok(below),
                false => Err(down(&below.name)),
            }
        };
        let lower = below(inner, &link.name)?;
        let unserved = |what: &str| {
            Err(format!(
                "{} {what}; expected one 802.1Q tag, or one within an 802.1ad tag",
                link.name
            ))
        };
        match lower.vlan {
            _ if inner.is_provider => unserved("adds an 802.1ad tag next to the packet"),
            None => Ok((lower.index, Vlan::Tagged(inner.number))),
            Some(outer) if !outer.is_provider => unserved("lies within another 802.1Q VLAN"),
            Some(outer) => {
                let lowest = below(outer, &lower.name)?;
                if lowest.vlan.is_some() {
                    return unserved("adds more than two tags");
                }
                Ok((lowest.index, Vlan::Stacked(outer.number, inner.number)))
            }
        }
    }

    /// Takes what the kernel says of a neighbour; false if that is no news.
    ///
    /// That it is being asked says nothing: what was known stays good, and what
    /// failed stays so, until there is an answer.
    pub(super) fn note_neighbor(&mut self, key: Key, neighbor: Neighbor) -> bool {
        if neighbor == Neighbor::Incomplete && self.neighbors.contains_key(&key) {
            return false;
        }
        self.neighbors.insert(key, neighbor) != Some(neighbor)
    }

    /// The neighbour to probe so that `address` becomes or stays reachable.
    pub(super) fn probe_target(&self, address: IpAddr) -> Option<Key> {
        if self.named.contains_key(&address) {
            return None;
        }
        match self.routes.get(&address)? {
            Route::Via {
                interface_index,
                neighbor,
                ..
            } => {
                let link = self.links.get(interface_index)?;
                (link.running && link.mac.is_some()).then_some((*interface_index, *neighbor))
            }
            Route::Local { .. } | Route::None(_) => None,
        }
    }
}

fn down(interface: &str) -> String {
    format!("{interface} is down or has no carrier")
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
