//! The table of services: written by the agent, read for every packet.

use crate::Address;
use crate::flow::Timeouts;
use crate::peer::PeerFilter;

/// Generations of the table of services that its maps hold, one after the other:
/// the active one, and the one that the agent writes next.
pub const TABLE_GENERATIONS: u32 = 2;

/// A service lies at most this many places behind its home in the directory.
/// The agent picks a seed for which that holds.
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
    /// Whether there are services with [`ALL_PORTS`]: 0 or 1.
    pub all_ports: u64,
    /// How long a connection may be silent.
    pub timeouts: Timeouts,
    /// Source MAC addresses of frames that another director may have balanced
    /// already; [`maps::PEERS`](crate::maps::PEERS) says which have been.
    pub peers: PeerFilter,
}

/// [`DirectoryEntry::port`] of a service that has all ports of its address which
/// no other service has. Its clients stick to their servers.
pub const ALL_PORTS: u16 = 0;

/// Added to [`DirectoryEntry::protocol`], with a port of 0: where fragments that
/// carry no ports look for the service that they must be for. There is such an
/// entry where an address has one service of the protocol only, and clients
/// stick to its servers.
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
    /// IP protocol number, which may stand [`WITHOUT_PORTS`]; 0 marks an empty
    /// place.
    pub protocol: u8,
    /// Zero.
    pub reserved: u8,
    /// Number of the service.
    pub number: u32,
    /// The service itself.
    pub service: Service,
}

const _: () = assert!(size_of::<DirectoryEntry>() == 64);

/// Where in a directory of `places` (a power of two) a service is looked for
/// first. Multiplicative hashing (Knuth, TAOCP 6.4): a few instructions, and
/// the agent chooses `seed` so that no chain is long. Each half of the address
/// has a multiplication of its own, so that what collides does so under few
/// seeds; the first half is 0 in IPv4. The place is made of the highest bits of
/// the products, the only ones that depend on all bits of the factors.
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

/// [`Service::flags`]: clients stick to their server.
pub const SERVICE_PERSISTENT: u32 = 1;
/// [`Service::flags`]: a TCP packet in the middle of a connection that we do
/// not know is scheduled like a SYN (`sloppy_tcp` of IPVS).
pub const SERVICE_SLOPPY: u32 = 1 << 2;
/// [`Service::flags`]: the client's port is hashed along with its address.
pub const SERVICE_HASH_PORT: u32 = 1 << 3;
/// [`Service::flags`]: a dead server's connections are dropped in silence.
pub const SERVICE_DROP_ORPHANS: u32 = 1 << 4;
/// [`Service::flags`]: a dead server's connections are reset.
pub const SERVICE_RESET_ORPHANS: u32 = 1 << 5;
/// [`Service::flags`]: a dead server's flows are given another server.
pub const SERVICE_RESCHEDULE_ORPHANS: u32 = 1 << 6;

/// [`Service::flags`]: every packet is scheduled by itself, and no connection is
/// entered (`ops`); only in services over UDP.
pub const SERVICE_ONE_PACKET: u32 = 1 << 7;
/// [`Service::flags`]: some of its servers have thresholds.
pub const SERVICE_LIMITED: u32 = 1 << 8;
/// [`Service::flags`]: where the server that a client hashes to is full, another
/// takes it (`sh-fallback`, `mh-fallback`).
pub const SERVICE_FALLBACK: u32 = 1 << 9;

/// [`Service::schedule`]: the ring's places in turn, for everybody.
pub const SCHEDULE_ROUND_ROBIN: u32 = 0;
/// [`Service::schedule`]: the ring's place that the client hashes to.
pub const SCHEDULE_HASH: u32 = 1;
/// [`Service::schedule`]: of the ring's places the least loaded.
pub const SCHEDULE_LEAST_CONNECTIONS: u32 = 2;
/// [`Service::schedule`]: of the ring's places the one where a connection more
/// would be the least load; looks at active connections only (`ip_vs_sed.c`).
pub const SCHEDULE_SHORTEST_DELAY: u32 = 3;
/// [`Service::schedule`]: the first of the ring's places without an active
/// connection, else as [`SCHEDULE_SHORTEST_DELAY`] (`ip_vs_nq.c`).
pub const SCHEDULE_NEVER_QUEUE: u32 = 4;
/// [`Service::schedule`]: the first of the ring's places (`ip_vs_fo.c`).
pub const SCHEDULE_FIRST: u32 = 5;
/// [`Service::schedule`]: the first of the ring's places with no more active
/// connections than it weighs (`ip_vs_ovf.c`).
pub const SCHEDULE_OVERFLOW: u32 = 6;

/// Servers that a service scheduled by connections may have: what one packet
/// can compare.
pub const MAX_COMPARED: u32 = 256;

/// Places of a ring that one packet tries in a row at most, where the server that
/// its client hashes to is full (`IP_VS_SH_TAB_SIZE`).
pub const MAX_FALLBACKS: u32 = 256;

/// What an active connection weighs against another when servers are compared by
/// connections (`ip_vs_wlc.c`).
pub const ACTIVE_OVERHEAD: u64 = 256;

/// Where in a ring a client is looked for, before the ring's length is taken
/// into account. Several directors must agree on it: never change it.
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
    /// A combination of `SERVICE_…`.
    pub flags: u32,
    /// One of `SCHEDULE_…`.
    pub schedule: u32,
    /// First place of the service's ring within the generation's rings.
    pub ring_offset: u32,
    /// Places in the ring; 0 when no server can take a connection.
    pub ring_length: u32,
    /// How long a template outlives the client's last packet, in nanoseconds.
    pub persistence_ns: u64,
    /// Which bits of a client's address tell clients apart.
    pub persistence_mask: Address,
}

/// [`Server::flags`]: its checks succeed and its next hop is known.
pub const SERVER_ALIVE: u32 = 1;
/// [`Server::flags`]: packets are put into others addressed to the server
/// (RFC 2003, RFC 2473).
pub const SERVER_TUNNEL: u32 = 1 << 2;
/// [`Server::flags`]: templates that name it are void; its connections are not.
pub const SERVER_VOID_TEMPLATES: u32 = 1 << 3;

/// VLAN tags that a frame may carry (IEEE 802.1ad).
pub const MAX_TAGS: usize = 2;

/// One real server of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Server {
    /// Counts the owners of this slot; a connection or template of an earlier
    /// owner is void.
    pub generation: u32,
    /// A combination of `SERVER_…`.
    pub flags: u32,
    /// Interface towards the server.
    pub interface_index: u32,
    /// Addresses of the frames that go to the server.
    pub macs: Macs,
    /// How many of `tags` such frames carry.
    pub tag_count: u32,
    /// Their tags, the outer one first.
    pub tags: [Tag; MAX_TAGS],
    /// Share of new connections; only looked at where servers are compared.
    pub weight: u32,
    /// Connections with which it is full and is given no new ones by a scheduler;
    /// 0 for no limit.
    pub upper_threshold: u32,
    /// Connections below which it is given new ones again; 0 for three quarters
    /// of the upper threshold.
    pub lower_threshold: u32,
    /// Through a tunnel: the largest packet that its path takes, in bytes.
    pub mtu: u32,
    /// Through a tunnel: the server's address.
    pub tunnel_destination: Address,
    /// Through a tunnel: our address.
    pub tunnel_source: Address,
    /// Through a tunnel: the bits of the last word of our address that differ from
    /// flow to flow, which are 0 there. In network byte order.
    pub tunnel_source_varied: u32,
}

/// Interfaces whose addresses the program knows, at most.
pub const MAX_INTERFACES: usize = 64;

/// An interface of this host that the program is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Interface {
    /// Its address.
    pub mac: Mac,
    /// Zero.
    pub reserved: u16,
}

/// A VLAN tag as it lies in a frame: the type that announces it, then
/// priority and VLAN number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Tag {
    /// 0x8100 (IEEE 802.1Q) or 0x88A8 (802.1ad), in network byte order.
    pub ethertype: u16,
    /// Priority and VLAN number, in network byte order.
    pub control: u16,
}

/// The first twelve bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Macs {
    /// The next hop's address.
    pub destination: Mac,
    /// Our address.
    pub source: Mac,
}

/// A MAC address as it lies in a frame, in the two pieces that are quickest
/// to compare and copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C, packed(2))]
pub struct Mac {
    first: u32,
    last: u16,
}

impl Mac {
    /// Two stores, where a plain assignment may become six.
    #[inline(always)]
    pub const fn copy_from(&mut self, other: &Self) {
        self.first = other.first;
        self.last = other.last;
    }

    /// A number that depends on all bits of the address: the highest bits of a
    /// product (see [`directory_home`]).
    #[inline(always)]
    pub const fn hash(self) -> u16 {
        let bits = (self.first as u64) << 32 | self.last as u64;
        (bits.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48) as u16
    }
}

impl From<[u8; 6]> for Mac {
    fn from([a, b, c, d, e, f]: [u8; 6]) -> Self {
        Self {
            first: u32::from_ne_bytes([a, b, c, d]),
            last: u16::from_ne_bytes([e, f]),
        }
    }
}

impl From<Mac> for [u8; 6] {
    fn from(mac: Mac) -> Self {
        let ([a, b, c, d], [e, f]) = (mac.first.to_ne_bytes(), mac.last.to_ne_bytes());
        [a, b, c, d, e, f]
    }
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
    // SAFETY: as above.
    unsafe impl aya::Pod for Interface {}
}
