//! Frames that are turned into replies to their senders.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_abi::{Reason, TCP};

use crate::frame::Frame;
use crate::headers::{Ethernet, Icmp, Ipv4, Ipv6, TCP_ACK, TCP_RST, TCP_SYN, Tcp, checksum};
use crate::packet::Packet;

/// Turns a segment of a connection that no longer exists into the reset that its
/// sender's stack accepts: with the sequence number that the sender awaits, which is the
/// one that it has just acknowledged (RFC 9293 §3.10.7.1, RFC 5961 §3.2).
#[inline(never)]
pub(crate) fn reset(frame: &Frame, packet: &Packet) -> Reason {
    let segment = Segment {
        sequence: packet.acknowledged,
        acknowledged: 0,
        flags: TCP_RST,
        window: 0,
    };
    match segment.write(frame, packet) {
        Some(()) => Reason::Reset,
        None => Reason::NoRoom,
    }
}

/// Turns a SYN into the reset that refuses its connection (RFC 9293 §3.10.7.1).
#[inline(never)]
pub(crate) fn refuse(frame: &Frame, packet: &Packet) -> Reason {
    let segment = Segment {
        sequence: 0,
        acknowledged: packet.sequence.wrapping_add(1),
        flags: TCP_RST | TCP_ACK,
        window: 0,
    };
    match segment.write(frame, packet) {
        Some(()) => Reason::Refused,
        None => Reason::NoRoom,
    }
}

/// Turns a SYN into a challenge to its sender: a SYN-ACK that acknowledges `number`, which
/// it has not sent. Who has sent the SYN answers with a reset of that sequence number (RFC
/// 9293 §3.10.7.3, state SYN-SENT).
#[inline(never)]
pub(crate) fn challenge(frame: &Frame, packet: &Packet, number: u32, sequence: u32) -> Reason {
    match Segment::challenge(number, sequence).write(frame, packet) {
        Some(()) => Reason::Challenged,
        None => Reason::NoRoom,
    }
}

/// As [`challenge`], of a SYN without payload: the frame keeps its length. What was the SYN's
/// options is padding then, which receivers ignore as they do that of short frames (RFC 894).
#[inline(always)]
pub(crate) fn challenge_in_place(
    frame: &Frame,
    packet: &Packet,
    number: u32,
    sequence: u32,
) -> Reason {
    match Segment::challenge(number, sequence).write_in_place(frame, packet) {
        Some(()) => Reason::Challenged,
        None => Reason::NoRoom,
    }
}

/// A TCP header without options or payload.
struct Segment {
    sequence: u32,
    acknowledged: u32,
    flags: u8,
    window: u16,
}

impl Segment {
    /// See [`challenge`].
    #[inline(always)]
    fn challenge(number: u32, sequence: u32) -> Self {
        Self {
            sequence,
            acknowledged: number,
            flags: TCP_SYN | TCP_ACK,
            // Connection tracking takes the reset for one within the window, which must
            // therefore reach from `number` to the SYN.
            window: u16::MAX,
        }
    }

    /// Turns the frame of `packet` into one with this segment, from the service to the
    /// client.
    #[inline(always)]
    fn write(&self, frame: &Frame, packet: &Packet) -> Option<()> {
        // A segment has at least these headers, so that the frame never grows.
        frame.cut(transport_offset(packet) + size_of::<Tcp>())?;
        self.write_in_place(frame, packet)
    }

    /// As [`Self::write`], in a frame that keeps its length.
    #[inline(always)]
    fn write_in_place(&self, frame: &Frame, packet: &Packet) -> Option<()> {
        const OFFSET: u8 = (size_of::<Tcp>() as u8 / 4) << 4;
        let transport = transport_offset(packet);
        swap_macs(frame)?;
        let length = size_of::<Tcp>() as u16;
        write_network(frame, packet, packet.network_offset(), TCP, length)?;

        let tcp: &mut Tcp = frame.header_mut(transport)?;
        let (sequence, acknowledged) = (self.sequence.to_be(), self.acknowledged.to_be());
        tcp.source_port = packet.service_port;
        tcp.destination_port = packet.client_port;
        tcp.sequence = sequence;
        tcp.acknowledged = acknowledged;
        tcp.data_offset = OFFSET;
        tcp.flags = self.flags;
        tcp.window = self.window.to_be();
        tcp.urgent = 0;
        tcp.checksum = checksum(
            pseudo_header(packet, TCP, length)
                + u64::from(packet.service_port)
                + u64::from(packet.client_port)
                + u64::from(sequence)
                + u64::from(acknowledged)
                + u64::from(u16::from_ne_bytes([OFFSET, self.flags]))
                + u64::from(self.window.to_be()),
        );
        Some(())
    }
}

/// Offset of the transport header in a reply, whose IP header is the shortest.
#[inline(always)]
fn transport_offset(packet: &Packet) -> usize {
    packet.network_offset()
        + if packet.is_ipv6 {
            size_of::<Ipv6>()
        } else {
            size_of::<Ipv4>()
        }
}

/// RFC 792 (3, 4) with the MTU of RFC 1191 §4.
const ICMP_FRAGMENTATION_NEEDED: u16 = u16::from_ne_bytes([3, 4]);
/// RFC 4443 §3.2.
const ICMPV6_PACKET_TOO_BIG: u16 = u16::from_ne_bytes([2, 0]);

/// Length of what an ICMP error quotes, in words: enough for IPv4 with all options, or
/// IPv6 with one or two extension headers, and the first words of TCP or UDP. Every packet that is too
/// big for a path is longer.
const QUOTED_WORDS: usize = 17;

/// Turns a packet into the ICMP error that it was too big: no more than `mtu` bytes fit.
#[inline(always)]
pub(crate) fn too_big(frame: &Frame, packet: &Packet, mtu: u32) -> Reason {
    if into_too_big(frame.context(), packet, mtu) {
        Reason::TooBig
    } else {
        Reason::NoRoom
    }
}

/// False if the kernel refuses. Global, as [`slow_path`](crate::slow_path).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn into_too_big(context: *mut xdp_md, packet: *const Packet, mtu: u32) -> bool {
    // SAFETY: `too_big` passes what it refers to.
    let Some(packet) = (unsafe { packet.as_ref() }) else {
        return false;
    };
    let context = XdpContext::new(context);
    write_too_big(&Frame::new(&context), packet, mtu)
}

/// An Ethernet header with its tags, in `WORDS` words and a half, to be moved as it is.
#[repr(C, packed(2))]
struct LinkBytes<const WORDS: usize> {
    words: [u32; WORDS],
    last: u16,
}

/// Not inlined: what a reference names the compiler copies word by word, as it does not what
/// a pointer names.
#[inline(never)]
fn write_too_big(frame: &Frame, packet: &Packet, mtu: u32) -> bool {
    try_too_big(frame, packet, mtu).is_some()
}

#[inline(always)]
fn try_too_big(frame: &Frame, packet: &Packet, mtu: u32) -> Option<()> {
    let network_bytes = if packet.is_ipv6 {
        size_of::<Ipv6>()
    } else {
        size_of::<Ipv4>()
    };
    let added = network_bytes + size_of::<Icmp>();
    frame.cut(packet.network_offset() + QUOTED_WORDS * 4)?;
    frame.move_start(-(added as i32))?;
    match packet.tag_count {
        0 => move_link::<3>(frame, added)?,
        1 => move_link::<4>(frame, added)?,
        _ => move_link::<5>(frame, added)?,
    }
    swap_macs(frame)?;

    let network = packet.network_offset();
    let length = (size_of::<Icmp>() + QUOTED_WORDS * 4) as u16;
    let protocol = if packet.is_ipv6 {
        lb_abi::ICMPV6
    } else {
        lb_abi::ICMP
    };
    write_network(frame, packet, network, protocol, length)?;

    let transport = network + network_bytes;
    let quoted: &Quoted = frame.header(transport + size_of::<Icmp>())?;
    let mut sum = 0;
    for word in 0..QUOTED_WORDS {
        sum += u64::from({ quoted.words }[word]);
    }
    let (kind, rest) = if packet.is_ipv6 {
        sum += pseudo_header(packet, protocol, length);
        (ICMPV6_PACKET_TOO_BIG, mtu.to_be())
    } else {
        (ICMP_FRAGMENTATION_NEEDED, (mtu & 0xFFFF).to_be())
    };
    let icmp: &mut Icmp = frame.header_mut(transport)?;
    let [kind_byte, code_byte] = kind.to_ne_bytes();
    icmp.kind = kind_byte;
    icmp.code = code_byte;
    icmp.rest = rest;
    icmp.checksum = checksum(sum + u64::from(kind) + u64::from(rest));
    Some(())
}

#[repr(C, packed(2))]
struct Quoted {
    words: [u32; QUOTED_WORDS],
}

/// Moves the Ethernet header to the frame's start, from `by` bytes behind it. Word by
/// word: for an assignment of the whole the compiler may call a function.
#[inline(always)]
fn move_link<const WORDS: usize>(frame: &Frame, by: usize) -> Option<()> {
    let from: &LinkBytes<WORDS> = frame.header(by)?;
    let to: &mut LinkBytes<WORDS> = frame.header_mut(0)?;
    for word in 0..WORDS {
        to.words[word] = { from.words }[word];
    }
    to.last = from.last;
    Some(())
}

#[inline(always)]
fn swap_macs(frame: &Frame) -> Option<()> {
    let ethernet: &mut Ethernet = frame.header_mut(0)?;
    let (destination, source) = (ethernet.macs.destination, ethernet.macs.source);
    ethernet.macs.destination.copy_from(&source);
    ethernet.macs.source.copy_from(&destination);
    Some(())
}

/// Writes the IP header of a reply: from the service to the client.
#[inline(always)]
fn write_network(
    frame: &Frame,
    packet: &Packet,
    offset: usize,
    protocol: u8,
    payload: u16,
) -> Option<()> {
    let (source, destination) = (&packet.virtual_address, &packet.client);
    if packet.is_ipv6 {
        let header: &mut Ipv6 = frame.header_mut(offset)?;
        header.fill(payload, protocol, &source.0, &destination.0);
    } else {
        let header: &mut Ipv4 = frame.header_mut(offset)?;
        let total = size_of::<Ipv4>() as u16 + payload;
        header.fill(total, protocol, source.ipv4_word(), destination.ipv4_word());
        header.seal();
    }
    Some(())
}

/// Sum of the words of the pseudo header that the checksums of TCP and ICMPv6 cover (RFC 9293
/// §3.1, RFC 8200 §8.1).
#[inline(always)]
fn pseudo_header(packet: &Packet, protocol: u8, length: u16) -> u64 {
    let mut sum = u64::from(u16::from(protocol).to_be()) + u64::from(length.to_be());
    // Of an IPv4 address the last word only.
    let first = if packet.is_ipv6 { 0 } else { 3 };
    for word in 0..4 {
        if word >= first {
            sum += u64::from(packet.client.0[word]) + u64::from(packet.virtual_address.0[word]);
        }
    }
    sum
}
