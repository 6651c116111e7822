//! ICMP errors: the connection that an error is about.
//!
//! Routers between a server and a client send errors about the server's packets to
//! their source: the virtual address, hence to the director. "Packet too big" must
//! reach the server, or path MTU discovery fails (RFC 1191, RFC 8201).

use lb_abi::{Reason, TCP, UDP};

use super::{ipv4, ipv6, scratch};
use crate::frame::Frame;
use crate::headers::{Icmp, Ports};
use crate::packet::{Kind, Packet};

/// RFC 792: unreachable, source quench, time exceeded, parameter problem.
const ICMP_ERRORS: [u8; 4] = [3, 4, 11, 12];
/// RFC 4443 §2.1: errors are below.
const ICMPV6_FIRST_INFORMATIONAL: u8 = 128;

/// Gives `packet`, an ICMP message, the addresses and ports of the connection that it
/// is about.
///
/// # Errors
///
/// [`Reason::IcmpUnrelated`] if the message is no error about a packet of TCP or UDP
/// that was sent from the packet's destination.
#[inline(never)]
pub(super) fn error(frame: &Frame, packet: &mut Packet) -> Result<(), Reason> {
    let icmp: &Icmp = frame
        .header(packet.transport_offset())
        .ok_or(Reason::Truncated)?;
    let is_error = if packet.is_ipv6 {
        icmp.kind < ICMPV6_FIRST_INFORMATIONAL
    } else {
        ICMP_ERRORS.contains(&{ icmp.kind })
    };
    if !is_error {
        return Err(Reason::IcmpUnrelated);
    }
    let offset = packet.transport_offset() + size_of::<Icmp>();
    let quoted = scratch::quoted()?;
    if packet.is_ipv6 {
        ipv6::quoted(frame, offset, quoted)?;
    } else {
        ipv4::quoted(frame, offset, quoted)?;
    }
    let has_ports = quoted.protocol == TCP || quoted.protocol == UDP;
    if !has_ports || quoted.kind == Kind::LaterFragment || quoted.client != packet.virtual_address {
        return Err(Reason::IcmpUnrelated);
    }
    let ports: &Ports = frame
        .header(quoted.transport_offset())
        .ok_or(Reason::Truncated)?;
    // The quoted packet went from the service to the client.
    packet.kind = Kind::IcmpError;
    packet.client = quoted.virtual_address;
    packet.protocol = quoted.protocol;
    packet.client_port = ports.destination_port;
    packet.service_port = ports.source_port;
    Ok(())
}
