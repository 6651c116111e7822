//! What the packet path remembers: connections, templates, counters.

use crate::Address;

/// Who a connection belongs to: the client's end and the service.
///
/// The service's number stands for address and protocol. It stands for the port
/// as well but where a service has all ports: there connections from one port of
/// a client to several ports of the service are several connections.
///
/// Aligned, since the compiler writes it in words, of which the verifier wants
/// those on the stack aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C, align(8))]
pub struct FlowKey {
    /// The client's address.
    pub client: Address,
    /// The client's port, in network byte order.
    pub port: u16,
    /// Number of the service.
    pub service: u16,
    /// The port that the client has connected to, in network byte order.
    pub service_port: u16,
    /// Zero.
    pub reserved: u16,
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
///
/// Which connections are active is IPVS's `tcp_state_active_table`
/// (ip_vs_proto_tcp.c), and UDP flows. Those whose handshake goes on are: or all
/// connections of a burst would go to one server, which seems idle until the first
/// of them is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Load {
    /// Connections that neither side has begun to close, and UDP flows.
    pub active: u64,
    /// All others.
    pub inactive: u64,
}

#[inline(always)]
const fn total(seen: u64, correction: u64) -> u64 {
    let sum = seen.wrapping_add(correction).cast_signed();
    if sum < 0 { 0 } else { sum.cast_unsigned() }
}

impl FlowState {
    /// Whether connections in `state` are active.
    #[inline(always)]
    pub const fn is_active(state: u32) -> bool {
        state == Self::SynReceived as u32
            || state == Self::Established as u32
            || state == Self::Udp as u32
    }
}

impl Load {
    /// What there is to do, where this is what was seen of it.
    #[inline(always)]
    #[must_use]
    pub const fn corrected(&self, correction: &Self) -> Self {
        Self {
            active: total(self.active, correction.active),
            inactive: total(self.inactive, correction.inactive),
        }
    }

    /// All connections: what [`Server::upper_threshold`](crate::Server::upper_threshold)
    /// is about.
    #[inline(always)]
    pub const fn total(&self) -> u64 {
        self.active + self.inactive
    }

    /// Whether a server of these thresholds that was full takes connections again
    /// (`ip_vs_unbind_dest`, ip_vs_conn.c).
    #[inline(always)]
    pub const fn has_room(&self, upper: u32, lower: u32) -> bool {
        let total = self.total();
        if lower == 0 {
            total * 4 < upper as u64 * 3
        } else {
            total < lower as u64
        }
    }
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
