//! Who is who, kept by the agent in maps of its own: what the numbers, slots
//! and generations in connections and templates mean. The packet path never
//! looks here, but for an operator's trace. A later agent reads it, and carries on.

use crate::Address;
use crate::flow::ServerCounters;
use crate::service_table::{MAX_TAGS, Macs, Tag};

/// What a set of maps looks like; one record, written before anything else.
///
/// Its own layout never changes: it is what any version of the agent reads
/// first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Layout {
    /// [`LAYOUT_VERSION`](crate::LAYOUT_VERSION).
    pub version: u32,
    /// [`MEMORY_VERSION`](crate::MEMORY_VERSION).
    pub memory_version: u32,
}

/// The owner of a service number; protocol 0 marks a number that is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct ServiceOwner {
    /// Virtual address.
    pub address: Address,
    /// Port, in network byte order.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// What becomes of connections whose server is gone: one of
    /// [`ORPHANS_RESET`], [`ORPHANS_DROP`], [`ORPHANS_RESCHEDULE`]; 0 where that
    /// was not written down.
    pub orphans: u8,
    /// Zero.
    pub reserved: [u8; 4],
    /// Traffic of servers that have left.
    pub retired: ServerCounters,
}

/// [`ServiceOwner::orphans`]: their clients are told.
pub const ORPHANS_RESET: u8 = 1;
/// [`ServiceOwner::orphans`]: their packets are dropped.
pub const ORPHANS_DROP: u8 = 2;
/// [`ServiceOwner::orphans`]: they go to other servers.
pub const ORPHANS_RESCHEDULE: u8 = 3;

/// [`ServerOwner::flags`]: the slot has an owner.
pub const OWNER_PRESENT: u32 = 1;
/// [`ServerOwner::flags`]: its checks succeed.
pub const OWNER_ALIVE: u32 = 1 << 1;
/// [`ServerOwner::flags`]: its next hop is known.
pub const OWNER_REACHED: u32 = 1 << 2;
/// [`ServerOwner::flags`]: it is reached through a tunnel.
pub const OWNER_TUNNEL: u32 = 1 << 3;
/// [`ServerOwner::flags`]: its next hop is a router.
pub const OWNER_ROUTER: u32 = 1 << 4;

/// The owner of a server slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct ServerOwner {
    /// Its address.
    pub address: Address,
    /// Its port, in network byte order.
    pub port: u16,
    /// Number of its service.
    pub service: u16,
    /// A combination of `OWNER_…`.
    pub flags: u32,
    /// The slot's generation.
    pub generation: u32,
    /// The generation of the next owner; kept while the slot is free.
    pub next_generation: u32,
    /// Interface towards the server.
    pub interface_index: u32,
    /// Addresses of the frames that go to the server.
    pub macs: Macs,
    /// How many of `tags` such frames carry.
    pub tag_count: u32,
    /// Their tags, the outer one first.
    pub tags: [Tag; MAX_TAGS],
    /// Through a tunnel: the largest packet that its path takes, in bytes.
    pub mtu: u32,
    /// Through a tunnel: our address.
    pub tunnel_source: Address,
    /// What the slot's counters said when the server got it.
    pub baseline: ServerCounters,
}

#[cfg(feature = "user")]
mod pod {
    use super::*;

    // SAFETY: repr(C), Copy, made of integers, without padding.
    unsafe impl aya::Pod for Layout {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ServiceOwner {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ServerOwner {}
}

// 16 + 4 + 4 + 24; 16 + 4 + 5 words + 12 of MACs + 8 of tags + one word + 16 + 24.
const _: () = assert!(size_of::<ServiceOwner>() == 48);
const _: () = assert!(size_of::<ServerOwner>() == 104);
