//! Whose frames have been balanced already, as the packet path looks it up.

use std::collections::BTreeSet;

use aya::Ebpf;
use aya::maps::{HashMap, MapData, MapError};
use lb_abi::{Address, Mac, PeerFilter, PeerKey, maps};

use super::Error;
use super::maps::{read, take, write};
use super::registry::{Registry, ServerRecord};
use lb_model::Forwarding;

/// The real servers that clients' packets never come from. Such a packet comes from
/// the director beside the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peers {
    keys: BTreeSet<PeerKey>,
}

impl Peers {
    /// Of all services in `registry`.
    pub fn of(registry: &Registry) -> Self {
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

    /// What the packet path looks at first.
    pub fn filter(&self) -> PeerFilter {
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

/// How many keys there may be for `servers`: two each, before and after a change.
pub const fn max_keys(servers: u32) -> u32 {
    servers.saturating_mul(4)
}

/// The map that they are in.
pub struct PeerMap {
    map: HashMap<MapData, PeerKey, u32>,
    /// What is there, once that is known.
    present: Option<BTreeSet<PeerKey>>,
}

impl PeerMap {
    /// Takes the map out of a loaded object. `new`: the kernel has just made it.
    pub fn take(ebpf: &mut Ebpf, new: bool) -> Result<Self, Error> {
        Ok(Self {
            map: take(ebpf, maps::PEERS)?,
            present: new.then(BTreeSet::new),
        })
    }

    /// Enters whoever is new in `peers`.
    pub fn add(&mut self, peers: &Peers) -> Result<(), Error> {
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

    /// Removes whoever is not in `peers`, to whom all have been [added](Self::add).
    pub fn remove_others(&mut self, peers: &Peers) -> Result<(), Error> {
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
