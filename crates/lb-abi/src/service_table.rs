//! The table of services: written by the agent, read for every packet.

use bitflags::bitflags;

use crate::Address;
use crate::flow::Timeouts;
use crate::link::{MAX_TAGS, Macs, VlanTag};
use crate::peer::PeerFilter;

/// Generations of the table of services that its maps hold, one after the other:
/// the active one, and the one that the agent writes next.
pub const TABLE_GENERATIONS: u32 = 2;

/// Places of the directory that are searched for a service: its home, and those behind it.
/// The agent picks a seed for which no service lies further from its home.
pub const MAX_PROBES: u32 = 4;

/// Sizes of one generation of the table of services.
///
/// A read-only global of the program ([`maps::GEOMETRY`](crate::maps::GEOMETRY)),
/// set at load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Geometry {
    /// Places in the directory of services, a power of two.
    pub directory_places: u32,
    /// Slots of real servers.
    pub servers: u32,
    /// Places in all rings together.
    pub ring_places: u32,
}

impl Geometry {
    /// The sizes in the object file, which the loader replaces: too small for any
    /// service.
    pub const DEFAULT: Self = Self {
        directory_places: 1,
        servers: 1,
        ring_places: 1,
    };
}

/// The part of the table of services that every packet reads first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct TableHeader {
    /// Index of the generation that packets are handled by, 0 or 1.
    pub active_index: u32,
    /// Zero.
    pub reserved: u32,
    /// Settings of each generation.
    pub generations: [TableGeneration; TABLE_GENERATIONS as usize],
}

/// Settings that hold for all services of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct TableGeneration {
    /// Seed of [`directory_home`].
    pub directory_seed: u64,
    /// 1 if there are services with [`ALL_PORTS`], else 0.
    pub all_ports: u64,
    /// Idle time-outs of connections.
    pub timeouts: Timeouts,
    /// Source MAC addresses of frames that another director may have balanced
    /// already; [`maps::PEERS`](crate::maps::PEERS) says which have been.
    pub peers: PeerFilter,
}

/// [`DirectoryEntry::port`] of a service that has all ports of its address which no other
/// service has. Such a service has persistence.
pub const ALL_PORTS: u16 = 0;

/// Added to [`DirectoryEntry::protocol`], with a port of 0: the entry by which fragments,
/// which have no ports, find the only service that they can be for. It exists if an
/// address has one service of the protocol, and that service has persistence.
pub const WITHOUT_PORTS: u8 = 1 << 7;

/// One place of the directory of services, the size of a cache line; an empty
/// place has protocol 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct DirectoryEntry {
    /// Virtual address.
    pub address: Address,
    /// Port, in network byte order; or [`ALL_PORTS`].
    pub port: u16,
    /// IP protocol number, possibly [`WITHOUT_PORTS`]; 0 marks an empty place.
    pub protocol: u8,
    /// Zero.
    pub reserved: u8,
    /// Number of the service.
    pub number: u32,
    /// The service itself.
    pub service: Service,
}

const _: () = assert!(size_of::<DirectoryEntry>() == 64);

/// Home of a service: its first possible place in a directory of `places` (a power of two).
///
/// Multiplicative hashing (Knuth, TAOCP 6.4) takes a few instructions, and the agent chooses
/// `seed` so that no chain is long. Each half of the address has a multiplication of its
/// own, so that services which collide do so under few seeds; the first half is 0 in IPv4.
/// The highest bits of the products are used: only they depend on all bits of the factors.
#[inline(always)]
pub const fn directory_home(
    seed: u64,
    places: u32,
    address: &Address,
    port: u16,
    protocol: u8,
) -> u32 {
    let Address([a, b, c, d]) = *address;
    let high = (a as u64) << 32 | b as u64;
    let low = (c as u64) << 32 | d as u64;
    let mixed = (low ^ seed ^ (port as u64) << 40 ^ (protocol as u64) << 32)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        ^ high.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    (((mixed >> 32) * places as u64) >> 32) as u32
}

bitflags! {
    /// Properties of a [`Service`].
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    #[repr(transparent)]
    pub struct ServiceFlags: u32 {
        /// Persistence: templates tie its clients to servers.
        const PERSISTENT = 1;
        /// A TCP packet that belongs to no known connection is scheduled like a SYN
        /// (`sloppy_tcp` of IPVS).
        const SLOPPY = 1 << 2;
        /// The client's port is hashed along with its address.
        const HASH_PORT = 1 << 3;
        /// Packets of connections whose server is gone are dropped.
        const DROP_ORPHANS = 1 << 4;
        /// Connections whose server is gone are reset.
        const RESET_ORPHANS = 1 << 5;
        /// Flows whose server is gone are given another one.
        const RESCHEDULE_ORPHANS = 1 << 6;
        /// Every packet is scheduled by itself, and no connection is entered (`ops`);
        /// in services over UDP only.
        const ONE_PACKET = 1 << 7;
        /// Some of its servers have thresholds.
        const LIMITED = 1 << 8;
        /// If the server that a client hashes to is full, another one takes the
        /// connection (`sh-fallback`, `mh-fallback`).
        const FALLBACK = 1 << 9;
        /// This host is one of its servers, so that its own stack accepts connections.
        const LOCAL = 1 << 10;
    }
}

/// [`Service::schedule`]: the ring's places in turn.
pub const SCHEDULE_ROUND_ROBIN: u32 = 0;
/// [`Service::schedule`]: the place of the ring that the client hashes to.
pub const SCHEDULE_HASH: u32 = 1;
/// [`Service::schedule`]: the server of the ring with the least load.
pub const SCHEDULE_LEAST_CONNECTIONS: u32 = 2;
/// [`Service::schedule`]: the server of the ring that would have the least load with
/// one more connection; only active connections count (`ip_vs_sed.c`).
pub const SCHEDULE_SHORTEST_DELAY: u32 = 3;
/// [`Service::schedule`]: the first server of the ring without an active connection, else
/// as [`SCHEDULE_SHORTEST_DELAY`] (`ip_vs_nq.c`).
pub const SCHEDULE_NEVER_QUEUE: u32 = 4;
/// [`Service::schedule`]: the first server of the ring (`ip_vs_fo.c`).
pub const SCHEDULE_FIRST: u32 = 5;
/// [`Service::schedule`]: the first server of the ring with no more active connections
/// than its weight (`ip_vs_ovf.c`).
pub const SCHEDULE_OVERFLOW: u32 = 6;

/// Number of servers that a service scheduled by connections may have: one packet compares
/// all of them.
pub const MAX_COMPARED: u32 = 256;

/// Number of places of a ring that one packet tries one after the other, at most, if the
/// server that its client hashes to is full (`IP_VS_SH_TAB_SIZE`).
pub const MAX_FALLBACKS: u32 = 256;

/// Number of inactive connections that weigh as much as an active one when servers are
/// compared by connections (`ip_vs_wlc.c`).
pub const ACTIVE_OVERHEAD: u64 = 256;

/// Hash of a client, which modulo the ring's length is its place in a ring. Directors of one
/// cluster must agree on it, whatever their versions: never change it.
#[inline(always)]
pub const fn client_hash(client: &Address, port: u16) -> u32 {
    let Address([a, b, c, d]) = *client;
    // Two rounds of the finaliser of splitmix64 (Steele, Lea, Flood 2014).
    let low = mix((c as u64) << 32 | d as u64);
    let high = mix(low ^ ((a as u64) << 32 | b as u64) ^ (port as u64) << 16);
    (high >> 32) as u32
}

/// The finaliser of splitmix64: every bit of the result depends on every bit
/// of `value`.
#[inline(always)]
pub const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// One virtual service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Service {
    /// Properties.
    pub flags: ServiceFlags,
    /// One of `SCHEDULE_…`.
    pub schedule: u32,
    /// First place of the service's ring within the generation's rings.
    pub ring_offset: u32,
    /// Places in the ring; 0 when no server can take a connection.
    pub ring_length: u32,
    /// Time for which a template is valid after the client's last packet, in nanoseconds.
    pub persistence_ns: u64,
    /// The bits of a client's address that tell clients apart.
    pub persistence_mask: Address,
}

bitflags! {
    /// Properties of a [`Server`].
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    #[repr(transparent)]
    pub struct ServerFlags: u32 {
        /// Its checks succeed and its next hop is known.
        const ALIVE = 1;
        /// Its packets are encapsulated in packets addressed to it (RFC 2003, RFC 2473).
        const TUNNEL = 1 << 2;
        /// Templates that name it are not valid; its connections are.
        const VOID_TEMPLATES = 1 << 3;
        /// It is this host: its packets pass to the host's own stack.
        const LOCAL = 1 << 4;
    }
}

/// One real server of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Server {
    /// Number of owners that the slot has had; connections and templates of an earlier
    /// owner are not valid.
    pub generation: u32,
    /// Properties.
    pub flags: ServerFlags,
    /// Interface towards the server.
    pub interface_index: u32,
    /// Addresses of the frames that go to the server.
    pub macs: Macs,
    /// Number of `tags` that such frames have.
    pub tag_count: u32,
    /// Their tags, the outer one first.
    pub tags: [VlanTag; MAX_TAGS],
    /// Share of new connections; read only by schedulers that compare servers.
    pub weight: u32,
    /// Number of connections with which the server is full, so that no scheduler gives it
    /// new ones; 0 for no limit.
    pub upper_threshold: u32,
    /// Number of connections below which a full server is given new ones again; 0 for three
    /// quarters of the upper threshold.
    pub lower_threshold: u32,
    /// Through a tunnel: the largest packet that its path takes, in bytes.
    pub mtu: u32,
    /// Through a tunnel: the server's address.
    pub tunnel_destination: Address,
    /// Through a tunnel: our address.
    pub tunnel_source: Address,
    /// Through a tunnel: the bits of our address's last word that differ from flow to flow
    /// and are 0 in `tunnel_source`, in network byte order.
    pub tunnel_source_varied: u32,
}

#[cfg(feature = "user")]
mod pod {
    use super::*;

    // SAFETY: repr(C), Copy, made of integers, without padding.
    unsafe impl aya::Pod for Geometry {}
    // SAFETY: as above.
    unsafe impl aya::Pod for TableHeader {}
    // SAFETY: as above.
    unsafe impl aya::Pod for DirectoryEntry {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Server {}
}
