//! Connections and their states.

use lb_abi::{Flow, FlowState, Timeouts};

use crate::headers::{TCP_ACK as ACK, TCP_FIN as FIN, TCP_RST as RST, TCP_SYN as SYN};
use crate::packet::Packet;
use crate::service_table::Backend;

/// State of a connection of which `packet` is the first packet.
#[inline(always)]
pub(crate) fn first_state(packet: &Packet) -> u32 {
    let state = if packet.is_udp() {
        FlowState::Udp
    } else {
        FlowState::SynReceived
    };
    state as u32
}

/// A connection that has just been given to `backend`.
#[inline(always)]
pub(crate) fn new(packet: &Packet, backend: Backend, now_ns: u64) -> Flow {
    Flow {
        last_seen_ns: now_ns,
        rearm_ns: 0,
        server: backend.slot,
        generation: backend.server.generation,
        // 0 in a SYN.
        awaited_sequence: if packet.is_acknowledging() {
            packet.acknowledged
        } else {
            0
        },
        state: first_state(packet) as u16,
        taken_over: u16::from(!packet.is_syn() && !packet.is_udp()),
    }
}

/// True if the connection has been idle for longer than its state allows.
#[inline(always)]
pub(crate) fn is_expired(flow: &Flow, timeouts: &Timeouts, now_ns: u64) -> bool {
    let timeout_ns = timeouts
        .by_state_ns
        .get(usize::from(flow.state))
        .copied()
        .unwrap_or(0);
    // Signed, since another CPU may have refreshed the flow a moment later than `now_ns`.
    now_ns.wrapping_sub(flow.last_seen_ns) as i64 > timeout_ns as i64
}

/// True if the client has closed the connection, so that a SYN opens a new one in its
/// place.
#[inline(always)]
pub(crate) fn is_over(state: u32) -> bool {
    state == FlowState::FinWait as u32
        || state == FlowState::TimeWait as u32
        || state == FlowState::Closed as u32
}

/// State after `packet`: the "input only" table of IPVS (`tcp_states` of
/// ip_vs_proto_tcp.c), in which RST takes precedence over SYN, SYN over FIN, FIN over ACK.
#[inline(always)]
pub(crate) fn next_state(state: u32, packet: &Packet) -> u32 {
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
