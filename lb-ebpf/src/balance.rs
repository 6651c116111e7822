//! Which real server a packet belongs to: the balancer itself.
//!
//! A service? – a known connection? – else, if the packet opens one: a
//! persistent client? – else the scheduler.

pub mod decision;

use lb_abi::{
    Flow, FlowKey, FlowState, Reason, SERVICE_DROP_ORPHANS, SERVICE_ONE_PACKET,
    SERVICE_RESCHEDULE_ORPHANS, SERVICE_RESET_ORPHANS, SERVICE_SLOPPY,
};

use crate::frame::Frame;
use crate::headers::Ethernet;
use crate::maps::{FLOWS, HALF_OPEN};
use crate::parse::plain::{Judge, Network};
use crate::parse::{Kind, Packet};
use crate::service::{Chosen, Description, Found};
use crate::{
    answer, clock, count, flow, fragments, load, peers, persistence, schedule, trace, transmit,
};
use decision::Decision;

/// Judges the packets that established connections go on with, and those that
/// are for nobody: most of all, for which this comes to the same as [`packet`].
pub struct Steady;

impl Judge for Steady {
    #[inline(always)]
    fn judge<N: Network>(
        frame: &Frame,
        ethernet: &mut Ethernet,
        network: &mut N,
        packet: &Packet,
    ) -> Option<Reason> {
        let description = Description::active()?;
        let Some(found) = description.service(packet) else {
            return Some(Reason::NotAService);
        };
        let visit = Visit {
            frame,
            packet,
            description,
            found,
            key: packet.flow_key(found),
            now_ns: clock::counted_ns()?,
        };
        let chosen = visit.steady(ethernet)?;
        let reason = transmit::plainly(frame, ethernet, network, packet, chosen.server)?;
        if reason.is_forwarded() {
            count::forwarded(chosen.slot, packet.bytes);
        }
        Some(reason)
    }
}

/// Judges a packet; the reason is the verdict.
#[inline(always)]
pub fn packet(frame: &Frame, packet: &Packet) -> Reason {
    let Some(description) = Description::active() else {
        return Reason::NotAService;
    };
    let now_ns = clock::asked_ns();
    let reason = match server(frame, packet, description, now_ns) {
        Ok(chosen) => {
            let reason = transmit::to(frame, packet, chosen.server);
            if reason.is_forwarded() {
                count::forwarded(chosen.slot, packet.bytes);
                if packet.kind == Kind::FirstFragment {
                    fragments::remember(packet, chosen, now_ns);
                }
                return reason;
            }
            reason
        }
        Err(reason) => reason,
    };
    if packet.kind == Kind::FirstFragment {
        fragments::remember_no_server(description, packet, now_ns);
    }
    reason
}

/// The server that the packet goes to, or why it goes to none.
#[inline(always)]
fn server(
    frame: &Frame,
    packet: &Packet,
    description: Description,
    now_ns: u64,
) -> Result<Chosen, Reason> {
    if packet.kind == Kind::LaterFragment {
        if let Some(found) = description.service_without_ports(packet) {
            is_new_to_us(frame, description, found, packet)?;
        }
        let chosen = fragments::follow(description, packet, now_ns).resolve(description)?;
        return has_hops(packet).map(|()| chosen);
    }
    let Some(found) = description.service(packet) else {
        return Err(if packet.kind == Kind::IcmpError {
            Reason::IcmpUnrelated
        } else {
            Reason::NotAService
        });
    };
    is_new_to_us(frame, description, found, packet)?;
    has_hops(packet)?;
    let visit = Visit {
        frame,
        packet,
        description,
        found,
        key: packet.flow_key(found),
        now_ns,
    };
    if packet.kind == Kind::IcmpError {
        visit.related().resolve(description)
    } else {
        visit.server()
    }
}

#[inline(always)]
fn is_new_to_us(
    frame: &Frame,
    description: Description,
    found: Found,
    packet: &Packet,
) -> Result<(), Reason> {
    if peers::have_balanced(frame, description, found, packet) {
        Err(Reason::BalancedBefore)
    } else {
        Ok(())
    }
}

#[inline(always)]
fn has_hops(packet: &Packet) -> Result<(), Reason> {
    if packet.is_at_its_end() {
        Err(Reason::HopsExceeded)
    } else {
        Ok(())
    }
}

/// A packet on its way through the tables of its service.
///
/// What is not inlined here is off the path of most packets.
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
    fn server(&self) -> Result<Chosen, Reason> {
        if let Some(flow) = FLOWS.get_ptr_mut(&self.key) {
            // SAFETY: a map value. The kernel may give an evicted entry to
            // another connection while we look; then one packet of this one
            // refreshes that one, and no more.
            let flow = unsafe { &mut *flow };
            if !self.is_history(flow) {
                if let Some(chosen) = self.description.server(flow.server, flow.generation) {
                    if !self.is_ours(chosen) {
                        return Err(Reason::OtherHost);
                    }
                    self.continue_established(flow, chosen);
                    return Ok(chosen);
                }
                let decision = self.orphan();
                if !decision.is_open() {
                    return decision.resolve(self.description);
                }
            }
            self.count_end(flow);
            let _ = FLOWS.remove(&self.key);
        }
        let mut decision = self.half_open();
        if decision.is_open() {
            decision = self.open();
        }
        let chosen = decision.resolve(self.description)?;
        // Here, where less of the stack is taken than there.
        if decision.is_lasting() && self.found.is_persistent() {
            self.rearm(chosen);
        }
        Ok(chosen)
    }

    /// The server of an established connection with which the packet changes
    /// nothing but the time when it was last seen.
    #[inline(always)]
    fn steady(&self, ethernet: &Ethernet) -> Option<Chosen> {
        let packet = self.packet;
        let peers = &self.description.half.peers;
        if packet.begins_or_ends() || packet.is_at_its_end() || peers.may_hold(ethernet.macs.source)
        {
            return None;
        }
        // A copy: what a helper gets a pointer into must lie on the stack as a
        // whole.
        let key = self.key;
        let flow = FLOWS.get_ptr_mut(&key)?;
        // SAFETY: as in `server`.
        let flow = unsafe { &mut *flow };
        if self.is_history(flow) || flow::next_state(flow.state, packet) != flow.state {
            return None;
        }
        let chosen = self.description.server(flow.server, flow.generation)?;
        let is_due = self.found.is_persistent() && self.now_ns >= flow.rearm_ns;
        if is_due
            || chosen.server.tag_count != 0
            || !transmit::is_addressed_to_us(self.frame, ethernet, chosen.server)
        {
            return None;
        }
        self.see(flow);
        Some(chosen)
    }

    #[inline(always)]
    fn continue_established(&self, flow: &mut Flow, chosen: Chosen) {
        self.touch(flow);
        if self.found.is_persistent() && (self.now_ns >= flow.rearm_ns || self.packet.ends()) {
            self.rearm(chosen);
            flow.rearm_ns = persistence::rearm_after(self.found, self.now_ns);
        }
    }

    /// A packet of a connection of which at most one has been seen: whether it may
    /// open one, if none has.
    #[inline(never)]
    fn half_open(&self) -> Decision {
        if let Some(flow) = HALF_OPEN.get_ptr_mut(&self.key) {
            // SAFETY: as in `server`.
            let flow = unsafe { &mut *flow };
            if !self.is_history(flow) {
                if let Some(chosen) = self.description.server(flow.server, flow.generation) {
                    if !self.is_ours(chosen) {
                        return Decision::none(Reason::OtherHost);
                    }
                    return self.continue_half_open(flow, chosen);
                }
                let decision = self.orphan();
                if !decision.is_open() {
                    return decision;
                }
            }
            self.count_end(flow);
            // So that nothing counts it again.
            let _ = HALF_OPEN.remove(&self.key);
        }
        self.moved()
    }

    /// A packet of a connection that is in neither table. Between our two looks
    /// another CPU may have moved it from the second to the first.
    #[inline(never)]
    fn moved(&self) -> Decision {
        if self.packet.is_syn() {
            return Decision::open();
        }
        if let Some(flow) = FLOWS.get_ptr_mut(&self.key) {
            // SAFETY: as in `server`.
            let flow = unsafe { &mut *flow };
            if let Some(chosen) = self.description.server(flow.server, flow.generation) {
                if !self.is_ours(chosen) {
                    return Decision::none(Reason::OtherHost);
                }
                self.touch(flow);
                return Decision::to(chosen.slot);
            }
        }
        if self.packet.is_udp() || self.found.has(SERVICE_SLOPPY) && !self.packet.is_reset() {
            Decision::open()
        } else {
            Decision::none(Reason::NoConnection)
        }
    }

    /// The second packet of a connection makes it a lasting one.
    #[inline(always)]
    fn continue_half_open(&self, flow: &mut Flow, chosen: Chosen) -> Decision {
        self.touch(flow);
        if !self.packet.is_udp() && flow.state != FlowState::Established as u32 {
            return Decision::to(chosen.slot);
        }
        flow.rearm_ns = persistence::rearm_after(self.found, self.now_ns);
        // From one table to the other: a copy would take room on the stack.
        if FLOWS.insert(&self.key, &*flow, 0).is_ok() {
            let _ = HALF_OPEN.remove(&self.key);
        }
        Decision::to_lasting(chosen.slot)
    }

    /// A packet that opens a connection.
    #[inline(never)]
    fn open(&self) -> Decision {
        let (packet, description, found) = (self.packet, self.description, self.found);
        if packet.is_martian() {
            return Decision::none(Reason::MartianSource);
        }
        let held = if found.is_persistent() {
            persistence::held(description, found, packet, self.now_ns)
        } else {
            None
        };
        let sticky = held.map(|held| held.chosen);
        let Some(chosen) = sticky.or_else(|| schedule::pick(description, found, packet)) else {
            return Decision::none(Reason::NoServer);
        };
        if !self.is_ours(chosen) {
            return Decision::none(Reason::OtherHost);
        }
        if let Some(held) = held {
            held.rearm(found, self.now_ns);
        } else if found.is_persistent() {
            self.remember(chosen);
        }
        count::scheduled(chosen.slot);
        if trace::is_on() {
            trace::note_opened(chosen.slot);
        }
        if !found.has(SERVICE_ONE_PACKET) {
            self.enter(chosen);
            load::entered_new(chosen, flow::first_state(packet));
            return Decision::to(chosen.slot);
        }
        // The second packet makes the template a lasting one; there is no
        // connection that could.
        match held {
            Some(_) => Decision::to_lasting(chosen.slot),
            None => Decision::to(chosen.slot),
        }
    }

    /// Remembers that the client sticks to `chosen`. Called, as is [`Self::enter`],
    /// so that the new entry does not stand on the stack beside the comparison of
    /// servers.
    #[inline(never)]
    fn remember(&self, chosen: Chosen) {
        persistence::remember(self.found, self.packet, chosen, self.now_ns);
    }

    /// Enters a connection with `chosen`.
    #[inline(never)]
    fn enter(&self, chosen: Chosen) {
        let flow = flow::new(self.packet, chosen, self.now_ns);
        // The table evicts by itself; should the kernel refuse all the same,
        // the packet goes its way, and the next one is nobody's.
        let _ = HALF_OPEN.insert(&self.key, &flow, 0);
    }

    /// Whether the frame is addressed to this host. One that is not must change
    /// nothing.
    #[inline(always)]
    fn is_ours(&self, chosen: Chosen) -> bool {
        self.frame.header(0).is_some_and(|ethernet| {
            transmit::is_addressed_to_us(self.frame, ethernet, chosen.server)
        })
    }

    /// An ICMP error: to the server of the connection that it is about.
    #[inline(never)]
    fn related(&self) -> Decision {
        let Some(flow) = FLOWS
            .get_ptr(&self.key)
            .or_else(|| HALF_OPEN.get_ptr(&self.key))
        else {
            return Decision::none(Reason::IcmpUnrelated);
        };
        // SAFETY: as in `server`.
        let (slot, generation) = unsafe { ((*flow).server, (*flow).generation) };
        match self.description.server(slot, generation) {
            Some(chosen) => Decision::to(chosen.slot),
            None => Decision::none(Reason::ServerGone),
        }
    }

    /// A packet whose server is gone.
    #[inline(never)]
    fn orphan(&self) -> Decision {
        let (packet, found) = (self.packet, self.found);
        if !transmit::is_addressed_to_interface(self.frame) {
            return Decision::none(Reason::OtherHost);
        }
        if packet.is_syn() || packet.is_udp() && found.has(SERVICE_RESCHEDULE_ORPHANS) {
            return Decision::open();
        }
        if found.has(SERVICE_DROP_ORPHANS) {
            return Decision::none(Reason::Dropped);
        }
        // The server may be back, and with it the connection: it was the
        // director that had been cut off. If not, whoever gets the packet
        // answers it with a reset.
        if found.has(SERVICE_SLOPPY) && !packet.is_reset() {
            return Decision::open();
        }
        if found.has(SERVICE_RESET_ORPHANS) && packet.is_acknowledging() && !packet.is_reset() {
            return Decision::none(answer::reset(self.frame, packet));
        }
        Decision::none(Reason::ServerGone)
    }

    /// Whether a connection is over, so that this packet is none of its own.
    #[inline(always)]
    fn is_history(&self, flow: &Flow) -> bool {
        flow::is_expired(flow, &self.description.half.timeouts, self.now_ns)
            || self.packet.is_syn() && flow::is_over(flow.state)
    }

    #[inline(always)]
    fn touch(&self, flow: &mut Flow) {
        self.see(flow);
        let (before, after) = (flow.state, flow::next_state(flow.state, self.packet));
        if before != after {
            flow.state = after;
            load::left(flow.server, before);
            load::entered(flow.server, after);
        }
    }

    /// Notes when the packet came and what it acknowledges.
    #[inline(always)]
    fn see(&self, flow: &mut Flow) {
        flow.last_seen_ns = self.now_ns;
        if self.packet.is_acknowledging() {
            flow.awaited_sequence = self.packet.acknowledged;
        }
    }

    /// Counts the end of a connection, if its server is still the one that it
    /// was counted for.
    #[inline(always)]
    fn count_end(&self, flow: &Flow) {
        if self
            .description
            .server(flow.server, flow.generation)
            .is_some()
        {
            load::left(flow.server, flow.state);
        }
    }

    #[inline(never)]
    fn rearm(&self, chosen: Chosen) {
        persistence::rearm(
            self.description,
            self.found,
            self.packet,
            chosen,
            self.now_ns,
        );
    }
}
