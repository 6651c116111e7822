//! What the packet path remembers: connections, templates, counters.

use crate::Address;

/// Who a connection belongs to: the client's end and the service.
///
/// Twenty bytes tell as much as the usual five-tuple, since the service's
/// number stands for address, port and protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C)]
pub struct FlowKey {
    /// The client's address.
    pub client: Address,
    /// The client's port, in network byte order.
    pub port: u16,
    /// Number of the service.
    pub service: u16,
}

/// Services that [`FlowKey::service`] can tell apart.
pub const MAX_SERVICES: u32 = 1 << 16;

/// States of a connection of which only the client's half is seen: the
/// "input only" table of IPVS (`tcp_states` of ip_vs_proto_tcp.c).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FlowState {
    /// The client's SYN was seen.
    SynReceived = 0,
    /// The client has answered the server's SYN.
    Established = 1,
    /// The client's FIN was seen.
    FinWait = 2,
    /// FIN before the handshake was over.
    TimeWait = 3,
    /// The client's RST was seen.
    Closed = 4,
    /// UDP has no states.
    Udp = 5,
}

/// Number of [`FlowState`]s.
pub const STATES: usize = 6;

/// How long a connection may be silent in each [`FlowState`] before it counts
/// as gone, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Timeouts {
    /// Indexed by [`FlowState`].
    pub by_state_ns: [u64; STATES],
}

/// One connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Flow {
    /// When the last packet came (CLOCK_MONOTONIC, coarse).
    pub last_seen_ns: u64,
    /// From when on a packet re-arms the client's template.
    pub rearm_ns: u64,
    /// Slot of the server.
    pub server: u32,
    /// [`Server::generation`](crate::Server::generation) when scheduled.
    pub generation: u32,
    /// What the client last acknowledged: the sequence number it awaits, and
    /// the only one with which its stack accepts a reset (RFC 5961 §3.2).
    pub awaited_sequence: u32,
    /// A [`FlowState`].
    pub state: u32,
}

/// Who a template belongs to: a client, or a network of clients, of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C)]
pub struct TemplateKey {
    /// The client's address, masked.
    pub client: Address,
    /// Number of the service.
    pub service: u32,
}

/// Which server a client sticks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Template {
    /// Until when it holds (CLOCK_MONOTONIC, coarse).
    pub expires_ns: u64,
    /// Slot of the server.
    pub server: u32,
    /// [`Server::generation`](crate::Server::generation) when scheduled.
    pub generation: u32,
}

/// What the fragments of one packet share (RFC 791 §3.2, RFC 8200 §4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C)]
pub struct FragmentKey {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Identification, as it lies in the packet.
    pub identification: u32,
    /// IP protocol number; 0 in IPv6, where fragments of one packet may name
    /// different ones (RFC 8200 §4.5).
    pub protocol: u32,
}

/// [`FragmentTarget::server`]: none, the stack has got it.
pub const TO_THE_STACK: u32 = u32::MAX;

/// Where a packet's first fragment went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct FragmentTarget {
    /// Until when the others follow (CLOCK_MONOTONIC, coarse).
    pub expires_ns: u64,
    /// Slot of the server, or [`TO_THE_STACK`].
    pub server: u32,
    /// [`Server::generation`](crate::Server::generation) at that time.
    pub generation: u32,
}

/// Live connections of one server slot: gains and losses seen by the packet
/// path, or the agent's correction of their sum. Arithmetic wraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Load {
    /// ESTABLISHED connections and UDP flows.
    pub active: u64,
    /// All others.
    pub inactive: u64,
}

/// Traffic of one server slot on one CPU; never reset, so that readers take
/// differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct ServerCounters {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets forwarded.
    pub packets: u64,
    /// Bytes forwarded, from the IP header on.
    pub bytes: u64,
}

#[cfg(feature = "user")]
mod pod {
    use super::*;

    // SAFETY: repr(C), Copy, made of integers, without padding.
    unsafe impl aya::Pod for FlowKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Flow {}
    // SAFETY: as above.
    unsafe impl aya::Pod for TemplateKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Template {}
    // SAFETY: as above.
    unsafe impl aya::Pod for FragmentKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for FragmentTarget {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ServerCounters {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Load {}
}
