//! TCP and UDP headers.

use lb_common::Reason;

use super::{Kind, Packet};
use crate::frame::Frame;
use crate::headers::{Tcp, Udp};

#[inline(always)]
pub fn tcp(frame: &Frame, packet: &mut Packet) -> Result<(), Reason> {
    let header: &Tcp = frame.header(packet.transport()).ok_or(Reason::Truncated)?;
    let length = u32::from(header.data_offset >> 4) * 4;
    if (length as usize) < size_of::<Tcp>() || length > packet.transport_bytes {
        return Err(Reason::Malformed);
    }
    packet.client_port = header.source_port;
    packet.service_port = header.destination_port;
    packet.tcp_flags = header.flags;
    packet.acknowledged = u32::from_be(header.acknowledged);
    Ok(())
}

#[inline(always)]
pub fn udp(frame: &Frame, packet: &mut Packet) -> Result<(), Reason> {
    let header: &Udp = frame.header(packet.transport()).ok_or(Reason::Truncated)?;
    let length = u32::from(u16::from_be(header.length));
    let is_whole = packet.kind == Kind::Whole;
    if (length as usize) < size_of::<Udp>() || is_whole && length > packet.transport_bytes {
        return Err(Reason::Malformed);
    }
    packet.client_port = header.source_port;
    packet.service_port = header.destination_port;
    Ok(())
}
