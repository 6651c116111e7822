//! Which real server a packet belongs to: the balancer itself.
//!
//! A service? – a known connection? – else, if the packet opens one: a
//! persistent client? – else the scheduler.

use lb_common::{Flow, FlowKey, FlowState, Reason};

use crate::frame::Frame;
use crate::maps::{FLOWS, HALF_OPEN};
use crate::parse::Packet;
use crate::service::{Chosen, Description, Found};
use crate::transmit::Verdict;
use crate::{clock, count, flow, persistence, schedule, transmit};

/// Judges a packet.
#[inline(always)]
pub fn packet(frame: &Frame, packet: &Packet) -> Verdict {
    let Some(description) = Description::active() else {
        return Verdict::pass(Reason::NotAService);
    };
    let Some(found) = description.service(packet) else {
        return Verdict::pass(Reason::NotAService);
    };
    let visit = Visit {
        frame,
        packet,
        description,
        found,
        key: packet.flow_key(found),
        now_ns: clock::now_ns(),
    };
    visit.verdict()
}

/// A packet on its way through the tables of its service.
struct Visit<'a> {
    frame: &'a Frame<'a>,
    packet: &'a Packet,
    description: Description,
    found: Found,
    key: FlowKey,
    now_ns: u64,
}

impl Visit<'_> {
    #[inline(always)]
    fn verdict(&self) -> Verdict {
        if let Some(flow) = FLOWS.get_ptr_mut(&self.key) {
            // SAFETY: a map value. The kernel may give an evicted entry to
            // another connection while we look; then one packet of this one
            // refreshes that one, and no more.
            let flow = unsafe { &mut *flow };
            if let Some(verdict) = self.established(flow) {
                return verdict;
            }
            let _ = FLOWS.remove(&self.key);
        } else if let Some(flow) = HALF_OPEN.get_ptr_mut(&self.key) {
            // SAFETY: as above.
            let flow = unsafe { &mut *flow };
            if let Some(verdict) = self.half_open(flow) {
                return verdict;
            }
        }
        if self.packet.opens() {
            self.open()
        } else {
            Verdict::pass(Reason::NoConnection)
        }
    }

    /// A packet of a connection; `None` when that one is history and this
    /// packet must find itself another.
    #[inline(always)]
    fn established(&self, flow: &mut Flow) -> Option<Verdict> {
        if self.is_history(flow) {
            return None;
        }
        let chosen = match self.server_of(flow) {
            Ok(chosen) => chosen,
            Err(verdict) => return verdict,
        };
        self.touch(flow);
        if self.found.is_persistent() && (self.now_ns >= flow.rearm_ns || self.packet.ends()) {
            flow.rearm_ns = self.rearm(chosen);
        }
        Some(self.forward(chosen))
    }

    /// As [`Self::established`], for a connection of which only the first
    /// packet has been seen; the second one promotes it.
    #[inline(always)]
    fn half_open(&self, flow: &mut Flow) -> Option<Verdict> {
        if self.is_history(flow) {
            return None;
        }
        let chosen = match self.server_of(flow) {
            Ok(chosen) => chosen,
            Err(verdict) => return verdict,
        };
        self.touch(flow);
        let promoted = self.packet.is_udp() || flow.state == FlowState::Established as u32;
        if promoted {
            let mut lasting = *flow;
            if self.found.is_persistent() {
                lasting.rearm_ns = self.rearm(chosen);
            }
            if FLOWS.insert(&self.key, &lasting, 0).is_ok() {
                let _ = HALF_OPEN.remove(&self.key);
            }
        }
        Some(self.forward(chosen))
    }

    /// Opens a connection.
    #[inline(always)]
    fn open(&self) -> Verdict {
        let (packet, description, found) = (self.packet, self.description, self.found);
        let sticky = if found.is_persistent() {
            persistence::server(description, found, packet, self.now_ns)
        } else {
            None
        };
        let Some(chosen) = sticky.or_else(|| schedule::pick(description, found)) else {
            return Verdict::pass(Reason::NoServer);
        };
        if found.is_persistent() && sticky.is_none() {
            persistence::remember(found, packet, chosen, self.now_ns);
        }
        let _ = HALF_OPEN.insert(&self.key, &flow::new(packet, chosen, self.now_ns), 0);
        count::scheduled(chosen.slot);
        self.forward(chosen)
    }

    #[inline(always)]
    fn is_history(&self, flow: &Flow) -> bool {
        flow::is_expired(flow, &self.description.half.timeouts, self.now_ns)
            || self.packet.opens() && flow::is_over(flow.state)
    }

    /// The connection's server. Where it is gone, a packet that opens a
    /// connection may have another (`Err(None)`); any other packet must hear
    /// that its connection is void, from the stack, where nothing listens.
    #[inline(always)]
    fn server_of(&self, flow: &Flow) -> Result<Chosen, Option<Verdict>> {
        self.description
            .server(flow.server, flow.generation)
            .ok_or_else(|| (!self.packet.opens()).then(|| Verdict::pass(Reason::ServerGone)))
    }

    #[inline(always)]
    fn touch(&self, flow: &mut Flow) {
        flow.last_seen_ns = self.now_ns;
        flow.state = flow::next_state(flow.state, self.packet);
        if self.packet.is_acknowledging() {
            flow.awaited_sequence = self.packet.acknowledged;
        }
    }

    #[inline(always)]
    fn rearm(&self, chosen: Chosen) -> u64 {
        persistence::rearm(
            self.description,
            self.found,
            self.packet,
            chosen,
            self.now_ns,
        )
    }

    #[inline(always)]
    fn forward(&self, chosen: Chosen) -> Verdict {
        let verdict = transmit::direct(self.frame, chosen);
        if verdict.reason != Reason::OtherHost {
            count::forwarded(chosen.slot, self.packet.bytes);
        }
        verdict
    }
}
