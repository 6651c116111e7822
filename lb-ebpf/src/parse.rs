//! Reads the headers of a frame into a [`Packet`].
//!
//! Nothing behind the parser depends on the address family.

pub(crate) mod fast;
mod icmp;
mod ipv4;
mod ipv6;
mod link;
mod scratch;
mod transport;

use lb_abi::{ICMP, ICMPV6, Reason, TCP, UDP};

use crate::frame::Frame;
use crate::headers::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Tcp, Udp};
use crate::packet::{Kind, Packet};

pub(crate) use scratch::last_packet;

/// Parses any frame.
///
/// # Errors
///
/// The reason why the balancer does not handle the frame.
#[inline(always)]
pub(crate) fn packet(frame: &Frame) -> Result<&'static Packet, Reason> {
    let packet = scratch::packet()?;
    read(frame, packet)?;
    Ok(packet)
}

#[inline(never)]
fn read(frame: &Frame, packet: &mut Packet) -> Result<(), Reason> {
    let link = link::header(frame)?;
    packet.tag_count = link.tag_count;
    match link.ethertype {
        ETHERTYPE_IPV4 => ipv4::header(frame, link.payload, packet)?,
        ETHERTYPE_IPV6 => ipv6::header(frame, link.payload, packet)?,
        _ => return Err(Reason::NotIp),
    }
    match packet.protocol {
        TCP | UDP if packet.kind == Kind::LaterFragment => {}
        // Behind an extension header of a later fragment follow bytes of its payload:
        // which transport protocol they belong to, only the first fragment tells.
        protocol
            if packet.is_ipv6
                && packet.kind == Kind::LaterFragment
                && ipv6::is_extension(protocol) => {}
        TCP => transport::header::<Tcp>(frame, packet)?,
        UDP => transport::header::<Udp>(frame, packet)?,
        ICMP if !packet.is_ipv6 && packet.kind == Kind::Whole => {
            icmp::error(frame, packet)?;
        }
        ICMPV6 if packet.is_ipv6 && packet.kind == Kind::Whole => {
            icmp::error(frame, packet)?;
        }
        _ => return Err(Reason::OtherProtocol),
    }
    Ok(())
}
