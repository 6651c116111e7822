//! From the desired state to the contents of a half of the description maps.

use std::net::{IpAddr, SocketAddr};

use lb_common::{
    Address, DirectoryEntry, Geometry, Half, MAX_COMPARED, MAX_PROBES, Macs, SCHEDULE_HASH,
    SCHEDULE_LEAST_CONNECTIONS, SCHEDULE_ROUND_ROBIN, SERVER_ALIVE, SERVER_TUNNEL,
    SERVER_VOID_TEMPLATES, SERVICE_DROP_ORPHANS, SERVICE_HASH_PORT, SERVICE_PERSISTENT,
    SERVICE_RESCHEDULE_ORPHANS, SERVICE_RESET_ORPHANS, SERVICE_SLOPPY, Server, Timeouts,
    directory_home, mix,
};

use super::owners::{protocol_number, tags};
use super::registry::{Registry, ServerRecord, ServiceRecord, is_eligible, key_of};
use super::rings::{self, Candidate};
use super::state::{
    DesiredState, Forwarding, OrphanPolicy, Protocol, RealServer, Scheduler, Service,
};
use super::{Error, TableSizes};

/// Contents of one half.
#[derive(Debug, PartialEq, Eq)]
pub struct Description {
    /// What holds for the whole half.
    pub half: Half,
    /// Where services are found.
    pub directory: Vec<DirectoryEntry>,
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
            servers: vec![Server::default(); geometry.servers as usize],
            rings: Vec::new(),
        };
        let mut entries = Vec::new();
        for service in &desired.services {
            let record = registry
                .service(&key_of(service))
                .expect("reconciled before");
            let value = description.add(service, record, sizes)?;
            entries.push(directory_entry(service, record.number, value));
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
            timeouts: timeouts(&desired.timeouts),
        };
        description.directory = directory;
        Ok(description)
    }

    /// Lays out the servers and the ring of `service`, and says how the packet
    /// path treats it.
    fn add(
        &mut self,
        service: &Service,
        record: &ServiceRecord,
        sizes: &TableSizes,
    ) -> Result<lb_common::Service, Error> {
        for server in &service.servers {
            let known = &record.servers[&server.address];
            self.servers[known.slot as usize] = server_value(service, server, known);
        }
        let (schedule, ring) = schedule(service, record, sizes)?;
        let (persistence_ns, persistence_mask) =
            service
                .persistence
                .map_or((0, Address::default()), |persistence| {
                    (
                        persistence.timeout.as_nanos() as u64,
                        Address::mask(service.address.ip(), persistence.prefix_length),
                    )
                });
        let value = lb_common::Service {
            flags: flags(service),
            schedule,
            ring_offset: self.rings.len() as u32,
            ring_length: ring.len() as u32,
            persistence_ns,
            persistence_mask,
        };
        self.rings.extend(ring);
        Ok(value)
    }
}

/// The time-outs as the packet path reads them.
pub fn timeouts(timeouts: &super::state::Timeouts) -> Timeouts {
    let by_state = [
        timeouts.syn_received,
        timeouts.established,
        timeouts.fin_wait,
        timeouts.time_wait,
        timeouts.closed,
        timeouts.udp,
    ];
    Timeouts {
        by_state_ns: by_state.map(|timeout| timeout.as_nanos() as u64),
    }
}

fn server_value(service: &Service, server: &RealServer, known: &ServerRecord) -> Server {
    let mut value = Server {
        generation: known.generation,
        weight: server.weight,
        ..Server::default()
    };
    if known.is_reachable() {
        value.flags |= SERVER_ALIVE;
    }
    let expires = service.persistence.is_some_and(|p| p.expire_quiescent);
    if server.weight == 0 && (expires || !server.keeps_templates) {
        value.flags |= SERVER_VOID_TEMPLATES;
    }
    if let Some(hop) = known.next_hop {
        value.interface_index = hop.interface_index;
        value.macs = Macs {
            destination: hop.destination.into(),
            source: hop.source.into(),
        };
        (value.tag_count, value.tags) = tags(hop.vlan);
    }
    if let Forwarding::Tunnel { source, mtu } = known.forwarding {
        value.flags |= SERVER_TUNNEL;
        value.mtu = mtu.into();
        value.tunnel_destination = server.address.ip().to_canonical().into();
        value.tunnel_source = source.to_canonical().into();
    }
    value
}

fn flags(service: &Service) -> u32 {
    let persistence = service.persistence;
    [
        (persistence.is_some(), SERVICE_PERSISTENT),
        (service.sloppy, SERVICE_SLOPPY),
        (service.hash_port, SERVICE_HASH_PORT),
        (service.orphans == OrphanPolicy::Drop, SERVICE_DROP_ORPHANS),
        (
            service.orphans == OrphanPolicy::Reschedule,
            SERVICE_RESCHEDULE_ORPHANS,
        ),
        (
            service.protocol == Protocol::Tcp && service.orphans != OrphanPolicy::Drop,
            SERVICE_RESET_ORPHANS,
        ),
    ]
    .iter()
    .filter(|(is_set, _)| *is_set)
    .fold(0, |flags, (_, flag)| flags | flag)
}

/// What the packet path does with the ring, and the ring.
fn schedule(
    service: &Service,
    record: &ServiceRecord,
    sizes: &TableSizes,
) -> Result<(u32, Vec<u32>), Error> {
    let candidates: Vec<Candidate> = service
        .servers
        .iter()
        .filter(|server| is_eligible(server))
        .map(|server| Candidate {
            slot: record.servers[&server.address].slot,
            weight: match service.scheduler {
                Scheduler::Rr | Scheduler::Lc => 1,
                _ => server.weight,
            },
            identity: identity(server.address),
        })
        .collect();
    Ok(match service.scheduler {
        Scheduler::Rr => (SCHEDULE_ROUND_ROBIN, rings::each_once(&candidates)),
        Scheduler::Wrr => (SCHEDULE_ROUND_ROBIN, rings::interleaved(&candidates)),
        Scheduler::Sh => (SCHEDULE_HASH, rings::source_hash(&candidates)),
        Scheduler::Mh => (
            SCHEDULE_HASH,
            rings::maglev(&candidates, sizes.maglev_places),
        ),
        Scheduler::Lc | Scheduler::Wlc if candidates.len() > MAX_COMPARED as usize => {
            return Err(Error::TooManyToCompare {
                wanted: candidates.len(),
                limit: MAX_COMPARED as usize,
            });
        }
        Scheduler::Lc | Scheduler::Wlc => {
            (SCHEDULE_LEAST_CONNECTIONS, rings::each_once(&candidates))
        }
    })
}

/// The same number for a server on every director and in every run.
fn identity(address: SocketAddr) -> u64 {
    let Address([a, b, c, d]) = address.ip().to_canonical().into();
    let words = [a, b, c, d].map(|word| u64::from(u32::from_be(word)));
    let halves = [
        words[0] << 32 | words[1],
        words[2] << 32 | words[3],
        address.port().into(),
    ];
    halves.iter().fold(0, |identity, half| mix(identity ^ half))
}

fn directory_entry(service: &Service, number: u16, value: lb_common::Service) -> DirectoryEntry {
    DirectoryEntry {
        address: canonical(service.address).into(),
        port: service.address.port().to_be(),
        protocol: protocol_number(service.protocol),
        reserved: 0,
        number: number.into(),
        service: value,
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
