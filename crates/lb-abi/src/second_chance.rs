//! Maps of the program that gives packets a second chance at a real server.
//!
//! Directors behind ECMP share no state. A packet of a connection that another director
//! has scheduled, by an earlier table of servers, may therefore reach a real server that
//! does not have the connection. The program passes it on to the server that the table
//! before named for the client. Which server that is has been worked out beforehand, for
//! each place of the table: the program looks it up.
//!
//! The servers that tables name for a place stand in one order, the newest table's first,
//! which all servers know. A packet goes along it once, from its beginning, so that it can
//! come from a director that lags behind, too, and never goes round in circles.

use crate::Address;
use crate::link::Mac;

/// [`VirtualEndpoint`] → [`Places`].
pub const SERVICES: &str = "SERVICES";
/// [`Next`] × places, those of each service in a row.
pub const PLACES: &str = "PLACES";
/// [`Target`] → 0: hosts that pass packets on.
pub const PASSERS: &str = "PASSERS";
/// [`Target`] × [`MAX_TARGETS`].
pub const TARGETS: &str = "TARGETS";
/// One `u64` per CPU and [`Counter`].
pub const COUNTERS: &str = "COUNTERS";

/// Maximum number of virtual services.
pub const MAX_ENDPOINTS: u32 = 256;
/// Maximum number of servers that packets are passed on to.
pub const MAX_TARGETS: u32 = 1 << 12;
/// Generations of tables that are told apart when packets are counted: those before the
/// last one count as the last.
pub const COUNTED_GENERATIONS: u32 = 8;

/// Address and port of a virtual service of TCP.
///
/// Aligned, since the compiler writes it in words of 8 bytes, which the verifier requires
/// to be aligned on the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C, align(8))]
pub struct VirtualEndpoint {
    /// The address.
    pub address: Address,
    /// The port, in network byte order.
    pub port: u16,
    /// Zero.
    pub reserved: [u16; 3],
}

/// The places of a service within [`PLACES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Places {
    /// The first one.
    pub first: u32,
    /// Their number: that of the directors' Maglev table.
    pub count: u32,
    /// 1 if the client's port is hashed along with its address, else 0.
    pub hash_port: u32,
}

/// What a place holds: the servers to which the packets of its clients are passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Next {
    /// Those of packets from a director: to the first server in the order, or the second one
    /// if this is the first.
    pub from_director: NextServer,
    /// Those of packets that another server has passed on: to the one after this one.
    pub from_server: NextServer,
}

/// A server that comes next, and the generation of the table that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct NextServer(pub u32);

impl NextServer {
    /// No server is left: the packet is for the stack.
    pub const NONE: Self = Self(0);

    /// The server at `target` of [`TARGETS`], below [`MAX_TARGETS`], named by the table
    /// `generation` generations before the directors' newest.
    pub const fn new(target: u32, generation: u32) -> Self {
        Self((target + 1) | (generation << 16))
    }

    /// The server's place in [`TARGETS`]; `None` if no server is left.
    #[inline(always)]
    pub const fn target(self) -> Option<u32> {
        (self.0 & 0xffff).checked_sub(1)
    }

    /// See [`Self::new`].
    #[inline(always)]
    pub const fn generation(self) -> u32 {
        self.0 >> 16
    }
}

/// A server that packets are passed on to. Aligned as [`VirtualEndpoint`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C, align(8))]
pub struct Target {
    /// Its MAC address.
    pub mac: Mac,
    /// Zero.
    pub reserved: u16,
}

/// What is counted. Packets of connections that this server has are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Counter {
    /// Belongs to no connection here, and no other server is left: the stack answers.
    NoTarget = 0,
    /// Would be passed on, but has no hop left.
    HopsExceeded = 1,
    /// Passed on to a server of the newest table; the counters of the generations before
    /// it follow.
    PassedOn = 2,
}

/// Number of counters.
pub const COUNTER_COUNT: u32 = Counter::PassedOn as u32 + COUNTED_GENERATIONS;

#[cfg(feature = "user")]
mod pod {
    use super::*;

    // SAFETY: repr(C), Copy, made of integers, without padding.
    unsafe impl aya::Pod for VirtualEndpoint {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Places {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Next {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Target {}
}
