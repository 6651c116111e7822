//! The connection tables: which backend a packet's flow has, or is given.

use aya_ebpf::btf_maps::LruHashMap;
use lb_abi::{Flow, FlowKey, FlowState, Reason, ServiceFlags};

use crate::decision::{Decision, Encoded, EncodedOption};
use crate::frame::Frame;
use crate::headers::Ethernet;
use crate::maps::{FLOWS, HALF_OPEN};
use crate::packet::Packet;
use crate::service_table::{Backend, ServiceRef, ServiceTable};
use crate::{count, flow, interface, load, persistence, protection, reply, schedule, trace};

/// A packet for a service, with what is needed to look up its flow.
///
/// Functions that are not inlined are those that few packets need: each has a stack
/// frame of its own, which the others then need not share.
pub(crate) struct FlowContext<'a> {
    frame: &'a Frame<'a>,
    packet: &'a Packet,
    table: ServiceTable,
    service: ServiceRef,
    key: FlowKey,
    now_ns: u64,
}

/// Result of the look-up of a flow in a connection table.
enum Lookup {
    /// It goes on, with this backend.
    Alive(&'static mut Flow, Backend),
    /// It has no backend any more, or the frame is not for this host.
    Decided(Encoded),
    /// It is not in the table, or was stale and has been removed.
    Absent,
}

impl<'a> FlowContext<'a> {
    #[inline(always)]
    pub(crate) fn new(
        frame: &'a Frame<'a>,
        packet: &'a Packet,
        table: ServiceTable,
        service: ServiceRef,
        now_ns: u64,
    ) -> Self {
        Self {
            frame,
            packet,
            table,
            service,
            key: packet.flow_key(service.number),
            now_ns,
        }
    }

    /// The backend of an established connection, if the packet, which neither begins nor ends
    /// it, changes nothing of the connection but the time when it was last seen.
    #[inline(always)]
    pub(crate) fn established(&self, ethernet: &Ethernet) -> Option<Backend> {
        let packet = self.packet;
        let peers = &self.table.generation.peers;
        if packet.has_no_hops_left() || peers.may_hold(ethernet.macs.source) {
            return None;
        }
        // A copy, since what is passed to a helper by address must lie on the stack as a
        // whole: this way the fields of `self` stay in registers.
        let key = self.key;
        let flow = find(&FLOWS, &key)?;
        if self.is_stale(flow) || flow::next_state(flow.state.into(), packet) != flow.state.into() {
            return None;
        }
        let backend = self.table.server(flow.server, flow.generation)?;
        let is_rearm_due = self.service.is_persistent() && self.now_ns >= flow.rearm_ns;
        if is_rearm_due
            || backend.server.tag_count != 0
            || !interface::is_addressed_to_us(self.frame, ethernet, backend.server)
        {
            return None;
        }
        self.refresh(flow);
        Some(backend)
    }

    /// The backend of the packet's flow, which may be a new one.
    ///
    /// # Errors
    ///
    /// The reason why it has none.
    #[inline(always)]
    pub(crate) fn backend(&self) -> Result<Backend, Reason> {
        match self.look_up(&FLOWS) {
            Lookup::Alive(flow, backend) => {
                self.continue_established(flow, backend);
                return Ok(backend);
            }
            Lookup::Decided(decision) => return decision.resolve(self.table),
            Lookup::Absent => {}
        }
        let decision = match self.half_open().decode() {
            Some(decision) => decision,
            None => self.open(),
        };
        let backend = decision.resolve(self.table)?;
        // Re-armed here rather than in `half_open`, where more of the stack is in use.
        if decision.is_established() && self.service.is_persistent() {
            self.rearm(backend);
        }
        Ok(backend)
    }

    /// The backend of the connection that an ICMP error is about.
    #[inline(never)]
    pub(crate) fn related(&self) -> Encoded {
        let flow = find(&FLOWS, &self.key).or_else(|| find(&HALF_OPEN, &self.key));
        let decision = match flow {
            None => Decision::Refuse(Reason::IcmpUnrelated),
            Some(flow) => match self.table.server(flow.server, flow.generation) {
                Some(backend) => Decision::Forward(backend.slot),
                None => Decision::Refuse(Reason::ServerGone),
            },
        };
        decision.into()
    }

    /// Looks up the flow in `connections`, and removes it if it is stale.
    #[inline(always)]
    fn look_up(&self, connections: &Connections) -> Lookup {
        let Some(flow) = find(connections, &self.key) else {
            return Lookup::Absent;
        };
        if !self.is_stale(flow) {
            if let Some(backend) = self.table.server(flow.server, flow.generation) {
                return if self.is_ours(backend) {
                    Lookup::Alive(flow, backend)
                } else {
                    Lookup::Decided(Decision::Refuse(Reason::OtherHost).into())
                };
            }
            if let Some(decision) = self.orphan().decode() {
                return Lookup::Decided(decision);
            }
        }
        self.count_end(flow);
        // Removed rather than overwritten, so that nothing counts its end again.
        let _ = connections.remove(&self.key);
        Lookup::Absent
    }

    #[inline(always)]
    fn continue_established(&self, flow: &mut Flow, backend: Backend) {
        self.update_state(flow);
        if self.service.is_persistent() && (self.now_ns >= flow.rearm_ns || self.packet.ends()) {
            self.rearm(backend);
            flow.rearm_ns = persistence::rearm_after(self.service, self.now_ns);
        }
    }

    /// The backend of a flow of which one packet at most has been seen; `None` if the
    /// packet may open a connection.
    #[inline(never)]
    fn half_open(&self) -> EncodedOption {
        match self.look_up(&HALF_OPEN) {
            Lookup::Alive(flow, backend) => self.continue_half_open(flow, backend).into(),
            Lookup::Decided(decision) => decision.into(),
            Lookup::Absent => self.recheck_established(),
        }
    }

    /// Looks up `FLOWS` once more for a flow that is in neither table: another CPU may
    /// have moved it there from `HALF_OPEN` after the first look-up. Such an entry is
    /// too young to be stale.
    #[inline(never)]
    fn recheck_established(&self) -> EncodedOption {
        if self.packet.is_syn() {
            return EncodedOption::NONE;
        }
        if let Some(flow) = find(&FLOWS, &self.key)
            && let Some(backend) = self.table.server(flow.server, flow.generation)
        {
            if !self.is_ours(backend) {
                return Decision::Refuse(Reason::OtherHost).into();
            }
            self.update_state(flow);
            return Decision::Forward(backend.slot).into();
        }
        let may_open = self.packet.is_udp()
            || self.service.has(ServiceFlags::SLOPPY) && !self.packet.is_reset();
        if may_open {
            EncodedOption::NONE
        } else {
            Decision::Refuse(Reason::NoConnection).into()
        }
    }

    /// Handles the second packet of a flow, which moves it to the table of established
    /// connections.
    #[inline(always)]
    fn continue_half_open(&self, flow: &mut Flow, backend: Backend) -> Decision {
        self.update_state(flow);
        if !self.packet.is_udp() {
            if flow.state != FlowState::Established as u16 {
                return Decision::Forward(backend.slot);
            }
            // One that was taken over in its middle has no handshake to complete.
            if flow.taken_over == 0 {
                count::completed();
            }
        }
        flow.rearm_ns = persistence::rearm_after(self.service, self.now_ns);
        // From one map's value into the other map: a copy would take up stack.
        if FLOWS.insert(&self.key, &*flow, 0).is_ok() {
            let _ = HALF_OPEN.remove(&self.key);
        }
        Decision::ForwardEstablished(backend.slot)
    }

    /// Gives a backend to the flow of a packet that opens a connection.
    #[inline(never)]
    fn open(&self) -> Encoded {
        let (packet, table, service) = (self.packet, self.table, self.service);
        if packet.is_martian() {
            return Decision::Refuse(Reason::MartianSource).into();
        }
        let sticky = if service.is_persistent() {
            persistence::find(table, service, packet, self.now_ns)
        } else {
            None
        };
        let sticky_backend = sticky.map(|sticky| sticky.backend);
        let Some(backend) = sticky_backend.or_else(|| schedule::pick(table, service, packet))
        else {
            return Decision::Refuse(Reason::NoServer).into();
        };
        if !self.is_ours(backend) {
            return Decision::Refuse(Reason::OtherHost).into();
        }
        // Not connections of before that a sloppy service takes over in their middle.
        let is_new = packet.is_syn() || packet.is_udp() && !service.has(ServiceFlags::ONE_PACKET);
        if is_new && !protection::admits(packet, self.now_ns) {
            if packet.is_syn() {
                count::refused();
            }
            return Decision::Refuse(Reason::RateLimited).into();
        }
        if let Some(sticky) = sticky {
            sticky.rearm(service, self.now_ns);
        } else if service.is_persistent() {
            self.insert_template(backend);
        }
        count::scheduled(backend.slot);
        if trace::is_on() {
            trace::note_opened(backend.slot);
        }
        if !service.has(ServiceFlags::ONE_PACKET) {
            self.insert_half_open(backend);
            load::add_new(backend, flow::first_state(packet));
            return Decision::Forward(backend.slot).into();
        }
        // Without a connection, whose second packet would move the template to the table
        // of established ones, the client's second packet does.
        match sticky {
            Some(_) => Decision::ForwardEstablished(backend.slot).into(),
            None => Decision::Forward(backend.slot).into(),
        }
    }

    // The next two are not inlined, so that the new entry does not share a stack frame
    // with the comparison of servers.

    /// Ties the client to `backend`.
    #[inline(never)]
    fn insert_template(&self, backend: Backend) {
        persistence::insert_new(self.service, self.packet, backend, self.now_ns);
    }

    /// Enters a connection to `backend`.
    #[inline(never)]
    fn insert_half_open(&self, backend: Backend) {
        if self.packet.is_syn() {
            count::opened();
        }
        let flow = flow::new(self.packet, backend, self.now_ns);
        // The table evicts when it is full. Should the kernel refuse all the same, this
        // packet is forwarded, and the next one belongs to no connection.
        let _ = HALF_OPEN.insert(&self.key, &flow, 0);
    }

    /// True if the frame is addressed to this host; otherwise it must change nothing.
    #[inline(always)]
    fn is_ours(&self, backend: Backend) -> bool {
        self.frame.header(0).is_some_and(|ethernet| {
            interface::is_addressed_to_us(self.frame, ethernet, backend.server)
        })
    }

    /// The outcome for a packet whose server is gone; `None` if the flow is to be given
    /// another one.
    #[inline(never)]
    fn orphan(&self) -> EncodedOption {
        let (packet, service) = (self.packet, self.service);
        if !interface::is_addressed_to_interface(self.frame) {
            return Decision::Refuse(Reason::OtherHost).into();
        }
        if packet.is_syn() || packet.is_udp() && service.has(ServiceFlags::RESCHEDULE_ORPHANS) {
            return EncodedOption::NONE;
        }
        if service.has(ServiceFlags::DROP_ORPHANS) {
            return Decision::Refuse(Reason::Dropped).into();
        }
        // The connection may still exist: if the director was cut off, its server is back
        // by now. If not, the server that gets the packet replies with a reset.
        if service.has(ServiceFlags::SLOPPY) && !packet.is_reset() {
            return EncodedOption::NONE;
        }
        // A segment without ACK does not say which sequence number its sender awaits; a
        // reset must never be answered by another (RFC 9293 §3.10.7.1).
        let reason = if service.has(ServiceFlags::RESET_ORPHANS)
            && packet.is_acknowledging()
            && !packet.is_reset()
        {
            reply::reset(self.frame, packet)
        } else {
            Reason::ServerGone
        };
        Decision::Refuse(reason).into()
    }

    /// True if the flow has expired, or is closed and reopened by this SYN.
    #[inline(always)]
    fn is_stale(&self, flow: &Flow) -> bool {
        flow::is_expired(flow, &self.table.generation.timeouts, self.now_ns)
            || self.packet.is_syn() && flow::is_over(flow.state.into())
    }

    #[inline(always)]
    fn update_state(&self, flow: &mut Flow) {
        self.refresh(flow);
        let before = u32::from(flow.state);
        let after = flow::next_state(before, self.packet);
        if before != after {
            flow.state = after as u16;
            load::change_state(flow.server, before, after);
        }
    }

    /// Sets the time of the last packet, and what it acknowledges.
    #[inline(always)]
    fn refresh(&self, flow: &mut Flow) {
        flow.last_seen_ns = self.now_ns;
        if self.packet.is_acknowledging() {
            flow.awaited_sequence = self.packet.acknowledged;
        }
    }

    /// Takes the flow off its server's load, unless the slot has another owner now.
    #[inline(always)]
    fn count_end(&self, flow: &Flow) {
        if self.table.server(flow.server, flow.generation).is_some() {
            load::remove(flow.server, flow.state.into());
        }
    }

    /// Re-arms the client's template.
    #[inline(never)]
    fn rearm(&self, backend: Backend) {
        persistence::rearm(self.table, self.service, self.packet, backend, self.now_ns);
    }
}

/// `FLOWS` or `HALF_OPEN`.
type Connections = LruHashMap<FlowKey, Flow, 1>;

/// The entry of a flow.
#[inline(always)]
fn find(connections: &Connections, key: &FlowKey) -> Option<&'static mut Flow> {
    // SAFETY: a map value. The kernel may evict the entry and give it to another
    // connection while it is in use; then one packet of this connection refreshes the
    // other one, and no more.
    connections
        .get_ptr_mut(key)
        .map(|flow| unsafe { &mut *flow })
}
