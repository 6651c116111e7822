//! The registry as records in maps of the agent's own, so that a later agent
//! knows what connections and templates name.

use std::net::{IpAddr, SocketAddr};

use lb_abi::{
    Address, MAX_TAGS, Macs, ORPHANS_DROP, ORPHANS_RESCHEDULE, ORPHANS_RESET, OwnerFlags,
    ServerCounters, ServerOwner, ServiceOwner, TCP, UDP, VlanTag,
};

use super::options::TableSizes;
use super::registry::{FIRST_GENERATION, Registry, ServerRecord, ServiceRecord};
use super::traffic::Traffic;
use lb_model::{Forwarding, NextHop, OrphanPolicy, Protocol, ServiceKey, Vlan};
use net_types::MacAddress;

/// One record per service number, and one per server slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owners {
    /// By number.
    pub services: Vec<ServiceOwner>,
    /// By slot.
    pub servers: Vec<ServerOwner>,
}

impl Owners {
    /// The records of everything in `registry`.
    pub(crate) fn of(registry: &Registry, sizes: &TableSizes) -> Self {
        let mut owners = Self {
            services: vec![ServiceOwner::default(); sizes.services as usize],
            servers: vec![ServerOwner::default(); sizes.servers as usize],
        };
        for (slot, next) in registry.next_generations().iter().enumerate() {
            // The first one is left out, and so thousands of records of a new map that are
            // zero as the kernel has made them: each would cost the start a system call.
            if *next != FIRST_GENERATION {
                owners.servers[slot].next_generation = *next;
            }
        }
        for (key, service) in registry.services() {
            owners.services[usize::from(service.number)] = ServiceOwner {
                address: key.address.ip().to_canonical().into(),
                port: key.address.port().to_be(),
                protocol: protocol_number(key.protocol),
                orphans: orphans_number(service.orphans),
                reserved: [0; 4],
                retired: counters(service.retired),
            };
            for (address, server) in &service.servers {
                let owner = &mut owners.servers[server.slot as usize];
                let next_generation = owner.next_generation;
                *owner = record(*address, server, service.number);
                owner.next_generation = next_generation;
            }
        }
        owners
    }

    /// The registry that these are the records of, for tables of `sizes`. What
    /// does not fit there is left out.
    pub(crate) fn registry(&self, sizes: &TableSizes) -> Registry {
        let mut registry = Registry::new(sizes);
        for (slot, owner) in self.servers.iter().take(sizes.servers as usize).enumerate() {
            registry.restore_generation(slot as u32, owner.next_generation);
        }
        let services = self.services.iter().take(sizes.services as usize);
        for (number, owner) in services.enumerate() {
            let Some(protocol) = protocol_of(owner.protocol) else {
                continue;
            };
            let record = ServiceRecord {
                number: number as u16,
                servers: self.servers_of(number as u16, sizes),
                orphans: orphans_of(owner.orphans, protocol),
                retired: traffic(owner.retired),
            };
            let address = socket(owner.address, owner.port);
            registry.restore(ServiceKey { protocol, address }, record);
        }
        registry
    }

    fn servers_of(
        &self,
        service: u16,
        sizes: &TableSizes,
    ) -> std::collections::BTreeMap<SocketAddr, ServerRecord> {
        let slots = self.servers.iter().take(sizes.servers as usize).enumerate();
        slots
            .filter(|(_, owner)| {
                owner.flags.contains(OwnerFlags::PRESENT) && owner.service == service
            })
            .map(|(slot, owner)| {
                let record = ServerRecord {
                    slot: slot as u32,
                    generation: owner.generation,
                    next_hop: owner
                        .flags
                        .contains(OwnerFlags::REACHED)
                        .then(|| next_hop(owner)),
                    forwarding: forwarding(owner),
                    alive: owner.flags.contains(OwnerFlags::ALIVE),
                    baseline: owner.baseline,
                };
                (socket(owner.address, owner.port), record)
            })
            .collect()
    }
}

fn record(address: SocketAddr, server: &ServerRecord, service: u16) -> ServerOwner {
    let mut owner = ServerOwner {
        address: address.ip().to_canonical().into(),
        port: address.port().to_be(),
        service,
        flags: OwnerFlags::PRESENT,
        generation: server.generation,
        baseline: server.baseline,
        ..ServerOwner::default()
    };
    if server.alive {
        owner.flags |= OwnerFlags::ALIVE;
    }
    if let Some(hop) = server.next_hop {
        owner.flags |= OwnerFlags::REACHED;
        if hop.is_router {
            owner.flags |= OwnerFlags::ROUTER;
        }
        owner.interface_index = hop.interface_index;
        owner.macs = macs(hop);
        (owner.tag_count, owner.tags) = tags(hop.vlan);
    }
    match server.forwarding {
        Forwarding::Direct => {}
        Forwarding::Local => owner.flags |= OwnerFlags::LOCAL,
        Forwarding::Tunnel { source, mtu } => {
            owner.flags |= OwnerFlags::TUNNEL;
            owner.tunnel_source = source.to_canonical().into();
            owner.mtu = mtu.into();
        }
    }
    owner
}

fn forwarding(owner: &ServerOwner) -> Forwarding {
    if owner.flags.contains(OwnerFlags::LOCAL) {
        return Forwarding::Local;
    }
    if !owner.flags.contains(OwnerFlags::TUNNEL) {
        return Forwarding::Direct;
    }
    Forwarding::Tunnel {
        source: owner.tunnel_source.into(),
        mtu: u16::try_from(owner.mtu).unwrap_or(u16::MAX),
    }
}

fn next_hop(owner: &ServerOwner) -> NextHop {
    let number = |tag: VlanTag| u16::from_be(tag.control) & 0x0FFF;
    NextHop {
        interface_index: owner.interface_index,
        source: MacAddress(owner.macs.source.into()),
        destination: MacAddress(owner.macs.destination.into()),
        vlan: match owner.tag_count {
            0 => Vlan::Untagged,
            1 => Vlan::Tagged(number(owner.tags[0])),
            _ => Vlan::Stacked(number(owner.tags[0]), number(owner.tags[1])),
        },
        is_router: owner.flags.contains(OwnerFlags::ROUTER),
    }
}

/// The MAC addresses of frames to a hop.
pub(crate) fn macs(hop: NextHop) -> Macs {
    Macs {
        destination: hop.destination.0.into(),
        source: hop.source.0.into(),
    }
}

/// The tags of frames to a hop, and how many they are.
pub(crate) fn tags(vlan: Vlan) -> (u32, [VlanTag; MAX_TAGS]) {
    const CUSTOMER: u16 = 0x8100;
    const SERVICE: u16 = 0x88A8;
    let tag = |ethertype: u16, number: u16| VlanTag {
        ethertype: ethertype.to_be(),
        control: (number & 0x0FFF).to_be(),
    };
    match vlan {
        Vlan::Untagged => (0, [VlanTag::default(); MAX_TAGS]),
        Vlan::Tagged(number) => (1, [tag(CUSTOMER, number), VlanTag::default()]),
        Vlan::Stacked(outer, inner) => (2, [tag(SERVICE, outer), tag(CUSTOMER, inner)]),
    }
}

fn socket(address: Address, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from(address), u16::from_be(port))
}

/// IP protocol number of a service's protocol.
pub(crate) fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    }
}

fn protocol_of(number: u8) -> Option<Protocol> {
    match number {
        TCP => Some(Protocol::Tcp),
        UDP => Some(Protocol::Udp),
        _ => None,
    }
}

fn orphans_number(policy: OrphanPolicy) -> u8 {
    match policy {
        OrphanPolicy::Reset => ORPHANS_RESET,
        OrphanPolicy::Drop => ORPHANS_DROP,
        OrphanPolicy::Reschedule => ORPHANS_RESCHEDULE,
    }
}

fn orphans_of(number: u8, protocol: Protocol) -> OrphanPolicy {
    match number {
        ORPHANS_RESET => OrphanPolicy::Reset,
        ORPHANS_DROP => OrphanPolicy::Drop,
        ORPHANS_RESCHEDULE => OrphanPolicy::Reschedule,
        _ => OrphanPolicy::default_for(protocol),
    }
}

fn counters(traffic: Traffic) -> ServerCounters {
    ServerCounters {
        connections: traffic.connections,
        packets: traffic.packets_in,
        bytes: traffic.bytes_in,
    }
}

fn traffic(counters: ServerCounters) -> Traffic {
    Traffic {
        connections: counters.connections,
        packets_in: counters.packets,
        bytes_in: counters.bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_model::{
        DesiredState, Forwarding, OrphanPolicy, RealServer, Scheduler, Service, Thresholds,
    };

    fn sizes() -> TableSizes {
        TableSizes {
            services: 4,
            servers: 8,
            ..TableSizes::default()
        }
    }

    fn server(address: &str, vlan: Vlan) -> RealServer {
        RealServer {
            address: address.parse().expect("an address"),
            weight: 1,
            thresholds: Thresholds::default(),
            keeps_templates: true,
            alive: true,
            forwarding: Forwarding::Direct,
            next_hop: Some(NextHop {
                interface_index: 7,
                source: MacAddress([2, 0, 0, 0, 0, 1]),
                destination: MacAddress([2, 0, 0, 0, 0, 2]),
                vlan,
                is_router: true,
            }),
        }
    }

    fn service(protocol: Protocol, address: &str, servers: Vec<RealServer>) -> Service {
        Service {
            protocol,
            address: address.parse().expect("an address"),
            scheduler: Scheduler::Rr,
            hash_port: false,
            hash_fallback: false,
            one_packet: false,
            persistence: None,
            orphans: OrphanPolicy::Reset,
            sloppy: false,
            servers,
        }
    }

    fn desired(services: Vec<Service>) -> DesiredState {
        DesiredState {
            services,
            ..DesiredState::default()
        }
    }

    #[test]
    fn a_registry_comes_back_from_its_records_as_it_was() {
        let no_traffic = |_| Ok(ServerCounters::default());
        let mut registry = Registry::new(&sizes());
        let mut servers = vec![
            server("10.0.0.2:80", Vlan::Untagged),
            server("10.0.0.3:80", Vlan::Stacked(5, 4094)),
        ];
        servers[0].forwarding = Forwarding::Tunnel {
            source: "2001:db8::8".parse().expect("an address"),
            mtu: 1400,
        };
        let mut state = desired(vec![
            service(Protocol::Tcp, "10.0.0.1:80", servers.clone()),
            service(
                Protocol::Udp,
                "[2001:db8::1]:80",
                vec![server("[2001:db8::2]:80", Vlan::Tagged(9))],
            ),
        ]);
        let counters = |slot| {
            Ok(ServerCounters {
                connections: u64::from(slot) + 1,
                packets: 2,
                bytes: 3,
            })
        };
        registry
            .reconcile(&state, &sizes(), counters)
            .expect("it fits");
        // A policy changes, one leaves, one dies: slots are freed, generations raised.
        state.services[0].orphans = OrphanPolicy::Drop;
        state.services[0].servers[0].alive = false;
        state.services[0].servers.truncate(1);
        registry
            .reconcile(&state, &sizes(), counters)
            .expect("it fits");

        let owners = Owners::of(&registry, &sizes());
        let mut restored = owners.registry(&sizes());
        assert_eq!(restored, registry);
        assert_eq!(Owners::of(&restored, &sizes()), owners);

        // What an agent has not written down is what its protocol has.
        let mut unwritten = owners.clone();
        unwritten.services[0].orphans = 0;
        let key = state.services[0].key();
        let service = |registry: &Registry| registry.service(&key).expect("known").orphans;
        assert_eq!(service(&restored), OrphanPolicy::Drop);
        assert_eq!(service(&unwritten.registry(&sizes())), OrphanPolicy::Reset);

        // And whoever comes next gets the same place from both.
        state.services[0].servers = servers;
        registry
            .reconcile(&state, &sizes(), no_traffic)
            .expect("it fits");
        restored
            .reconcile(&state, &sizes(), no_traffic)
            .expect("it fits");
        assert_eq!(restored, registry);
    }

    #[test]
    fn what_does_not_fit_smaller_tables_is_left_out() {
        let no_traffic = |_| Ok(ServerCounters::default());
        let mut registry = Registry::new(&sizes());
        let servers = ["10.0.0.2:80", "10.0.0.3:80"].map(|address| server(address, Vlan::Untagged));
        let state = desired(vec![service(
            Protocol::Tcp,
            "10.0.0.1:80",
            servers.to_vec(),
        )]);
        registry
            .reconcile(&state, &sizes(), no_traffic)
            .expect("it fits");
        let smaller = TableSizes {
            servers: 1,
            ..sizes()
        };
        let restored = Owners::of(&registry, &sizes()).registry(&smaller);
        let left: Vec<_> = restored.owners().collect();
        assert_eq!(left, [(0, 1)]);
    }
}
