//! Registry: numbers of services, slots and generations of real servers.
//!
//! Connections in the kernel name their server by slot and generation. A slot stays with
//! a server for as long as it is part of the service; its generation is raised when the
//! server's connections and templates must become void: when it is removed, and when it
//! dies.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use lb_abi::{MAX_SERVICES, ServerCounters};

use super::changes::{Changes, RemovedServer};
use super::error::Error;
use super::options::TableSizes;
use super::traffic::Traffic;
use lb_model::{DesiredState, Forwarding, NextHop, OrphanPolicy, RealServer, Service, ServiceKey};

/// All services and servers that have a place in the maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registry {
    services: BTreeMap<ServiceKey, ServiceRecord>,
    free_numbers: BTreeSet<u16>,
    free_slots: BTreeSet<u32>,
    /// The generation each slot's next owner gets.
    next_generations: Vec<u32>,
}

/// A service with a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceRecord {
    /// Its number in the maps.
    pub number: u16,
    /// Its servers, by address.
    pub servers: BTreeMap<SocketAddr, ServerRecord>,
    /// Policy for connections whose server is gone.
    pub orphans: OrphanPolicy,
    /// Traffic of servers that have left.
    pub retired: Traffic,
}

/// A real server with a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerRecord {
    /// Its slot in the maps.
    pub slot: u32,
    /// The slot's generation.
    pub generation: u32,
    /// The last next hop known, since a stale neighbour entry is no reason to abandon live
    /// connections.
    pub next_hop: Option<NextHop>,
    /// Its forwarding method by that hop.
    pub forwarding: Forwarding,
    /// True while its checks succeed.
    pub alive: bool,
    /// The slot's counters at the time when the server got it.
    pub baseline: ServerCounters,
}

impl ServerRecord {
    /// Returns true if packets of connections can be forwarded there.
    pub(crate) fn is_reachable(&self) -> bool {
        self.alive && self.next_hop.is_some()
    }

    /// Traffic since the server joined, given the slot's counters.
    pub(crate) fn traffic(&self, counters: ServerCounters) -> Traffic {
        Traffic {
            connections: counters
                .connections
                .saturating_sub(self.baseline.connections),
            packets_in: counters.packets.saturating_sub(self.baseline.packets),
            bytes_in: counters.bytes.saturating_sub(self.baseline.bytes),
        }
    }
}

impl Registry {
    /// An empty registry for tables of `sizes`.
    pub(crate) fn new(sizes: &TableSizes) -> Self {
        Self {
            services: BTreeMap::new(),
            free_numbers: (0..sizes.services.min(MAX_SERVICES))
                .map(|number| number as u16)
                .collect(),
            free_slots: (0..sizes.servers).collect(),
            next_generations: vec![FIRST_GENERATION; sizes.servers as usize],
        }
    }

    /// All services.
    pub(crate) fn services(&self) -> &BTreeMap<ServiceKey, ServiceRecord> {
        &self.services
    }

    /// The generation that each slot's next owner gets.
    pub(crate) fn next_generations(&self) -> &[u32] {
        &self.next_generations
    }

    /// Puts a service of an earlier agent, with its servers, where it was.
    pub(crate) fn restore(&mut self, key: ServiceKey, record: ServiceRecord) {
        self.free_numbers.remove(&record.number);
        for server in record.servers.values() {
            self.free_slots.remove(&server.slot);
        }
        self.services.insert(key, record);
    }

    /// Goes on counting the owners of a slot where an earlier agent stopped.
    pub(crate) fn restore_generation(&mut self, slot: u32, next: u32) {
        self.next_generations[slot as usize] = next.max(FIRST_GENERATION);
    }

    /// The record of a service.
    pub(crate) fn service(&self, key: &ServiceKey) -> Option<&ServiceRecord> {
        self.services.get(key)
    }

    /// Slot and generation of every server.
    pub(crate) fn owners(&self) -> impl Iterator<Item = (u32, u32)> {
        let servers = self
            .services
            .values()
            .flat_map(|service| service.servers.values());
        servers.map(|server| (server.slot, server.generation))
    }

    /// Gives places to the services and servers that are new in `desired`, and frees those
    /// of removed ones. `counters` reads those of a slot.
    ///
    /// # Errors
    ///
    /// [`Error::TableFull`], [`Error::DuplicateService`], and whatever `counters`
    /// reports, which may leave half of the changes behind.
    pub(crate) fn reconcile(
        &mut self,
        desired: &DesiredState,
        sizes: &TableSizes,
        counters: impl Fn(u32) -> Result<ServerCounters, Error>,
    ) -> Result<Changes, Error> {
        check(desired, sizes)?;
        let mut changes = Changes::default();
        self.release_removed(desired, &counters, &mut changes)?;
        for service in &desired.services {
            self.admit(service, &counters, &mut changes)?;
        }
        Ok(changes)
    }

    fn release_removed(
        &mut self,
        desired: &DesiredState,
        counters: &impl Fn(u32) -> Result<ServerCounters, Error>,
        changes: &mut Changes,
    ) -> Result<(), Error> {
        let wanted: BTreeMap<ServiceKey, &Service> = desired
            .services
            .iter()
            .map(|service| (service.key(), service))
            .collect();
        let mut released = Vec::new();
        for (key, record) in &mut self.services {
            // What is desired now counts, or what was before.
            if let Some(service) = wanted.get(key) {
                record.orphans = service.orphans;
            }
            let stays = |address: &SocketAddr| {
                wanted
                    .get(key)
                    .is_some_and(|service| service.servers.iter().any(|s| s.address == *address))
            };
            for (address, server) in record.servers.extract_if(.., |address, _| !stays(address)) {
                record.retired += server.traffic(counters(server.slot)?);
                released.push(server.slot);
                changes.servers_removed += 1;
                // One that was dead has been reported before.
                if server.alive {
                    let removed = removed_server(*key, record.orphans, address, &server);
                    changes.removed_servers.push(removed);
                }
            }
        }
        for slot in released {
            self.free_slots.insert(slot);
        }
        for (_, record) in self
            .services
            .extract_if(.., |key, _| !wanted.contains_key(key))
        {
            self.free_numbers.insert(record.number);
            changes.services_removed += 1;
        }
        Ok(())
    }

    fn admit(
        &mut self,
        service: &Service,
        counters: &impl Fn(u32) -> Result<ServerCounters, Error>,
        changes: &mut Changes,
    ) -> Result<(), Error> {
        let record = self.services.entry(service.key()).or_insert_with(|| {
            changes.services_added += 1;
            ServiceRecord {
                number: self
                    .free_numbers
                    .pop_first()
                    .expect("`check` has counted services"),
                servers: BTreeMap::new(),
                orphans: service.orphans,
                retired: Traffic::default(),
            }
        });
        for wanted in &service.servers {
            if let Some(known) = record.servers.get_mut(&wanted.address) {
                if known.alive && !wanted.alive {
                    let key = service.key();
                    let removed = removed_server(key, service.orphans, wanted.address, known);
                    changes.removed_servers.push(removed);
                    known.generation = take_generation(&mut self.next_generations, known.slot);
                }
                known.alive = wanted.alive;
                if wanted.next_hop.is_some() {
                    known.next_hop = wanted.next_hop;
                    known.forwarding = wanted.forwarding;
                }
            } else {
                let slot = self
                    .free_slots
                    .pop_first()
                    .expect("`check` has counted servers");
                let server = ServerRecord {
                    slot,
                    generation: take_generation(&mut self.next_generations, slot),
                    next_hop: wanted.next_hop,
                    forwarding: wanted.forwarding,
                    alive: wanted.alive,
                    baseline: counters(slot)?,
                };
                record.servers.insert(wanted.address, server);
                changes.servers_added += 1;
            }
        }
        Ok(())
    }
}

/// Returns true if `server` can be given new connections.
pub fn is_eligible(server: &RealServer) -> bool {
    server.alive && server.weight > 0 && server.next_hop.is_some()
}

fn removed_server(
    service: ServiceKey,
    orphans: OrphanPolicy,
    server: SocketAddr,
    record: &ServerRecord,
) -> RemovedServer {
    RemovedServer {
        protocol: service.protocol,
        service: service.address,
        server,
        orphans,
        id: (record.slot, record.generation),
    }
}

/// The generation of a slot's first owner; records of slots without one may have 0.
pub(crate) const FIRST_GENERATION: u32 = 1;

fn take_generation(next_generations: &mut [u32], slot: u32) -> u32 {
    let next = &mut next_generations[slot as usize];
    let taken = *next;
    *next = next.wrapping_add(1);
    taken
}

fn check(desired: &DesiredState, sizes: &TableSizes) -> Result<(), Error> {
    let full = |what, wanted, limit: u32, option| {
        if wanted > limit as usize {
            return Err(Error::TableFull {
                what,
                wanted,
                limit: limit as usize,
                option,
            });
        }
        Ok(())
    };
    let services = desired.services.len();
    let servers = desired
        .services
        .iter()
        .map(|service| service.servers.len())
        .sum();
    let most = sizes.services.min(MAX_SERVICES);
    full("virtual services", services, most, "services")?;
    full("real servers", servers, sizes.servers, "servers")?;
    let mut seen = BTreeSet::new();
    for service in &desired.services {
        if !seen.insert(service.key()) {
            return Err(Error::DuplicateService {
                protocol: service.protocol,
                address: service.address,
            });
        }
    }
    Ok(())
}
