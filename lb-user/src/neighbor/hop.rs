//! The hop by which frames reach an address.

use std::net::IpAddr;

use lb_model::NextHop;

/// The hop towards an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hop {
    /// Frames reach it.
    Ready {
        /// The Ethernet hop.
        next_hop: NextHop,
        /// Name of the interface that the route leaves by.
        interface: String,
        /// Needed for tunnels; `None` where all that is known is the hop by which an
        /// earlier agent reached the address without one.
        path: Option<Path>,
    },
    /// Frames do not reach it.
    NotReady {
        /// Why not.
        reason: String,
        /// True while that is still being found out.
        is_pending: bool,
    },
}

impl Hop {
    /// None, and nothing that is being asked will change that.
    pub fn none(reason: impl Into<String>) -> Self {
        Self::NotReady {
            reason: reason.into(),
            is_pending: false,
        }
    }

    /// None yet.
    pub fn pending(reason: impl Into<String>) -> Self {
        Self::NotReady {
            reason: reason.into(),
            is_pending: true,
        }
    }

    /// True if frames can be sent by it.
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready { .. })
    }
}

/// The path of our own packets to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// Our address on it.
    pub source: IpAddr,
    /// The largest packet that it takes, in bytes.
    pub mtu: u16,
}
