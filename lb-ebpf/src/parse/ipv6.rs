//! IPv6, extension headers and fragments included.

use lb_abi::Reason;

use super::fast::Network;
use super::{Kind, Packet};
use crate::frame::Frame;
use crate::headers::{
    ETHERTYPE_IPV6, Extension, FragmentHeader, IPV6_MORE_FRAGMENTS, IPV6_OFFSET, IPV6_VERSION,
    IPV6_VERSION_MASK, Ipv6,
};

/// More than any real packet has; the verifier wants an end.
const MAX_EXTENSIONS: usize = 6;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

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
    let header: &Ipv6 = frame.header(offset).ok_or(Reason::Truncated)?;
    header.read(offset, packet)?;
    if is_extension(packet.protocol) {
        extensions(frame, packet)?;
    }
    Ok(())
}

impl Network for Ipv6 {
    const ETHERTYPE: u16 = ETHERTYPE_IPV6;

    #[inline(always)]
    fn suits_fast_path(&self) -> bool {
        !is_extension(self.next_header)
    }

    #[inline(always)]
    fn protocol(&self) -> u8 {
        self.next_header
    }

    #[inline(always)]
    fn class(&self) -> u8 {
        (u32::from_be(self.version_and_class) >> 20) as u8
    }

    #[inline(always)]
    fn may_be_fragmented(&self) -> bool {
        true
    }

    #[inline(always)]
    fn lower_hops(&mut self) {
        self.hop_limit = self.hop_limit.wrapping_sub(1);
    }

    #[inline(always)]
    fn read(&self, offset: usize, packet: &mut Packet) -> Result<(), Reason> {
        if self.version_and_class & IPV6_VERSION_MASK != IPV6_VERSION {
            return Err(Reason::Malformed);
        }
        let payload_length = u32::from(u16::from_be(self.payload_length));
        packet.is_ipv6 = true;
        for word in 0..4 {
            packet.client.0[word] = { self.source }[word];
            packet.virtual_address.0[word] = { self.destination }[word];
        }
        packet.protocol = self.next_header;
        packet.hops = self.hop_limit;
        packet.bytes = size_of::<Self>() as u32 + payload_length;
        packet.network = offset;
        packet.transport = offset + size_of::<Self>();
        packet.transport_bytes = payload_length;
        Ok(())
    }
}

/// Walks the extension headers (RFC 8200 §4.1) up to the transport header.
#[inline(never)]
fn extensions(frame: &Frame, packet: &mut Packet) -> Result<(), Reason> {
    for _ in 0..MAX_EXTENSIONS {
        let length = match packet.protocol {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                let header: &Extension =
                    frame.header(packet.transport()).ok_or(Reason::Truncated)?;
                packet.protocol = header.next_header;
                (u32::from(header.length) + 1) * 8
            }
            AUTHENTICATION => {
                let header: &Extension =
                    frame.header(packet.transport()).ok_or(Reason::Truncated)?;
                packet.protocol = header.next_header;
                (u32::from(header.length) + 2) * 4
            }
            FRAGMENT => {
                let header: &FragmentHeader =
                    frame.header(packet.transport()).ok_or(Reason::Truncated)?;
                packet.protocol = header.next_header;
                packet.identification = header.identification;
                packet.kind = if header.offset_and_more & IPV6_OFFSET != 0 {
                    Kind::LaterFragment
                } else if header.offset_and_more & IPV6_MORE_FRAGMENTS != 0 {
                    Kind::FirstFragment
                } else {
                    // An "atomic fragment" (RFC 6946) is whole.
                    Kind::Whole
                };
                size_of::<FragmentHeader>() as u32
            }
            _ => return Ok(()),
        };
        if length > packet.transport_bytes {
            return Err(Reason::Malformed);
        }
        packet.transport += length as usize;
        packet.transport_bytes -= length;
        if packet.kind == Kind::LaterFragment {
            return Ok(());
        }
    }
    if is_extension(packet.protocol) {
        Err(Reason::ExtensionHeaders)
    } else {
        Ok(())
    }
}

/// Whether `protocol` announces an extension header.
#[inline(always)]
pub fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS
    )
}
