//! TCP and UDP headers.

use lb_abi::{Reason, TCP, UDP};

use super::fast::ParseTransport;
use crate::frame::Frame;
use crate::headers::{Tcp, Udp};
use crate::packet::{Kind, Packet};

/// Reads the transport header that follows the IP header and its extensions.
#[inline(always)]
pub(super) fn header<T: ParseTransport>(frame: &Frame, packet: &mut Packet) -> Result<(), Reason> {
    let header: &T = frame
        .header(packet.transport_offset())
        .ok_or(Reason::Truncated)?;
    header.read(packet)
}

impl ParseTransport for Tcp {
    const PROTOCOL: u8 = TCP;

    #[inline(always)]
    fn read(&self, packet: &mut Packet) -> Result<(), Reason> {
        let length = u32::from(self.data_offset >> 4) * 4;
        if (length as usize) < size_of::<Self>() || length > packet.transport_bytes {
            return Err(Reason::Malformed);
        }
        packet.client_port = self.source_port;
        packet.service_port = self.destination_port;
        packet.tcp_flags = self.flags;
        packet.sequence = u32::from_be(self.sequence);
        packet.acknowledged = u32::from_be(self.acknowledged);
        Ok(())
    }
}

impl ParseTransport for Udp {
    const PROTOCOL: u8 = UDP;

    #[inline(always)]
    fn read(&self, packet: &mut Packet) -> Result<(), Reason> {
        let length = u32::from(u16::from_be(self.length));
        // The length is that of the whole datagram, of which a first fragment is a part.
        let is_whole = packet.kind == Kind::Whole;
        if (length as usize) < size_of::<Self>() || is_whole && length > packet.transport_bytes {
            return Err(Reason::Malformed);
        }
        packet.client_port = self.source_port;
        packet.service_port = self.destination_port;
        Ok(())
    }
}
