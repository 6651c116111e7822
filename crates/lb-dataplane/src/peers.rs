//! MAC addresses of real servers, as the packet path looks them up: a packet from one
//! has been balanced already, by a director on that host.

use std::collections::BTreeSet;

use aya::Ebpf;
use aya::maps::{HashMap, MapData, MapError};
use lb_abi::{Address, Mac, PeerFilter, PeerKey, maps};

use super::error::Error;
use super::map_io::{read, take, write};
use super::registry::{Registry, ServerRecord};
use lb_model::Forwarding;

/// The real servers that clients' packets never come from. Such a packet comes from
/// the director beside the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peers {
    keys: BTreeSet<PeerKey>,
}

impl Peers {
    /// Of all services in `registry`.
    pub(crate) fn of(registry: &Registry) -> Self {
        let mut keys = BTreeSet::new();
        for service in registry.services().values() {
            let number = u32::from(service.number);
            for (address, server) in &service.servers {
                let Some(mac) = own_mac(server) else {
                    continue;
                };
                let own = address.ip().to_canonical().into();
                keys.insert(PeerKey::new(number, mac, Address::default()));
                keys.insert(PeerKey::new(number, mac, own));
            }
        }
        Self { keys }
    }

    /// The filter that the packet path asks first.
    pub(crate) fn filter(&self) -> PeerFilter {
        let mut filter = PeerFilter::EMPTY;
        for key in &self.keys {
            filter.insert(key.mac);
        }
        filter
    }
}

/// The MAC address of a server that has the service's address itself, if it is one
/// from which no other packets come.
fn own_mac(server: &ServerRecord) -> Option<Mac> {
    let hop = server.next_hop?;
    let is_another_host = hop.destination != hop.source;
    (server.forwarding == Forwarding::Direct && !hop.is_router && is_another_host)
        .then(|| hop.destination.0.into())
}

/// Number of keys that there may be for `servers`: two each, before and after a change.
pub(crate) const fn max_keys(servers: u32) -> u32 {
    servers.saturating_mul(4)
}

/// The map of peers.
pub(crate) struct PeerMap {
    map: HashMap<MapData, PeerKey, u32>,
    /// The keys in the map, once they have been read.
    present: Option<BTreeSet<PeerKey>>,
}

impl PeerMap {
    /// Takes the map out of a loaded object. `new`: the kernel has just made it.
    pub(crate) fn take(ebpf: &mut Ebpf, new: bool) -> Result<Self, Error> {
        Ok(Self {
            map: take(ebpf, maps::PEERS)?,
            present: new.then(BTreeSet::new),
        })
    }

    /// Enters the keys of `peers` that are new.
    pub(crate) fn add(&mut self, peers: &Peers) -> Result<(), Error> {
        let mut present = match self.present.take() {
            Some(present) => present,
            None => read(maps::PEERS, self.map.keys().collect())?,
        };
        for key in &peers.keys {
            if !present.contains(key) {
                write(maps::PEERS, self.map.insert(key, 0, 0))?;
                present.insert(*key);
            }
        }
        self.present = Some(present);
        Ok(())
    }

    /// Removes the keys that are not in `peers`, all of which have been
    /// [added](Self::add).
    pub(crate) fn remove_others(&mut self, peers: &Peers) -> Result<(), Error> {
        let Some(present) = &mut self.present else {
            return Ok(());
        };
        for key in present.difference(&peers.keys) {
            match self.map.remove(key) {
                Err(MapError::KeyNotFound) => {}
                result => write(maps::PEERS, result)?,
            }
        }
        present.clone_from(&peers.keys);
        Ok(())
    }
}
