//! The table of services: made from the desired state, written to maps by generations.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use lb_abi::{
    ALL_PORTS, Address, DirectoryEntry, Geometry, MAX_PROBES, MAX_SERVICES, Server, ServerFlags,
    ServiceFlags, TableGeneration, Timeouts, WITHOUT_PORTS, directory_home,
};

use super::error::Error;
use super::options::TableSizes;
use super::owners::{macs, protocol_number, tags};
use super::peers::Peers;
use super::registry::{Registry, ServerRecord, ServiceRecord};
use super::scheduling::{Allowance, is_limited};
use lb_model::{DesiredState, Forwarding, OrphanPolicy, Protocol, RealServer, Scheduler, Service};
use net_types::Network;

/// Contents of one generation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ServiceTable {
    /// Settings that hold for all services.
    pub generation: TableGeneration,
    /// Where services are found.
    pub directory: Vec<DirectoryEntry>,
    /// By slot.
    pub servers: Vec<Server>,
    /// All rings, one after the other; no longer than needed.
    pub rings: Vec<u32>,
    /// Whose frames have been balanced already.
    pub peers: Peers,
}

/// Sizes of a generation for tables of `sizes`.
pub(crate) fn geometry(sizes: &TableSizes) -> Geometry {
    Geometry {
        // At most a quarter full, so that a seed without long chains exists; a
        // service may have two places.
        directory_places: (sizes.services.min(MAX_SERVICES) * 8).next_power_of_two(),
        servers: sizes.servers,
        ring_places: sizes.ring_places,
    }
}

impl ServiceTable {
    /// Describes `desired`, all of which has a place in `registry`.
    ///
    /// # Errors
    ///
    /// [`Error::TableFull`] and [`Error::TooManyToCompare`] when the rings would
    /// not fit with all servers in them, [`Error::Directory`].
    pub(crate) fn new(
        desired: &DesiredState,
        registry: &Registry,
        sizes: &TableSizes,
    ) -> Result<Self, Error> {
        let geometry = geometry(sizes);
        let allowance = Allowance::new(desired, sizes)?;
        let mut table = Self {
            generation: TableGeneration::default(),
            directory: Vec::new(),
            servers: vec![Server::default(); geometry.servers as usize],
            rings: Vec::new(),
            peers: Peers::of(registry),
        };
        let mut entries = Vec::new();
        for service in &desired.services {
            let record = registry.service(&service.key()).expect("reconciled before");
            let value = table.add(service, record, allowance, &desired.tunnel_sources);
            entries.push(directory_entry(service, record.number, value));
        }
        let all_ports = entries.iter().any(|entry| entry.port == ALL_PORTS);
        entries.extend(without_ports(&entries));
        let (seed, directory) = directory(&entries, geometry.directory_places)?;
        table.generation = TableGeneration {
            directory_seed: seed,
            all_ports: all_ports.into(),
            timeouts: timeouts(&desired.timeouts),
            peers: table.peers.filter(),
        };
        table.directory = directory;
        Ok(table)
    }

    /// Lays out the servers and the ring of `service`, and says how the packet
    /// path treats it.
    fn add(
        &mut self,
        service: &Service,
        record: &ServiceRecord,
        allowance: Allowance,
        tunnel_sources: &[Network],
    ) -> lb_abi::Service {
        for server in &service.servers {
            let known = &record.servers[&server.address];
            self.servers[known.slot as usize] =
                server_value(service, server, known, tunnel_sources);
        }
        let (schedule, ring) = allowance.schedule(service, record);
        let (persistence_ns, persistence_mask) =
            service
                .persistence
                .map_or((0, Address::default()), |persistence| {
                    (
                        persistence.timeout.as_nanos() as u64,
                        Address::mask(service.address.ip(), persistence.prefix_length),
                    )
                });
        let value = lb_abi::Service {
            flags: flags(service),
            schedule,
            ring_offset: self.rings.len() as u32,
            ring_length: ring.len() as u32,
            persistence_ns,
            persistence_mask,
        };
        self.rings.extend(ring);
        value
    }
}

/// The time-outs as the packet path reads them.
pub(crate) fn timeouts(timeouts: &lb_model::Timeouts) -> Timeouts {
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

fn server_value(
    service: &Service,
    server: &RealServer,
    known: &ServerRecord,
    tunnel_sources: &[Network],
) -> Server {
    let mut value = Server {
        generation: known.generation,
        weight: match service.scheduler {
            Scheduler::Lc => server.weight.min(1),
            _ => server.weight,
        },
        upper_threshold: server.thresholds.upper,
        lower_threshold: server.thresholds.lower,
        ..Server::default()
    };
    if known.is_reachable() {
        value.flags |= ServerFlags::ALIVE;
    }
    let expires = service.persistence.is_some_and(|p| p.expire_quiescent);
    if server.weight == 0 && (expires || !server.keeps_templates) {
        value.flags |= ServerFlags::VOID_TEMPLATES;
    }
    if let Some(hop) = known.next_hop {
        value.interface_index = hop.interface_index;
        value.macs = macs(hop);
        (value.tag_count, value.tags) = tags(hop.vlan);
    }
    match known.forwarding {
        Forwarding::Direct => {}
        Forwarding::Local => value.flags |= ServerFlags::LOCAL,
        Forwarding::Tunnel { source, mtu } => {
            value.flags |= ServerFlags::TUNNEL;
            value.mtu = mtu.into();
            value.tunnel_destination = server.address.ip().to_canonical().into();
            (value.tunnel_source, value.tunnel_source_varied) =
                tunnel_source(source.to_canonical(), tunnel_sources);
        }
    }
    value
}

/// The address that the outer packets of a tunnel come from, and the bits of its
/// last word that are another flow's otherwise, in network byte order.
fn tunnel_source(ours: IpAddr, networks: &[Network]) -> (Address, u32) {
    let is_of_family = |network: &&Network| network.address().is_ipv4() == ours.is_ipv4();
    let Some(network) = networks.iter().find(is_of_family) else {
        return (ours.into(), 0);
    };
    let mask = Address::mask(network.address(), network.prefix_length());
    let first = Address::from(network.address()).masked(&mask);
    let varied = !mask.0[3];
    (first, varied)
}

fn flags(service: &Service) -> ServiceFlags {
    let persistence = service.persistence;
    let mut servers = service.servers.iter();
    [
        (
            servers.any(|server| server.forwarding == Forwarding::Local),
            ServiceFlags::LOCAL,
        ),
        (persistence.is_some(), ServiceFlags::PERSISTENT),
        (service.sloppy, ServiceFlags::SLOPPY),
        (service.hash_port, ServiceFlags::HASH_PORT),
        (service.hash_fallback, ServiceFlags::FALLBACK),
        (
            service.one_packet && service.protocol == Protocol::Udp,
            ServiceFlags::ONE_PACKET,
        ),
        (is_limited(service), ServiceFlags::LIMITED),
        (
            service.orphans == OrphanPolicy::Drop,
            ServiceFlags::DROP_ORPHANS,
        ),
        (
            service.orphans == OrphanPolicy::Reschedule,
            ServiceFlags::RESCHEDULE_ORPHANS,
        ),
        (
            service.protocol == Protocol::Tcp && service.orphans != OrphanPolicy::Drop,
            ServiceFlags::RESET_ORPHANS,
        ),
    ]
    .into_iter()
    .filter_map(|(is_set, flag)| is_set.then_some(flag))
    .collect()
}

fn directory_entry(service: &Service, number: u16, value: lb_abi::Service) -> DirectoryEntry {
    DirectoryEntry {
        address: canonical(service.address).into(),
        port: service.address.port().to_be(),
        protocol: protocol_number(service.protocol),
        reserved: 0,
        number: number.into(),
        service: value,
    }
}

/// Entries for fragments that carry no ports, where only one of `entries` can be
/// meant and has an answer.
fn without_ports(entries: &[DirectoryEntry]) -> Vec<DirectoryEntry> {
    let mut services: BTreeMap<_, Vec<&DirectoryEntry>> = BTreeMap::new();
    for entry in entries {
        let same = services.entry((entry.address, entry.protocol)).or_default();
        same.push(entry);
    }
    let only = services.into_values().filter_map(|same| match same[..] {
        [only] if only.service.flags.contains(ServiceFlags::PERSISTENT) => Some(DirectoryEntry {
            port: 0,
            protocol: only.protocol | WITHOUT_PORTS,
            ..*only
        }),
        _ => None,
    });
    only.collect()
}

fn canonical(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

/// Seeds that are tried. In a directory at most a quarter full nearly every one
/// does.
const SEEDS: u64 = 1 << 10;

/// Places `entries` so that none lies more than [`MAX_PROBES`] places behind
/// its home, and says with which seed that was possible.
fn directory(entries: &[DirectoryEntry], places: u32) -> Result<(u64, Vec<DirectoryEntry>), Error> {
    (0..SEEDS)
        .find_map(|attempt| {
            // Consecutive seeds would differ in a few bits only.
            let seed = attempt.wrapping_mul(0xD6E8_FEB8_6659_FD93);
            place_all(entries, places, seed).map(|directory| (seed, directory))
        })
        .ok_or(Error::Directory {
            services: entries.len(),
        })
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn entry(address: &str, port: u16) -> DirectoryEntry {
        DirectoryEntry {
            address: address.parse::<IpAddr>().expect("an address").into(),
            port: port.to_be(),
            protocol: 6,
            ..DirectoryEntry::default()
        }
    }

    fn assert_all_are_found(entries: &[DirectoryEntry]) {
        let places = (entries.len() as u32 * 4).next_power_of_two();
        let (seed, directory) = directory(entries, places).expect("a seed that does");
        for entry in entries {
            let home = directory_home(seed, places, &entry.address, entry.port, entry.protocol);
            let found = (home..home + MAX_PROBES).find(|place| {
                let place = &directory[(place & (places - 1)) as usize];
                (place.address, place.port) == (entry.address, entry.port)
            });
            assert!(found.is_some(), "{entry:?}");
        }
    }

    /// As [`assert_all_are_found`], in a directory of a table that is just full.
    fn assert_all_fit(entries: impl Iterator<Item = DirectoryEntry>) {
        let entries: Vec<_> = entries.collect();
        let sizes = TableSizes {
            services: entries.len() as u32,
            ..TableSizes::default()
        };
        let places = geometry(&sizes).directory_places;
        assert!(directory(&entries, places).is_ok(), "{}", entries.len());
    }

    #[test]
    fn however_small_the_table_is_services_find_their_places() {
        for count in [2, 5, 8, 16, 32, 64, 200, 256] {
            assert_all_fit((0..count).map(|port| entry("172.16.1.200", 8000 + port)));
            assert_all_fit((0..count).map(|port| entry("172.16.1.200", 1 + 256 * port)));
            assert_all_fit((0..count).map(|port| entry("2001:db8::c8", 8000 + port)));
            assert_all_fit((0..count).map(|n| entry(&format!("10.{n}.0.1"), 1935)));
            assert_all_fit((0..count).map(|n| entry(&format!("10.0.0.{n}"), 8000 + n)));
            assert_all_fit((0..count).map(|n| entry(&format!("2001:db8:{n:x}::1"), 1935)));
            assert_all_fit((0..count).map(|n| entry(&format!("2001:db8::{n:x}:0:0:1"), 1935)));
            assert_all_fit((0..count).map(|n| entry(&format!("2001:db8::{n:x}:0:1"), 1935)));
        }
    }

    #[test]
    fn virtual_addresses_that_are_numbered_alike_find_their_places() {
        let in_both_halves = (1..=200).map(|n| entry(&format!("2001:db8:0:{n:x}::{n:x}"), 1935));
        assert_all_are_found(&in_both_halves.collect::<Vec<_>>());
        let neighbours = (1..=250).map(|n| entry(&format!("10.0.0.{n}"), 1935));
        assert_all_are_found(&neighbours.collect::<Vec<_>>());
        let ports = (1..=4096).map(|port| entry("172.16.1.200", port));
        assert_all_are_found(&ports.collect::<Vec<_>>());
    }

    #[test]
    fn tables_for_more_services_than_have_numbers_are_no_larger() {
        let sizes = TableSizes {
            services: 1 << 28,
            ..TableSizes::default()
        };
        let places = geometry(&sizes).directory_places;
        assert_eq!(places, 8 * MAX_SERVICES);
        let service = |number: u32| Service {
            protocol: Protocol::Tcp,
            address: SocketAddr::new(Ipv4Addr::from(number).into(), 1935),
            scheduler: Scheduler::Rr,
            hash_port: false,
            hash_fallback: false,
            one_packet: false,
            persistence: None,
            orphans: OrphanPolicy::Reset,
            sloppy: false,
            servers: Vec::new(),
        };
        let mut state = DesiredState {
            services: (0..=MAX_SERVICES).map(service).collect(),
            ..DesiredState::default()
        };
        let mut registry = Registry::new(&TableSizes {
            servers: 1,
            ..sizes
        });
        let mut reconcile =
            |state: &DesiredState| registry.reconcile(state, &sizes, |_| unreachable!());
        assert!(matches!(
            reconcile(&state),
            Err(Error::TableFull { limit: 65_536, .. })
        ));
        state.services.pop();
        assert!(reconcile(&state).is_ok());
    }

    #[test]
    fn a_directory_without_a_place_for_everybody_is_refused() {
        let duplicates = vec![entry("172.16.1.200", 1935); MAX_PROBES as usize + 1];
        assert!(matches!(
            directory(&duplicates, 64),
            Err(Error::Directory { services: 5 })
        ));
    }
}
