//! The table of services as the agent has written it: virtual services, their
//! real servers, and the rings that they are scheduled from.

use lb_abi::{
    ALL_PORTS, Address, MAX_PROBES, Server, ServerFlags, Service, ServiceFlags, TABLE_GENERATIONS,
    TableGeneration, WITHOUT_PORTS, directory_home,
};

use crate::maps::{DIRECTORY, HEAD, RINGS, SERVERS, geometry};
use crate::packet::Packet;

/// The generation of the table of services that was active when the packet came.
/// A packet looks it up once, so that it never sees half a change.
#[derive(Clone, Copy)]
pub(crate) struct ServiceTable {
    pub(crate) index: GenerationIndex,
    pub(crate) generation: &'static TableGeneration,
}

/// Index of a generation within the maps that hold both, one after the other.
#[derive(Clone, Copy)]
pub(crate) struct GenerationIndex(u32);

/// A virtual service, by its entry in the active generation.
#[derive(Clone, Copy)]
pub(crate) struct ServiceRef {
    pub(crate) number: u32,
    pub(crate) entry: &'static Service,
}

/// A real server that is alive.
#[derive(Clone, Copy)]
pub(crate) struct Backend {
    pub(crate) slot: u32,
    pub(crate) server: &'static Server,
}

impl ServiceTable {
    /// The active generation.
    #[inline(always)]
    pub(crate) fn active() -> Option<Self> {
        let head = HEAD.get(0)?;
        let index = head.active_index % TABLE_GENERATIONS;
        Some(Self {
            index: GenerationIndex(index),
            generation: &head.generations[index as usize],
        })
    }

    /// The service that `packet` is addressed to: a service of its port takes precedence
    /// over one of all ports, as in `ip_vs_service_find` (ip_vs_ctl.c).
    #[inline(always)]
    pub(crate) fn service(self, packet: &Packet) -> Option<ServiceRef> {
        let find = |port| self.find(&packet.virtual_address, port, packet.protocol);
        match find(packet.service_port) {
            None if self.generation.all_ports != 0 => find(ALL_PORTS),
            service => service,
        }
    }

    /// The only service that a fragment without ports can be for, if that service has
    /// persistence.
    #[inline(always)]
    pub(crate) fn service_without_ports(self, packet: &Packet) -> Option<ServiceRef> {
        self.find(&packet.virtual_address, 0, packet.protocol | WITHOUT_PORTS)
    }

    #[inline(always)]
    fn find(self, address: &Address, port: u16, protocol: u8) -> Option<ServiceRef> {
        let places = geometry::directory_places();
        let home = directory_home(
            self.generation.directory_seed,
            places,
            address,
            port,
            protocol,
        );
        for probe in 0..MAX_PROBES {
            let place = (home + probe) & (places - 1);
            let entry = DIRECTORY.get(self.index.0 * places + place)?;
            if entry.protocol == 0 {
                return None;
            }
            if entry.port == port && entry.protocol == protocol && entry.address == *address {
                return Some(ServiceRef {
                    number: entry.number,
                    entry: &entry.service,
                });
            }
        }
        None
    }

    /// The server in `slot`, if it is alive and still the one of `generation`.
    #[inline(always)]
    pub(crate) fn server(self, slot: u32, generation: u32) -> Option<Backend> {
        let backend = self.slot(slot)?;
        (backend.server.generation == generation).then_some(backend)
    }

    /// The server in `slot`, whatever its generation, if it is alive.
    #[inline(always)]
    pub(crate) fn slot(self, slot: u32) -> Option<Backend> {
        self.index.slot(slot)
    }
}

impl GenerationIndex {
    /// The index of this number: a BPF function that the verifier looks at by itself takes
    /// numbers only.
    #[inline(always)]
    pub(crate) fn of(number: u32) -> Self {
        Self(number)
    }

    #[inline(always)]
    pub(crate) fn number(self) -> u32 {
        self.0
    }

    /// The server in `slot`, if it is alive.
    #[inline(always)]
    pub(crate) fn slot(self, slot: u32) -> Option<Backend> {
        let server = SERVERS.get(self.0 * geometry::servers() + slot)?;
        server
            .flags
            .contains(ServerFlags::ALIVE)
            .then_some(Backend { slot, server })
    }

    /// The server at a place of the ring of `service`, if it is alive.
    #[inline(always)]
    pub(crate) fn at(self, service: &Service, place: u32) -> Option<Backend> {
        let base = self.0 * geometry::ring_places() + service.ring_offset;
        self.slot(*RINGS.get(base + place)?)
    }
}

impl ServiceRef {
    /// True if the service has `flag`.
    #[inline(always)]
    pub(crate) fn has(self, flag: ServiceFlags) -> bool {
        self.entry.flags.contains(flag)
    }

    #[inline(always)]
    pub(crate) fn is_persistent(self) -> bool {
        self.has(ServiceFlags::PERSISTENT)
    }
}

impl Backend {
    /// True if persistence templates that name the server are valid.
    #[inline(always)]
    pub(crate) fn accepts_templates(self) -> bool {
        !self.server.flags.contains(ServerFlags::VOID_TEMPLATES)
    }
}
