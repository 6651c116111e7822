//! Chooses the real server of a packet, and has the packet sent there.
//!
//! In this order: Is the packet for a service? Does its flow have a backend? If not, and
//! if it may open a connection: does persistence tie its client to a backend? If not, the
//! scheduler picks one.

use lb_abi::{Reason, ServiceFlags};

use crate::flow_context::FlowContext;
use crate::frame::Frame;
use crate::headers::Ethernet;
use crate::packet::{Kind, Packet};
use crate::parse::fast::{PacketHandler, ParseNetwork};
use crate::service_table::{Backend, ServiceRef, ServiceTable};
use crate::{clock, count, fragments, interface, peers, protection, reply, trace, transmit};

/// Handles packets of established connections that change nothing but when the
/// connection was last seen, packets that are for no service, and SYNs that are challenged or
/// denied, where sources are validated. For these it does what [`packet`] does; all others it
/// leaves to that.
pub(crate) struct FastPath;

impl PacketHandler for FastPath {
    #[inline(always)]
    fn handle<N: ParseNetwork>(
        frame: &Frame,
        ethernet: &mut Ethernet,
        network: &mut N,
        packet: &Packet,
    ) -> Option<Reason> {
        let table = ServiceTable::active()?;
        let Some(service) = table.service(packet) else {
            return Some(Reason::NotAService);
        };
        if packet.begins_or_ends() {
            // Of these only a SYN may have its verdict here.
            return if packet.is_syn() && !trace::is_on() {
                protection::challenge_fast::<N>(frame.context(), table, service.entry)
            } else {
                None
            };
        }
        let now_ns = clock::now_from_ticks_ns()?;
        let context = FlowContext::new(frame, packet, table, service, now_ns);
        let backend = context.established(ethernet)?;
        let reason = transmit::fast(frame, ethernet, network, packet, backend.server)?;
        if reason.is_forwarded() {
            count::forwarded(backend.slot, packet.bytes);
        }
        Some(reason)
    }
}

/// Handles any packet, and returns the verdict.
#[inline(always)]
pub(crate) fn packet(frame: &Frame, packet: &Packet) -> Reason {
    let Some(table) = ServiceTable::active() else {
        return Reason::NotAService;
    };
    let now_ns = clock::now_ns();
    let reason = match backend(frame, packet, table, now_ns) {
        Ok(backend) => {
            let reason = transmit::to(frame, packet, backend.server);
            if reason.is_forwarded() {
                count::forwarded(backend.slot, packet.bytes);
                if packet.kind == Kind::FirstFragment {
                    fragments::insert(packet, backend, now_ns);
                }
                return reason;
            }
            reason
        }
        Err(reason) => reason,
    };
    if packet.kind == Kind::FirstFragment {
        fragments::insert_refused(table, packet, now_ns);
    }
    reason
}

/// The backend that the packet goes to, or the reason why it goes to none.
#[inline(always)]
fn backend(
    frame: &Frame,
    packet: &Packet,
    table: ServiceTable,
    now_ns: u64,
) -> Result<Backend, Reason> {
    if packet.kind == Kind::LaterFragment {
        let service = table.service_without_ports(packet);
        if let Some(service) = service {
            check_not_balanced_before(frame, table, service, packet)?;
        }
        protection::check_source(frame, packet, table, service)?;
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
    let context = FlowContext::new(frame, packet, table, service, now_ns);
    if packet.kind == Kind::IcmpError {
        return context.related().resolve(table);
    }
    protection::check_source(frame, packet, table, Some(service))?;
    protection::check_handshake(frame, packet, table, service, now_ns)?;
    // Here and not where the connection is looked for: Linux 6.1 allows a chain of calls 512
    // bytes of stack.
    context.backend().map_err(|reason| match reason {
        Reason::NoConnection => {
            protection::reason_without_connection(frame, packet, table.index, service.entry)
        }
        // This host's stack would accept what its weight or its checks forbid.
        Reason::NoServer
            if service.has(ServiceFlags::LOCAL)
                && packet.is_syn()
                && interface::is_addressed_to_interface(frame) =>
        {
            reply::refuse(frame, packet)
        }
        other => other,
    })
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
