//! Connections and their states.

use lb_abi::{Flow, FlowKey, FlowState, Timeouts, UDP};

use crate::headers::{TCP_ACK as ACK, TCP_FIN as FIN, TCP_RST as RST, TCP_SYN as SYN};
use crate::parse::Packet;
use crate::service_table::{Backend, ServiceRef};

impl Packet {
    /// Whether the packet is a TCP SYN and nothing else.
    #[inline(always)]
    pub fn is_syn(&self) -> bool {
        self.tcp_flags & (FIN | SYN | RST | ACK) == SYN
    }

    #[inline(always)]
    pub fn is_reset(&self) -> bool {
        self.tcp_flags & RST != 0
    }

    #[inline(always)]
    pub fn is_udp(&self) -> bool {
        self.protocol == UDP
    }

    #[inline(always)]
    pub fn is_acknowledging(&self) -> bool {
        self.tcp_flags & ACK != 0
    }

    /// Whether the packet may change the state of an established connection.
    #[inline(always)]
    pub fn begins_or_ends(&self) -> bool {
        self.tcp_flags & (SYN | FIN | RST) != 0
    }

    /// Whether the client ends the connection with this packet.
    #[inline(always)]
    pub fn ends(&self) -> bool {
        self.tcp_flags & (FIN | RST) != 0
    }

    #[inline(always)]
    pub fn flow_key(&self, service: ServiceRef) -> FlowKey {
        FlowKey {
            client: self.client,
            port: self.client_port,
            service: service.number as u16,
            service_port: self.service_port,
            reserved: 0,
        }
    }
}

/// The state of a connection of which `packet` is the first.
#[inline(always)]
pub fn first_state(packet: &Packet) -> u32 {
    let state = if packet.is_udp() {
        FlowState::Udp
    } else {
        FlowState::SynReceived
    };
    state as u32
}

/// A connection that has just been given to `backend`.
#[inline(always)]
pub fn new(packet: &Packet, backend: Backend, now_ns: u64) -> Flow {
    Flow {
        last_seen_ns: now_ns,
        rearm_ns: 0,
        server: backend.slot,
        generation: backend.server.generation,
        awaited_sequence: 0,
        state: first_state(packet),
    }
}

/// Whether the connection has been silent for longer than its state allows.
#[inline(always)]
pub fn is_expired(flow: &Flow, timeouts: &Timeouts, now_ns: u64) -> bool {
    let timeout_ns = timeouts
        .by_state_ns
        .get(flow.state as usize)
        .copied()
        .unwrap_or(0);
    now_ns.wrapping_sub(flow.last_seen_ns) as i64 > timeout_ns as i64
}

/// Whether the client is done with the connection, so that a SYN opens a new
/// one in its place.
#[inline(always)]
pub fn is_over(state: u32) -> bool {
    state == FlowState::FinWait as u32
        || state == FlowState::TimeWait as u32
        || state == FlowState::Closed as u32
}

/// The state after `packet`: the "input only" table of IPVS, where RST counts
/// before SYN, SYN before FIN, FIN before ACK.
#[inline(always)]
pub fn next_state(state: u32, packet: &Packet) -> u32 {
    const SYN_RECEIVED: u32 = FlowState::SynReceived as u32;
    const ESTABLISHED: u32 = FlowState::Established as u32;
    const TIME_WAIT: u32 = FlowState::TimeWait as u32;

    let flags = packet.tcp_flags;
    if packet.is_udp() {
        state
    } else if flags & RST != 0 {
        FlowState::Closed as u32
    } else if flags & SYN != 0 {
        state
    } else if flags & FIN != 0 {
        match state {
            SYN_RECEIVED => TIME_WAIT,
            ESTABLISHED => FlowState::FinWait as u32,
            over => over,
        }
    } else if flags & ACK != 0 && state == SYN_RECEIVED {
        ESTABLISHED
    } else {
        state
    }
}
