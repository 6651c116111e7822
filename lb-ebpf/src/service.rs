//! Is this packet for a virtual service, and which real server is whose?

use lb_abi::{
    ALL_PORTS, Address, HALVES, Half, MAX_PROBES, SERVER_ALIVE, SERVER_VOID_TEMPLATES, Server,
    Service, WITHOUT_PORTS, directory_home,
};

use crate::maps::{DIRECTORY, HEAD, RINGS, SERVERS, geometry};
use crate::parse::Packet;

/// The half of the description that this packet is judged by, taken once.
#[derive(Clone, Copy)]
pub struct Description {
    pub index: HalfIndex,
    pub half: &'static Half,
}

/// Which half of the description maps.
#[derive(Clone, Copy)]
pub struct HalfIndex(u32);

/// A service that the packet is for.
#[derive(Clone, Copy)]
pub struct Found {
    pub number: u32,
    pub service: &'static Service,
}

/// A real server that may be sent to.
#[derive(Clone, Copy)]
pub struct Chosen {
    pub slot: u32,
    pub server: &'static Server,
}

impl Description {
    /// The active one.
    #[inline(always)]
    pub fn active() -> Option<Self> {
        let head = HEAD.get(0)?;
        let index = head.active % HALVES;
        Some(Self {
            index: HalfIndex(index),
            half: &head.halves[index as usize],
        })
    }

    /// The service that `packet` is addressed to: the one of its port before the
    /// one of all ports, as `ip_vs_service_find` has it (ip_vs_ctl.c).
    #[inline(always)]
    pub fn service(self, packet: &Packet) -> Option<Found> {
        let find = |port| self.find(&packet.virtual_address, port, packet.protocol);
        match find(packet.service_port) {
            None if self.half.all_ports != 0 => find(ALL_PORTS),
            found => found,
        }
    }

    /// The service that a fragment without ports must be for, if its client
    /// may stick to a server.
    #[inline(always)]
    pub fn service_without_ports(self, packet: &Packet) -> Option<Found> {
        self.find(&packet.virtual_address, 0, packet.protocol | WITHOUT_PORTS)
    }

    #[inline(always)]
    fn find(self, address: &Address, port: u16, protocol: u8) -> Option<Found> {
        let places = geometry::directory_places();
        let home = directory_home(self.half.directory_seed, places, address, port, protocol);
        for probe in 0..MAX_PROBES {
            let place = (home + probe) & (places - 1);
            let entry = DIRECTORY.get(self.index.0 * places + place)?;
            if entry.protocol == 0 {
                return None;
            }
            if entry.port == port && entry.protocol == protocol && entry.address == *address {
                return Some(Found {
                    number: entry.number,
                    service: &entry.service,
                });
            }
        }
        None
    }

    /// The server in `slot`, if it is alive and still the one of `generation`.
    #[inline(always)]
    pub fn server(self, slot: u32, generation: u32) -> Option<Chosen> {
        let chosen = self.slot(slot)?;
        (chosen.server.generation == generation).then_some(chosen)
    }

    /// Whatever server is in `slot`, if it is alive.
    #[inline(always)]
    pub fn slot(self, slot: u32) -> Option<Chosen> {
        self.index.slot(slot)
    }
}

impl HalfIndex {
    /// Whatever server is in `slot`, if it is alive.
    #[inline(always)]
    pub fn slot(self, slot: u32) -> Option<Chosen> {
        let server = SERVERS.get(self.0 * geometry::servers() + slot)?;
        (server.flags & SERVER_ALIVE != 0).then_some(Chosen { slot, server })
    }

    /// The server at a place of the ring of `service`, if it is alive.
    #[inline(always)]
    pub fn at(self, service: &Service, place: u32) -> Option<Chosen> {
        let base = self.0 * geometry::ring_places() + service.ring_offset;
        self.slot(*RINGS.get(base + place)?)
    }
}

impl Found {
    /// Whether the service has a flag, one of `SERVICE_…`.
    #[inline(always)]
    pub fn has(self, flag: u32) -> bool {
        self.service.flags & flag != 0
    }
}

impl Chosen {
    /// Whether clients that persistence ties to the server come back to it.
    #[inline(always)]
    pub fn keeps_templates(self) -> bool {
        self.server.flags & SERVER_VOID_TEMPLATES == 0
    }
}
