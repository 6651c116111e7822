//! The changes of one step from state to state.

use std::net::SocketAddr;

use lb_model::{OrphanPolicy, Protocol};

/// Slot and generation of a server.
pub(crate) type ServerId = (u32, u32);

/// The changes that [`Dataplane::apply`](super::Dataplane::apply) had to make; all zero
/// when the state was there already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Services set up.
    pub services_added: usize,
    /// Services taken away.
    pub services_removed: usize,
    /// Real servers that joined a service.
    pub servers_added: usize,
    /// Real servers that left a service; their connections are void.
    pub servers_removed: usize,
    /// Servers that have died or were removed, and whose connections are void.
    pub removed_servers: Vec<RemovedServer>,
    /// Map entries written.
    pub entries_written: usize,
}

/// A server that has died or was removed, and whose connections are void since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedServer {
    /// Protocol of its service.
    pub protocol: Protocol,
    /// Address and port of its service.
    pub service: SocketAddr,
    /// The server.
    pub server: SocketAddr,
    /// The policy for its connections.
    pub orphans: OrphanPolicy,
    pub(super) id: ServerId,
}
