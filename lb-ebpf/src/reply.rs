//! Frames turned into answers to their senders.

use lb_abi::{Reason, TCP};

use crate::frame::Frame;
use crate::headers::{Ethernet, Icmp, Ipv4, Ipv6, TCP_RST, Tcp};
use crate::parse::Packet;

/// Turns a segment of a void connection into the reset that its sender's stack
/// accepts: with exactly the sequence number that the sender awaits, which is
/// what it has just acknowledged (RFC 9293 §3.10.7.1, RFC 5961 §3.2).
#[inline(never)]
pub fn reset(frame: &Frame, packet: &Packet) -> Reason {
    let network = packet.network();
    let transport = network
        + if packet.is_ipv6 {
            size_of::<Ipv6>()
        } else {
            size_of::<Ipv4>()
        };
    // A segment has at least these headers, so that this never grows a frame.
    if frame.cut(transport + size_of::<Tcp>()).is_none() {
        return Reason::NoRoom;
    }
    match write_reset(frame, packet, transport) {
        Some(()) => Reason::Reset,
        None => Reason::NoRoom,
    }
}

#[inline(always)]
fn write_reset(frame: &Frame, packet: &Packet, transport: usize) -> Option<()> {
    swap_macs(frame)?;
    let length = size_of::<Tcp>() as u16;
    write_network(frame, packet, packet.network(), TCP, length)?;

    let tcp: &mut Tcp = frame.header_mut(transport)?;
    let sequence = packet.acknowledged.to_be();
    tcp.source_port = packet.service_port;
    tcp.destination_port = packet.client_port;
    tcp.sequence = sequence;
    tcp.acknowledged = 0;
    tcp.data_offset = (size_of::<Tcp>() as u8 / 4) << 4;
    tcp.flags = TCP_RST;
    tcp.window = 0;
    tcp.urgent = 0;
    let offset_and_flags = u16::from_ne_bytes([(size_of::<Tcp>() as u8 / 4) << 4, TCP_RST]);
    tcp.checksum = fold(
        pseudo_header(packet, TCP, length)
            + u64::from(packet.service_port)
            + u64::from(packet.client_port)
            + u64::from(sequence)
            + u64::from(offset_and_flags),
    );
    Some(())
}

/// RFC 792 (3, 4) with the MTU of RFC 1191 §4.
const ICMP_FRAGMENTATION_NEEDED: u16 = u16::from_ne_bytes([3, 4]);
/// RFC 4443 §3.2.
const ICMPV6_PACKET_TOO_BIG: u16 = u16::from_ne_bytes([2, 0]);

/// What an error quotes, in words: IPv4 with all its options, or IPv6 with an
/// extension header or two, and the start of TCP's. Whatever is too big for a
/// path has as much.
const QUOTED_WORDS: usize = 17;

/// Turns a packet into the message that it was too big.
#[inline(never)]
pub fn too_big(frame: &Frame, packet: &Packet, mtu: u32) -> Reason {
    match write_too_big(frame, packet, mtu) {
        Some(()) => Reason::TooBig,
        None => Reason::NoRoom,
    }
}

/// An Ethernet header with up to two tags, in words that are moved as they are.
#[repr(C, packed(2))]
struct Link<const WORDS: usize> {
    words: [u32; WORDS],
    half: u16,
}

#[inline(always)]
fn write_too_big(frame: &Frame, packet: &Packet, mtu: u32) -> Option<()> {
    let own = if packet.is_ipv6 {
        size_of::<Ipv6>()
    } else {
        size_of::<Ipv4>()
    };
    let added = own + size_of::<Icmp>();
    frame.cut(packet.network() + QUOTED_WORDS * 4)?;
    frame.move_start(-(added as i32))?;
    match packet.tag_count {
        0 => move_link::<3>(frame, added)?,
        1 => move_link::<4>(frame, added)?,
        _ => move_link::<5>(frame, added)?,
    }
    swap_macs(frame)?;

    let network = packet.network();
    let length = (size_of::<Icmp>() + QUOTED_WORDS * 4) as u16;
    let protocol = if packet.is_ipv6 {
        lb_abi::ICMPV6
    } else {
        lb_abi::ICMP
    };
    write_network(frame, packet, network, protocol, length)?;

    let transport = network + own;
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
    icmp.checksum = fold(sum + u64::from(kind) + u64::from(rest));
    Some(())
}

#[repr(C, packed(2))]
struct Quoted {
    words: [u32; QUOTED_WORDS],
}

#[inline(always)]
fn move_link<const WORDS: usize>(frame: &Frame, by: usize) -> Option<()> {
    let from: &Link<WORDS> = frame.header(by)?;
    let to: &mut Link<WORDS> = frame.header_mut(0)?;
    for word in 0..WORDS {
        to.words[word] = { from.words }[word];
    }
    to.half = from.half;
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

/// Writes an IP header from the service to the client.
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

/// Sum of the pseudo header that TCP and ICMPv6 checksums cover (RFC 9293
/// §3.1, RFC 8200 §8.1).
#[inline(always)]
fn pseudo_header(packet: &Packet, protocol: u8, length: u16) -> u64 {
    let mut sum = u64::from(u16::from(protocol).to_be()) + u64::from(length.to_be());
    let first = if packet.is_ipv6 { 0 } else { 3 };
    for word in 0..4 {
        if word >= first {
            sum += u64::from(packet.client.0[word]) + u64::from(packet.virtual_address.0[word]);
        }
    }
    sum
}

/// The Internet checksum of a sum of words (RFC 1071).
#[inline(always)]
pub fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xFFFF_FFFF);
    let sum = (sum >> 16) + (sum & 0xFFFF);
    let sum = (sum >> 16) + (sum & 0xFFFF);
    let sum = (sum >> 16) + (sum & 0xFFFF);
    !(sum as u16)
}
