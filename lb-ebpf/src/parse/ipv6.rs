//! IPv6, extension headers and fragments included.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_abi::Reason;

use super::fast::ParseNetwork;
use crate::frame::Frame;
use crate::headers::{
    Extension, FragmentHeader, IPV6_MORE_FRAGMENTS, IPV6_OFFSET, IPV6_VERSION, IPV6_VERSION_MASK,
    Ipv6,
};
use crate::packet::{Kind, Packet};

/// Extension headers that a packet may have: more than any real one has, and the bound
/// that the verifier needs.
const MAX_EXTENSIONS: usize = 6;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// Reads the header at `offset` and its extensions, of a packet that the frame must
/// hold as a whole.
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
    let header: &Ipv6 = frame.header(offset).ok_or(Reason::Truncated)?;
    header.read(offset, packet)?;
    if is_extension(packet.protocol) {
        match extensions(frame.context(), packet) {
            READ => {}
            reason => return Err(Reason::from_number(reason)),
        }
    }
    Ok(())
}

impl ParseNetwork for Ipv6 {
    #[inline(always)]
    fn suits_fast_path(&self) -> bool {
        !is_extension(self.next_header)
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
        packet.network_offset = offset;
        packet.transport_offset = offset + size_of::<Self>();
        packet.transport_bytes = payload_length;
        Ok(())
    }
}

/// Result of [`extensions`] that is the number of no [`Reason`].
const READ: u32 = u32::MAX;

/// See [`read_extensions`]; returns [`READ`], or the number of a [`Reason`].
///
/// Global, as [`slow_path`](crate::slow_path).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn extensions(context: *mut xdp_md, packet: *mut Packet) -> u32 {
    // SAFETY: `quoted` passes what it refers to.
    let Some(packet) = (unsafe { packet.as_mut() }) else {
        return Reason::NoRoom as u32;
    };
    let context = XdpContext::new(context);
    match read_extensions(&Frame::new(&context), packet) {
        Ok(()) => READ,
        Err(reason) => reason as u32,
    }
}

/// Reads the extension headers (RFC 8200 §4.1) up to the transport header.
#[inline(always)]
fn read_extensions(frame: &Frame, packet: &mut Packet) -> Result<(), Reason> {
    for _ in 0..MAX_EXTENSIONS {
        let length = match packet.protocol {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                (u32::from(extension(frame, packet)?) + 1) * 8
            }
            // In words, less two (RFC 4302 §2.2).
            AUTHENTICATION => (u32::from(extension(frame, packet)?) + 2) * 4,
            FRAGMENT => {
                let header: &FragmentHeader = frame
                    .header(packet.transport_offset())
                    .ok_or(Reason::Truncated)?;
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
        packet.transport_offset += length as usize;
        packet.transport_bytes -= length;
        // What follows is payload.
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

/// Reads the extension header that stands where the transport header was expected, and
/// returns its length field.
#[inline(always)]
fn extension(frame: &Frame, packet: &mut Packet) -> Result<u8, Reason> {
    let header: &Extension = frame
        .header(packet.transport_offset())
        .ok_or(Reason::Truncated)?;
    packet.protocol = header.next_header;
    Ok(header.length)
}

/// True if `protocol` announces an extension header.
#[inline(always)]
pub(super) fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS
    )
}
