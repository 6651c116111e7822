//! IPv4, options and fragments included.

use lb_abi::{Address, Reason};

use super::fast::ParseNetwork;
use crate::frame::Frame;
use crate::headers::{IPV4_MORE_FRAGMENTS, IPV4_OFFSET, Ipv4};
use crate::packet::{Kind, Packet};

/// Reads the header at `offset`, of a packet that the frame must hold as a whole.
#[inline(always)]
pub(super) fn header(frame: &Frame, offset: usize, packet: &mut Packet) -> Result<(), Reason> {
    quoted(frame, offset, packet)?;
    if !frame.reaches(offset + packet.bytes as usize) {
        return Err(Reason::Truncated);
    }
    Ok(())
}

/// As [`header`], of a packet of which only the start need be there.
#[inline(always)]
pub(super) fn quoted(frame: &Frame, offset: usize, packet: &mut Packet) -> Result<(), Reason> {
    let header: &Ipv4 = frame.header(offset).ok_or(Reason::Truncated)?;
    header.read(offset, packet)
}

impl ParseNetwork for Ipv4 {
    #[inline(always)]
    fn suits_fast_path(&self) -> bool {
        self.is_whole_without_options()
    }

    #[inline(always)]
    fn read(&self, offset: usize, packet: &mut Packet) -> Result<(), Reason> {
        let length = usize::from(self.version_and_length & 0x0F) * 4;
        let total_length = usize::from(u16::from_be(self.total_length));
        if self.version_and_length >> 4 != 4 || length < size_of::<Self>() || total_length < length
        {
            return Err(Reason::Malformed);
        }
        let flags_and_offset = self.flags_and_offset;
        if flags_and_offset & (IPV4_MORE_FRAGMENTS | IPV4_OFFSET) != 0 {
            packet.identification = u32::from(self.identification);
            packet.kind = if flags_and_offset & IPV4_OFFSET == 0 {
                Kind::FirstFragment
            } else {
                Kind::LaterFragment
            };
        }
        packet.client = Address::from_ipv4_word(self.source);
        packet.virtual_address = Address::from_ipv4_word(self.destination);
        packet.protocol = self.protocol;
        packet.hops = self.time_to_live;
        packet.bytes = total_length as u32;
        packet.network_offset = offset;
        packet.transport_offset = offset + length;
        packet.transport_bytes = (total_length - length) as u32;
        Ok(())
    }
}
