//! The loop guard: no frame is balanced twice.
//!
//! Two directors may be each other's real servers, and a frame that one of them sends to
//! the other must not come back. In direct routing a real server has the virtual address
//! itself, so that it never sends a client's packet for that address: a frame from its MAC
//! address comes from a director that runs beside it. Connections of the real server's own
//! are exceptions, which the agent enters. A loop of directors that do not know each other
//! ends when a packet has no hops left.

use lb_abi::{Address, PeerKey};

use crate::frame::Frame;
use crate::headers::Ethernet;
use crate::maps::PEERS;
use crate::packet::Packet;
use crate::service_table::{ServiceRef, ServiceTable};

/// True if the packet for a service comes from a director that has balanced it already.
#[inline(always)]
pub(crate) fn has_balanced(
    frame: &Frame,
    table: ServiceTable,
    service: ServiceRef,
    packet: &Packet,
) -> bool {
    let Some(ethernet) = frame.header::<Ethernet>(0) else {
        return false;
    };
    table.generation.peers.may_hold(ethernet.macs.source)
        && is_peer(frame, service.number, &packet.client)
}

#[inline(never)]
fn is_peer(frame: &Frame, service: u32, client: &Address) -> bool {
    let Some(ethernet) = frame.header::<Ethernet>(0) else {
        return false;
    };
    let mut key = PeerKey::new(service, ethernet.macs.source, Address([0; 4]));
    if PEERS.get_ptr(&key).is_none() {
        return false;
    }
    key.address = *client;
    PEERS.get_ptr(&key).is_none()
}
