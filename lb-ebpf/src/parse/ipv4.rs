//! IPv4, options and fragments included.

use lb_abi::{Address, Reason};

use super::fast::Network;
use super::{Kind, Packet};
use crate::frame::Frame;
use crate::headers::{
    ETHERTYPE_IPV4, IPV4_DO_NOT_FRAGMENT, IPV4_MORE_FRAGMENTS, IPV4_OFFSET, Ipv4,
};

#[inline(always)]
pub fn header(frame: &Frame, offset: usize, packet: &mut Packet) -> Result<(), Reason> {
    quoted(frame, offset, packet)?;
    if !frame.reaches(offset + packet.bytes as usize) {
        return Err(Reason::Truncated);
    }
    Ok(())
}

/// As [`header`], for a packet of which only the start need be there.
#[inline(always)]
pub fn quoted(frame: &Frame, offset: usize, packet: &mut Packet) -> Result<(), Reason> {
    let header: &Ipv4 = frame.header(offset).ok_or(Reason::Truncated)?;
    header.read(offset, packet)
}

impl Network for Ipv4 {
    const ETHERTYPE: u16 = ETHERTYPE_IPV4;

    #[inline(always)]
    fn suits_fast_path(&self) -> bool {
        const WITHOUT_OPTIONS: u8 = 0x45;
        self.version_and_length == WITHOUT_OPTIONS
            && self.flags_and_offset & (IPV4_MORE_FRAGMENTS | IPV4_OFFSET) == 0
    }

    #[inline(always)]
    fn protocol(&self) -> u8 {
        self.protocol
    }

    #[inline(always)]
    fn class(&self) -> u8 {
        self.service
    }

    #[inline(always)]
    fn may_be_fragmented(&self) -> bool {
        self.flags_and_offset & IPV4_DO_NOT_FRAGMENT == 0
    }

    #[inline(always)]
    fn lower_hops(&mut self) {
        // RFC 1624, of a word whose upper byte is one less.
        const ONE_HOP: u32 = 0x0100_u16.to_be() as u32;
        let sum = u32::from(self.checksum) + ONE_HOP;
        self.checksum = (sum + u32::from(sum >= 0xFFFF)) as u16;
        self.time_to_live = self.time_to_live.wrapping_sub(1);
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
        packet.network = offset;
        packet.transport = offset + length;
        packet.transport_bytes = (total_length - length) as u32;
        Ok(())
    }
}
