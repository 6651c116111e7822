//! The registry, which the agent keeps in maps of its own: the services and servers that
//! the numbers, slots and generations in connections and templates stand for. The program
//! reads it for an operator's trace only. The next agent reads it to take over.

use bitflags::bitflags;

use crate::Address;
use crate::flow::ServerCounters;
use crate::link::{MAX_TAGS, Macs, VlanTag};

/// The layout of a set of maps; one record, written before anything else.
///
/// The layout of this record never changes, since every version of the agent reads it
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
    /// Treatment of connections whose server is gone: [`ORPHANS_RESET`], [`ORPHANS_DROP`]
    /// or [`ORPHANS_RESCHEDULE`]; 0 if an earlier agent did not write it.
    pub orphans: u8,
    /// Zero.
    pub reserved: [u8; 4],
    /// Traffic of servers that have been removed.
    pub retired: ServerCounters,
}

/// [`ServiceOwner::orphans`]: they are reset.
pub const ORPHANS_RESET: u8 = 1;
/// [`ServiceOwner::orphans`]: their packets are dropped.
pub const ORPHANS_DROP: u8 = 2;
/// [`ServiceOwner::orphans`]: they are given other servers.
pub const ORPHANS_RESCHEDULE: u8 = 3;

bitflags! {
    /// Properties of a [`ServerOwner`].
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    #[repr(transparent)]
    pub struct OwnerFlags: u32 {
        /// The slot has an owner.
        const PRESENT = 1;
        /// Its checks succeed.
        const ALIVE = 1 << 1;
        /// Its next hop is known.
        const REACHED = 1 << 2;
        /// It is reached through a tunnel.
        const TUNNEL = 1 << 3;
        /// Its next hop is a router.
        const ROUTER = 1 << 4;
        /// It is this host.
        const LOCAL = 1 << 5;
    }
}

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
    /// Properties.
    pub flags: OwnerFlags,
    /// The slot's generation.
    pub generation: u32,
    /// The generation of the next owner; kept while the slot is free.
    pub next_generation: u32,
    /// Interface towards the server.
    pub interface_index: u32,
    /// Addresses of the frames that go to the server.
    pub macs: Macs,
    /// Number of `tags` that such frames have.
    pub tag_count: u32,
    /// Their tags, the outer one first.
    pub tags: [VlanTag; MAX_TAGS],
    /// Through a tunnel: the largest packet that its path takes, in bytes.
    pub mtu: u32,
    /// Through a tunnel: our address.
    pub tunnel_source: Address,
    /// Values of the slot's counters when the server got it.
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
