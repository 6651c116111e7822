//! ICMP errors: about which connection?
//!
//! Routers on the way to a viewer reply the edge's packets to the address
//! that these bear: the virtual one. "Packet too big" must reach the edge, or
//! its packets vanish for good (RFC 1191, RFC 8201).

use lb_abi::{Reason, TCP, UDP};

use super::{Kind, Packet, SCRATCH_QUOTED, ipv4, ipv6, scratch};
use crate::frame::Frame;
use crate::headers::{Icmp, Ports};

/// RFC 792: unreachable, source quench, time exceeded, parameter problem.
const ICMP_ERRORS: [u8; 4] = [3, 4, 11, 12];
/// RFC 4443 §2.1: errors are below.
const ICMPV6_FIRST_INFORMATIONAL: u8 = 128;

/// Makes `packet` one of the connection that the error is about.
#[inline(never)]
pub fn error(frame: &Frame, packet: &mut Packet) -> Result<(), Reason> {
    let icmp: &Icmp = frame.header(packet.transport()).ok_or(Reason::Truncated)?;
    let is_error = if packet.is_ipv6 {
        icmp.kind < ICMPV6_FIRST_INFORMATIONAL
    } else {
        ICMP_ERRORS.contains(&{ icmp.kind })
    };
    if !is_error {
        return Err(Reason::IcmpUnrelated);
    }
    let offset = packet.transport() + size_of::<Icmp>();
    let quoted = scratch(SCRATCH_QUOTED)?;
    if packet.is_ipv6 {
        ipv6::quoted(frame, offset, quoted)?;
    } else {
        ipv4::quoted(frame, offset, quoted)?;
    }
    let has_ports = quoted.protocol == TCP || quoted.protocol == UDP;
    if !has_ports || quoted.kind == Kind::LaterFragment || quoted.client != packet.virtual_address {
        return Err(Reason::IcmpUnrelated);
    }
    let ports: &Ports = frame.header(quoted.transport()).ok_or(Reason::Truncated)?;
    packet.kind = Kind::IcmpError;
    packet.client = quoted.virtual_address;
    packet.protocol = quoted.protocol;
    packet.client_port = ports.destination_port;
    packet.service_port = ports.source_port;
    Ok(())
}
