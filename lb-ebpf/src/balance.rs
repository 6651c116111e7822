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
use crate::parse::fast::{Network, PacketHandler};
use crate::parse::{Kind, Packet};
use crate::service_table::{Backend, ServiceRef, ServiceTable};
use crate::{
    clock, count, flow, fragments, load, peers, persistence, reply, schedule, trace, transmit,
};
use decision::Decision;

/// Judges the packets that established connections go on with, and those that
/// are for nobody: most of all, for which this comes to the same as [`packet`].
pub struct FastPath;

impl PacketHandler for FastPath {
    #[inline(always)]
    fn handle<N: Network>(
        frame: &Frame,
        ethernet: &mut Ethernet,
        network: &mut N,
        packet: &Packet,
    ) -> Option<Reason> {
        let table = ServiceTable::active()?;
        let Some(service) = table.service(packet) else {
            return Some(Reason::NotAService);
        };
        let context = FlowContext {
            frame,
            packet,
            table,
            service,
            key: packet.flow_key(service),
            now_ns: clock::now_from_ticks_ns()?,
        };
        let backend = context.fast_path(ethernet)?;
        let reason = transmit::fast(frame, ethernet, network, packet, backend.server)?;
        if reason.is_forwarded() {
            count::forwarded(backend.slot, packet.bytes);
        }
        Some(reason)
    }
}

/// Judges a packet; the reason is the verdict.
#[inline(always)]
pub fn packet(frame: &Frame, packet: &Packet) -> Reason {
    let Some(table) = ServiceTable::active() else {
        return Reason::NotAService;
    };
    let now_ns = clock::now_ns();
    let reason = match server(frame, packet, table, now_ns) {
        Ok(backend) => {
            let reason = transmit::to(frame, packet, backend.server);
            if reason.is_forwarded() {
                count::forwarded(backend.slot, packet.bytes);
                if packet.kind == Kind::FirstFragment {
                    fragments::remember(packet, backend, now_ns);
                }
                return reason;
            }
            reason
        }
        Err(reason) => reason,
    };
    if packet.kind == Kind::FirstFragment {
        fragments::remember_no_server(table, packet, now_ns);
    }
    reason
}

/// The server that the packet goes to, or why it goes to none.
#[inline(always)]
fn server(
    frame: &Frame,
    packet: &Packet,
    table: ServiceTable,
    now_ns: u64,
) -> Result<Backend, Reason> {
    if packet.kind == Kind::LaterFragment {
        if let Some(service) = table.service_without_ports(packet) {
            check_not_balanced_before(frame, table, service, packet)?;
        }
        let backend = fragments::follow(table, packet, now_ns).resolve(table)?;
        return check_hops(packet).map(|()| backend);
    }
    let Some(service) = table.service(packet) else {
        return Err(if packet.kind == Kind::IcmpError {
            Reason::IcmpUnrelated
        } else {
            Reason::NotAService
        });
    };
    check_not_balanced_before(frame, table, service, packet)?;
    check_hops(packet)?;
    let context = FlowContext {
        frame,
        packet,
        table,
        service,
        key: packet.flow_key(service),
        now_ns,
    };
    if packet.kind == Kind::IcmpError {
        context.related().resolve(table)
    } else {
        context.server()
    }
}

#[inline(always)]
fn check_not_balanced_before(
    frame: &Frame,
    table: ServiceTable,
    service: ServiceRef,
    packet: &Packet,
) -> Result<(), Reason> {
    if peers::has_balanced(frame, table, service, packet) {
        Err(Reason::BalancedBefore)
    } else {
        Ok(())
    }
}

#[inline(always)]
fn check_hops(packet: &Packet) -> Result<(), Reason> {
    if packet.has_no_hops_left() {
        Err(Reason::HopsExceeded)
    } else {
        Ok(())
    }
}

/// A packet on its way through the tables of its service.
///
/// What is not inlined here is off the path of most packets.
struct FlowContext<'a> {
    frame: &'a Frame<'a>,
    packet: &'a Packet,
    table: ServiceTable,
    service: ServiceRef,
    key: FlowKey,
    now_ns: u64,
}

impl FlowContext<'_> {
    #[inline(always)]
    fn server(&self) -> Result<Backend, Reason> {
        if let Some(flow) = FLOWS.get_ptr_mut(&self.key) {
            // SAFETY: a map value. The kernel may give an evicted entry to
            // another connection while we look; then one packet of this one
            // refreshes that one, and no more.
            let flow = unsafe { &mut *flow };
            if !self.is_stale(flow) {
                if let Some(backend) = self.table.server(flow.server, flow.generation) {
                    if !self.is_ours(backend) {
                        return Err(Reason::OtherHost);
                    }
                    self.continue_established(flow, backend);
                    return Ok(backend);
                }
                let decision = self.orphan();
                if !decision.is_open() {
                    return decision.resolve(self.table);
                }
            }
            self.count_end(flow);
            let _ = FLOWS.remove(&self.key);
        }
        let mut decision = self.half_open();
        if decision.is_open() {
            decision = self.open();
        }
        let backend = decision.resolve(self.table)?;
        // Here, where less of the stack is taken than there.
        if decision.is_established() && self.service.is_persistent() {
            self.rearm(backend);
        }
        Ok(backend)
    }

    /// The server of an established connection with which the packet changes
    /// nothing but the time when it was last seen.
    #[inline(always)]
    fn fast_path(&self, ethernet: &Ethernet) -> Option<Backend> {
        let packet = self.packet;
        let peers = &self.table.generation.peers;
        if packet.begins_or_ends()
            || packet.has_no_hops_left()
            || peers.may_hold(ethernet.macs.source)
        {
            return None;
        }
        // A copy: what a helper gets a pointer into must lie on the stack as a
        // whole.
        let key = self.key;
        let flow = FLOWS.get_ptr_mut(&key)?;
        // SAFETY: as in `server`.
        let flow = unsafe { &mut *flow };
        if self.is_stale(flow) || flow::next_state(flow.state, packet) != flow.state {
            return None;
        }
        let backend = self.table.server(flow.server, flow.generation)?;
        let is_due = self.service.is_persistent() && self.now_ns >= flow.rearm_ns;
        if is_due
            || backend.server.tag_count != 0
            || !transmit::is_addressed_to_us(self.frame, ethernet, backend.server)
        {
            return None;
        }
        self.refresh(flow);
        Some(backend)
    }

    #[inline(always)]
    fn continue_established(&self, flow: &mut Flow, backend: Backend) {
        self.update_state(flow);
        if self.service.is_persistent() && (self.now_ns >= flow.rearm_ns || self.packet.ends()) {
            self.rearm(backend);
            flow.rearm_ns = persistence::rearm_after(self.service, self.now_ns);
        }
    }

    /// A packet of a connection of which at most one has been seen: whether it may
    /// open one, if none has.
    #[inline(never)]
    fn half_open(&self) -> Decision {
        if let Some(flow) = HALF_OPEN.get_ptr_mut(&self.key) {
            // SAFETY: as in `server`.
            let flow = unsafe { &mut *flow };
            if !self.is_stale(flow) {
                if let Some(backend) = self.table.server(flow.server, flow.generation) {
                    if !self.is_ours(backend) {
                        return Decision::refuse(Reason::OtherHost);
                    }
                    return self.continue_half_open(flow, backend);
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
            if let Some(backend) = self.table.server(flow.server, flow.generation) {
                if !self.is_ours(backend) {
                    return Decision::refuse(Reason::OtherHost);
                }
                self.update_state(flow);
                return Decision::to(backend.slot);
            }
        }
        if self.packet.is_udp() || self.service.has(SERVICE_SLOPPY) && !self.packet.is_reset() {
            Decision::open()
        } else {
            Decision::refuse(Reason::NoConnection)
        }
    }

    /// The second packet of a connection makes it a lasting one.
    #[inline(always)]
    fn continue_half_open(&self, flow: &mut Flow, backend: Backend) -> Decision {
        self.update_state(flow);
        if !self.packet.is_udp() && flow.state != FlowState::Established as u32 {
            return Decision::to(backend.slot);
        }
        flow.rearm_ns = persistence::rearm_after(self.service, self.now_ns);
        // From one table to the other: a copy would take room on the stack.
        if FLOWS.insert(&self.key, &*flow, 0).is_ok() {
            let _ = HALF_OPEN.remove(&self.key);
        }
        Decision::to_established(backend.slot)
    }

    /// A packet that opens a connection.
    #[inline(never)]
    fn open(&self) -> Decision {
        let (packet, table, service) = (self.packet, self.table, self.service);
        if packet.is_martian() {
            return Decision::refuse(Reason::MartianSource);
        }
        let held = if service.is_persistent() {
            persistence::held(table, service, packet, self.now_ns)
        } else {
            None
        };
        let sticky = held.map(|held| held.backend);
        let Some(backend) = sticky.or_else(|| schedule::pick(table, service, packet)) else {
            return Decision::refuse(Reason::NoServer);
        };
        if !self.is_ours(backend) {
            return Decision::refuse(Reason::OtherHost);
        }
        if let Some(held) = held {
            held.rearm(service, self.now_ns);
        } else if service.is_persistent() {
            self.remember(backend);
        }
        count::scheduled(backend.slot);
        if trace::is_on() {
            trace::note_opened(backend.slot);
        }
        if !service.has(SERVICE_ONE_PACKET) {
            self.insert_half_open(backend);
            load::entered_new(backend, flow::first_state(packet));
            return Decision::to(backend.slot);
        }
        // The second packet makes the template a lasting one; there is no
        // connection that could.
        match held {
            Some(_) => Decision::to_established(backend.slot),
            None => Decision::to(backend.slot),
        }
    }

    /// Remembers that the client sticks to `backend`. Called, as is [`Self::insert_half_open`],
    /// so that the new entry does not stand on the stack beside the comparison of
    /// servers.
    #[inline(never)]
    fn remember(&self, backend: Backend) {
        persistence::remember(self.service, self.packet, backend, self.now_ns);
    }

    /// Enters a connection with `backend`.
    #[inline(never)]
    fn insert_half_open(&self, backend: Backend) {
        let flow = flow::new(self.packet, backend, self.now_ns);
        // The table evicts by itself; should the kernel refuse all the same,
        // the packet goes its way, and the next one is nobody's.
        let _ = HALF_OPEN.insert(&self.key, &flow, 0);
    }

    /// Whether the frame is addressed to this host. One that is not must change
    /// nothing.
    #[inline(always)]
    fn is_ours(&self, backend: Backend) -> bool {
        self.frame.header(0).is_some_and(|ethernet| {
            transmit::is_addressed_to_us(self.frame, ethernet, backend.server)
        })
    }

    /// An ICMP error: to the server of the connection that it is about.
    #[inline(never)]
    fn related(&self) -> Decision {
        let Some(flow) = FLOWS
            .get_ptr(&self.key)
            .or_else(|| HALF_OPEN.get_ptr(&self.key))
        else {
            return Decision::refuse(Reason::IcmpUnrelated);
        };
        // SAFETY: as in `server`.
        let (slot, generation) = unsafe { ((*flow).server, (*flow).generation) };
        match self.table.server(slot, generation) {
            Some(backend) => Decision::to(backend.slot),
            None => Decision::refuse(Reason::ServerGone),
        }
    }

    /// A packet whose server is gone.
    #[inline(never)]
    fn orphan(&self) -> Decision {
        let (packet, service) = (self.packet, self.service);
        if !transmit::is_addressed_to_interface(self.frame) {
            return Decision::refuse(Reason::OtherHost);
        }
        if packet.is_syn() || packet.is_udp() && service.has(SERVICE_RESCHEDULE_ORPHANS) {
            return Decision::open();
        }
        if service.has(SERVICE_DROP_ORPHANS) {
            return Decision::refuse(Reason::Dropped);
        }
        // The server may be back, and with it the connection: it was the
        // director that had been cut off. If not, whoever gets the packet
        // answers it with a reset.
        if service.has(SERVICE_SLOPPY) && !packet.is_reset() {
            return Decision::open();
        }
        if service.has(SERVICE_RESET_ORPHANS) && packet.is_acknowledging() && !packet.is_reset() {
            return Decision::refuse(reply::reset(self.frame, packet));
        }
        Decision::refuse(Reason::ServerGone)
    }

    /// Whether a connection is over, so that this packet is none of its own.
    #[inline(always)]
    fn is_stale(&self, flow: &Flow) -> bool {
        flow::is_expired(flow, &self.table.generation.timeouts, self.now_ns)
            || self.packet.is_syn() && flow::is_over(flow.state)
    }

    #[inline(always)]
    fn update_state(&self, flow: &mut Flow) {
        self.refresh(flow);
        let (before, after) = (flow.state, flow::next_state(flow.state, self.packet));
        if before != after {
            flow.state = after;
            load::change_state(flow.server, before, after);
        }
    }

    /// Notes when the packet came and what it acknowledges.
    #[inline(always)]
    fn refresh(&self, flow: &mut Flow) {
        flow.last_seen_ns = self.now_ns;
        if self.packet.is_acknowledging() {
            flow.awaited_sequence = self.packet.acknowledged;
        }
    }

    /// Counts the end of a connection, if its server is still the one that it
    /// was counted for.
    #[inline(always)]
    fn count_end(&self, flow: &Flow) {
        if self.table.server(flow.server, flow.generation).is_some() {
            load::left(flow.server, flow.state);
        }
    }

    #[inline(never)]
    fn rearm(&self, backend: Backend) {
        persistence::rearm(self.table, self.service, self.packet, backend, self.now_ns);
    }
}
