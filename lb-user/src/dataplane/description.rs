//! From the desired state to the contents of a half of the description maps.

use std::net::{IpAddr, SocketAddr};

use lb_common::{
    Address, DirectoryEntry, Geometry, Half, MAX_PROBES, Macs, SCHEDULE_ROUND_ROBIN, SERVER_ALIVE,
    SERVER_QUIESCENT, SERVICE_PERSISTENT, Server, TCP, Timeouts, UDP, directory_home,
};

use super::registry::{Registry, ServerRecord, ServiceRecord, is_eligible, key_of};
use super::state::{DesiredState, Protocol, RealServer, Scheduler, Service};
use super::{Error, TableSizes};

/// Contents of one half.
#[derive(Debug, PartialEq, Eq)]
pub struct Description {
    /// What holds for the whole half.
    pub half: Half,
    /// Where services are found.
    pub directory: Vec<DirectoryEntry>,
    /// By service number.
    pub services: Vec<lb_common::Service>,
    /// By slot.
    pub servers: Vec<Server>,
    /// All rings, one after the other; no longer than needed.
    pub rings: Vec<u32>,
}

/// How large the halves are for tables of `sizes`.
pub fn geometry(sizes: &TableSizes) -> Geometry {
    Geometry {
        // At most a quarter full, so that a seed without long chains exists.
        directory_places: (sizes.services * 4).next_power_of_two(),
        services: sizes.services,
        servers: sizes.servers,
        ring_places: sizes.ring_places,
    }
}

impl Description {
    /// Describes `desired`, all of which has a place in `registry`.
    ///
    /// # Errors
    ///
    /// [`Error::TableFull`] when the rings do not fit.
    pub fn new(
        desired: &DesiredState,
        registry: &Registry,
        sizes: &TableSizes,
    ) -> Result<Self, Error> {
        let geometry = geometry(sizes);
        let mut description = Self {
            half: Half::default(),
            directory: Vec::new(),
            services: vec![lb_common::Service::default(); geometry.services as usize],
            servers: vec![Server::default(); geometry.servers as usize],
            rings: Vec::new(),
        };
        let mut entries = Vec::new();
        for service in &desired.services {
            let record = registry
                .service(&key_of(service))
                .expect("reconciled before");
            description.add(service, record);
            entries.push(directory_entry(service, record.number));
        }
        if description.rings.len() > geometry.ring_places as usize {
            return Err(Error::TableFull {
                what: "places in scheduling rings",
                wanted: description.rings.len(),
                limit: geometry.ring_places as usize,
                option: "ring_places",
            });
        }
        let (seed, directory) = directory(&entries, geometry.directory_places);
        description.half = Half {
            directory_seed: seed,
            timeouts: Timeouts::IPVS,
        };
        description.directory = directory;
        Ok(description)
    }

    fn add(&mut self, service: &Service, record: &ServiceRecord) {
        for server in &service.servers {
            let known = &record.servers[&server.address];
            self.servers[known.slot as usize] = server_value(server, known);
        }
        let ring = ring(service, record);
        let (flags, persistence_ns, persistence_mask) = match service.persistence {
            None => (0, 0, Address::default()),
            Some(persistence) => (
                SERVICE_PERSISTENT,
                persistence.timeout.as_nanos() as u64,
                Address::mask(service.address.ip(), persistence.prefix_length),
            ),
        };
        self.services[usize::from(record.number)] = lb_common::Service {
            flags,
            schedule: match service.scheduler {
                Scheduler::Rr => SCHEDULE_ROUND_ROBIN,
            },
            ring_offset: self.rings.len() as u32,
            ring_length: ring.len() as u32,
            persistence_ns,
            persistence_mask,
        };
        self.rings.extend(ring);
    }
}

fn server_value(server: &RealServer, known: &ServerRecord) -> Server {
    let mut flags = 0;
    if known.is_reachable() {
        flags |= SERVER_ALIVE;
    }
    if server.weight == 0 {
        flags |= SERVER_QUIESCENT;
    }
    let hop = known.next_hop;
    Server {
        generation: known.generation,
        flags,
        interface_index: hop.map_or(0, |hop| hop.interface_index),
        macs: hop.map_or(Macs::default(), |hop| Macs {
            destination: hop.destination.into(),
            source: hop.source.into(),
        }),
    }
}

/// The order in which servers take their turns.
fn ring(service: &Service, record: &ServiceRecord) -> Vec<u32> {
    let eligible = service.servers.iter().filter(|server| is_eligible(server));
    match service.scheduler {
        Scheduler::Rr => eligible
            .map(|server| record.servers[&server.address].slot)
            .collect(),
    }
}

fn directory_entry(service: &Service, number: u16) -> DirectoryEntry {
    DirectoryEntry {
        address: canonical(service.address).into(),
        port: service.address.port().to_be(),
        protocol: match service.protocol {
            Protocol::Tcp => TCP,
            Protocol::Udp => UDP,
        },
        reserved: 0,
        service: number.into(),
    }
}

fn canonical(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

/// Places `entries` so that none lies more than [`MAX_PROBES`] places behind
/// its home, and says with which seed that was possible.
fn directory(entries: &[DirectoryEntry], places: u32) -> (u64, Vec<DirectoryEntry>) {
    (0..)
        .find_map(|attempt: u64| {
            // Consecutive seeds would differ in a few bits only.
            let seed = attempt.wrapping_mul(0xD6E8_FEB8_6659_FD93);
            place_all(entries, places, seed).map(|directory| (seed, directory))
        })
        .expect("in a directory at most a quarter full almost every seed does")
}

fn place_all(entries: &[DirectoryEntry], places: u32, seed: u64) -> Option<Vec<DirectoryEntry>> {
    let mut directory = vec![DirectoryEntry::default(); places as usize];
    for entry in entries {
        let home = directory_home(seed, places, &entry.address, entry.port, entry.protocol);
        let place = (0..MAX_PROBES)
            .map(|probe| ((home + probe) & (places - 1)) as usize)
            .find(|place| directory[*place].protocol == 0)?;
        directory[place] = *entry;
    }
    Some(directory)
}
