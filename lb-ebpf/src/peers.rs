//! Whether a frame has been balanced already.
//!
//! Two directors may be each other's real servers, and a frame that one of them
//! sends to the other must not come back. In direct routing a real server has the
//! virtual address itself, so that it never sends a client's packet for it: a frame
//! that bears its MAC address comes from a director that runs beside it. Its own
//! connections are those exceptions that the agent enters. What circles past more
//! directors than know each other ends when its hops are used up.

use lb_abi::{Address, PeerKey};

use crate::frame::Frame;
use crate::headers::Ethernet;
use crate::maps::PEERS;
use crate::parse::Packet;
use crate::service_table::{ServiceRef, ServiceTable};

/// Whether the packet for a service comes from one who has balanced it.
#[inline(always)]
pub fn has_balanced(
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
