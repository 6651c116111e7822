//! The IPv6 header (RFC 8200 §3).

use lb_common::{Address, Reason};

use super::Network;
use crate::frame::Frame;

#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Header {
    version_and_class: u32,
    payload_length: u16,
    next_header: u8,
    hop_limit: u8,
    source: [u32; 4],
    destination: [u32; 4],
}

const VERSION: u32 = 0xF000_0000_u32.to_be();
const VERSION_6: u32 = 0x6000_0000_u32.to_be();

#[inline(always)]
pub fn header(frame: &Frame, offset: usize) -> Result<Network, Reason> {
    let header: &Header = frame.header(offset).ok_or(Reason::Truncated)?;
    if header.version_and_class & VERSION != VERSION_6 {
        return Err(Reason::Malformed);
    }
    let length = size_of::<Header>();
    let payload_length = usize::from(u16::from_be(header.payload_length));
    if !frame.reaches(offset + length + payload_length) {
        return Err(Reason::Truncated);
    }
    Ok(Network {
        source: Address(header.source),
        destination: Address(header.destination),
        protocol: header.next_header,
        transport: offset + length,
        transport_bytes: payload_length as u32,
        bytes: (length + payload_length) as u32,
    })
}
