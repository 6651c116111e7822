//! The IPv4 header (RFC 791 §3.1), options included.

use lb_common::{Address, Reason};

use super::Network;
use crate::frame::Frame;

#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Header {
    version_and_length: u8,
    service: u8,
    total_length: u16,
    identification: u16,
    flags_and_offset: u16,
    time_to_live: u8,
    protocol: u8,
    checksum: u16,
    source: u32,
    destination: u32,
}

/// "More fragments" and the offset: any of them set makes a fragment.
const FRAGMENT: u16 = 0x3FFF_u16.to_be();

#[inline(always)]
pub fn header(frame: &Frame, offset: usize) -> Result<Network, Reason> {
    let header: &Header = frame.header(offset).ok_or(Reason::Truncated)?;
    let length = usize::from(header.version_and_length & 0x0F) * 4;
    let total_length = usize::from(u16::from_be(header.total_length));
    if header.version_and_length >> 4 != 4 || length < size_of::<Header>() || total_length < length
    {
        return Err(Reason::Malformed);
    }
    if !frame.reaches(offset + total_length) {
        return Err(Reason::Truncated);
    }
    if header.flags_and_offset & FRAGMENT != 0 {
        return Err(Reason::Fragment);
    }
    Ok(Network {
        source: Address::from_ipv4_word(header.source),
        destination: Address::from_ipv4_word(header.destination),
        protocol: header.protocol,
        transport: offset + length,
        transport_bytes: (total_length - length) as u32,
        bytes: total_length as u32,
    })
}
