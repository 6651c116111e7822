//! The state that packets leave: connections, templates, counters.

use crate::Address;

/// A connection's client and service.
///
/// The service's number stands for address and protocol. It stands for the port as well,
/// except in a service that has all ports: there a client may have connections from one
/// port to several ports of the service.
///
/// Aligned, since the compiler writes it in words of 8 bytes, which the verifier requires
/// to be aligned on the stack.
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

/// Number of services that [`FlowKey::service`] can tell apart.
pub const MAX_SERVICES: u32 = 1 << 16;

/// States of a connection.
///
/// In direct routing the director sees the client's packets only, so that these are the
/// transitions of IPVS's "input only" table (`tcp_states` of ip_vs_proto_tcp.c):
///
/// ```text
///   SYN ──▶ SynReceived ──ACK──▶ Established ──FIN──▶ FinWait
///                │
///                └──FIN──▶ TimeWait                any ──RST──▶ Closed
///
///   datagram ──▶ Udp
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FlowState {
    /// The client's SYN was seen.
    SynReceived = 0,
    /// The client has acknowledged the server's SYN.
    Established = 1,
    /// The client's FIN was seen.
    FinWait = 2,
    /// The client's FIN was seen before the handshake was complete.
    TimeWait = 3,
    /// The client's RST was seen.
    Closed = 4,
    /// The only state of a UDP flow.
    Udp = 5,
}

/// Number of [`FlowState`]s.
pub const STATES: usize = 6;

/// Idle time after which a connection expires, in nanoseconds.
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
    /// Time of the last packet (CLOCK_MONOTONIC, coarse).
    pub last_seen_ns: u64,
    /// Time from which on a packet re-arms the client's template.
    pub rearm_ns: u64,
    /// Slot of the server.
    pub server: u32,
    /// [`Server::generation`](crate::Server::generation) when scheduled.
    pub generation: u32,
    /// Last acknowledgement number of the client: the sequence number that it awaits, and
    /// the only one with which its stack accepts a reset (RFC 5961 §3.2).
    pub awaited_sequence: u32,
    /// A [`FlowState`].
    pub state: u16,
    /// 1 if the connection was there before its first packet here: another director has
    /// scheduled it. Else 0.
    pub taken_over: u16,
}

/// A template's client, or network of clients, and service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C)]
pub struct TemplateKey {
    /// The client's address, masked.
    pub client: Address,
    /// Number of the service.
    pub service: u32,
}

/// A persistence template: the server that a client is tied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Template {
    /// Time until which it is valid (CLOCK_MONOTONIC, coarse).
    pub expires_ns: u64,
    /// Slot of the server.
    pub server: u32,
    /// [`Server::generation`](crate::Server::generation) when scheduled.
    pub generation: u32,
}

/// The properties that the fragments of one packet share (RFC 791 §3.2, RFC 8200 §4.5).
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

/// [`FragmentTarget::server`]: the first fragment was passed to the kernel's stack.
pub const TO_THE_STACK: u32 = u32::MAX;

/// The server that a packet's first fragment was forwarded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct FragmentTarget {
    /// Time until which the other fragments follow (CLOCK_MONOTONIC, coarse).
    pub expires_ns: u64,
    /// Slot of the server, or [`TO_THE_STACK`].
    pub server: u32,
    /// [`Server::generation`](crate::Server::generation) at that time.
    pub generation: u32,
}

/// Number of live connections of one server slot: the sum of the changes that the program
/// has seen, or the agent's correction of that sum. Arithmetic wraps.
///
/// Active are the states of IPVS's `tcp_state_active_table` (ip_vs_proto_tcp.c), and UDP
/// flows. Connections whose handshake is not complete are active: otherwise all connections
/// of a burst would go to one server, which has no active ones until the first handshake is
/// complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Load {
    /// Connections that neither side has begun to close, and UDP flows.
    pub active: u64,
    /// All others.
    pub inactive: u64,
}

/// Never below 0: the two parts are read at different times.
#[inline(always)]
const fn total(seen: u64, correction: u64) -> u64 {
    let sum = seen.wrapping_add(correction).cast_signed();
    if sum < 0 { 0 } else { sum.cast_unsigned() }
}

impl FlowState {
    /// True if connections in `state` are active.
    #[inline(always)]
    pub const fn is_active(state: u32) -> bool {
        state == Self::SynReceived as u32
            || state == Self::Established as u32
            || state == Self::Udp as u32
    }
}

impl Load {
    /// The true load, if this is the sum of the changes that were seen.
    #[inline(always)]
    #[must_use]
    pub const fn corrected(&self, correction: &Self) -> Self {
        Self {
            active: total(self.active, correction.active),
            inactive: total(self.inactive, correction.inactive),
        }
    }

    /// Number of all connections, which
    /// [`Server::upper_threshold`](crate::Server::upper_threshold) limits.
    #[inline(always)]
    pub const fn total(&self) -> u64 {
        self.active + self.inactive
    }

    /// True if a server that was full, with these thresholds, takes connections again
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
