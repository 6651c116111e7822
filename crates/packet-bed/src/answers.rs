//! What the data plane says to clients, taken apart and checked.

use etherparse::{NetHeaders, PacketHeaders, TcpHeader, TransportHeader};

use super::Verdict;

/// Checks that `answer` is a whole and correct reset of the connection that
/// `frame` belongs to.
pub fn reset(frame: &[u8], answer: &[u8]) -> Verdict {
    let tcp = segment(frame, answer);
    assert!(tcp.rst && !tcp.syn && !tcp.ack && !tcp.fin && !tcp.psh);
    Verdict::Reset(tcp.sequence_number)
}

/// Checks that `answer` is a whole and correct refusal of `frame`, a SYN.
pub fn refusal(frame: &[u8], answer: &[u8]) -> Verdict {
    let tcp = segment(frame, answer);
    assert!(tcp.rst && tcp.ack && !tcp.syn && !tcp.fin && !tcp.psh);
    let Some(TransportHeader::Tcp(sent)) = headers(frame).transport else {
        panic!("a SYN is refused");
    };
    assert_eq!(
        tcp.acknowledgment_number,
        sent.sequence_number.wrapping_add(1)
    );
    Verdict::Refused
}

/// Checks that `answer` is a whole and correct SYN-ACK to `frame`, a SYN, with a number that
/// its sender cannot accept.
pub fn challenge(frame: &[u8], answer: &[u8]) -> Verdict {
    let tcp = segment(frame, answer);
    assert!(tcp.syn && tcp.ack && !tcp.rst && !tcp.fin && !tcp.psh);
    let Some(TransportHeader::Tcp(sent)) = headers(frame).transport else {
        panic!("a SYN is challenged");
    };
    let right = sent.sequence_number.wrapping_add(1);
    let below = right.wrapping_sub(tcp.acknowledgment_number);
    assert!((1..66_000).contains(&below), "{below} below the right one");
    assert_eq!(tcp.window_size, u16::MAX);
    Verdict::Challenged(tcp.acknowledgment_number)
}

/// Checks that `answer` is one whole TCP segment, without payload, to the sender of `frame`.
fn segment(frame: &[u8], answer: &[u8]) -> TcpHeader {
    let (sent, got) = (headers(frame), headers(answer));
    check_addresses(frame, answer, &sent, &got);
    let (Some(TransportHeader::Tcp(sent_tcp)), Some(TransportHeader::Tcp(tcp))) =
        (&sent.transport, &got.transport)
    else {
        panic!("a TCP segment is answered by another");
    };
    assert_eq!(tcp.source_port, sent_tcp.destination_port);
    assert_eq!(tcp.destination_port, sent_tcp.source_port);
    assert!(got.payload.slice().is_empty(), "it carries nothing");
    let headers = if matches!(got.net, Some(NetHeaders::Ipv4(..))) {
        40
    } else {
        60
    };
    // A challenge may keep the length of the frame: what was options of the SYN is padding.
    let is_padded = tcp.syn && answer.len() == frame.len();
    assert!(
        network_length(answer) == headers || is_padded,
        "nothing is behind it"
    );
    let checksum = match &got.net {
        Some(NetHeaders::Ipv4(ip, _)) => tcp.calc_checksum_ipv4(ip, &[]),
        Some(NetHeaders::Ipv6(ip, _)) => tcp.calc_checksum_ipv6(ip, &[]),
        _ => panic!("an IP packet"),
    };
    assert_eq!(
        tcp.checksum,
        checksum.expect("short enough"),
        "TCP checksum"
    );
    tcp.clone()
}

/// Checks that `answer` tells the sender of `frame` that it was too big.
pub fn too_big(frame: &[u8], answer: &[u8]) -> Verdict {
    use etherparse::{Icmpv4Type, Icmpv6Type, icmpv4::DestUnreachableHeader};

    let (sent, got) = (headers(frame), headers(answer));
    check_addresses(frame, answer, &sent, &got);
    let quoted = got.payload.slice();
    let start = frame.len() - network_length(frame);
    assert_eq!(
        quoted,
        &frame[start..start + quoted.len()],
        "the packet is quoted"
    );
    match (&got.net, &got.transport) {
        (Some(NetHeaders::Ipv4(..)), Some(TransportHeader::Icmpv4(icmp))) => {
            assert_eq!(
                icmp.checksum,
                icmp.icmp_type.calc_checksum(quoted),
                "ICMP checksum"
            );
            assert!(quoted.len() >= 28, "an IP header and eight bytes");
            let Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FragmentationNeeded {
                next_hop_mtu,
            }) = icmp.icmp_type
            else {
                panic!("fragmentation needed, not {:?}", icmp.icmp_type);
            };
            Verdict::TooBig(next_hop_mtu.into())
        }
        (Some(NetHeaders::Ipv6(ip, _)), Some(TransportHeader::Icmpv6(icmp))) => {
            let checksum = icmp
                .icmp_type
                .calc_checksum(ip.source, ip.destination, quoted);
            assert_eq!(
                icmp.checksum,
                checksum.expect("short enough"),
                "ICMPv6 checksum"
            );
            let Icmpv6Type::PacketTooBig { mtu } = icmp.icmp_type else {
                panic!("packet too big, not {:?}", icmp.icmp_type);
            };
            Verdict::TooBig(mtu)
        }
        other => panic!("ICMP of the packet's family, not {other:?}"),
    }
}

/// A frame as it was before its packet was forwarded: with one hop more.
pub fn before_the_hop(frame: &[u8]) -> Vec<u8> {
    const TAGS: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];
    let mut start = 14;
    while TAGS.contains(&[frame[start - 2], frame[start - 1]]) {
        start += 4;
    }
    let mut frame = frame.to_vec();
    one_hop_more(&mut frame[start..]);
    frame
}

/// Gives an IP packet the hop back that it has made; its checksum stays as right, or
/// wrong, as it is.
fn one_hop_more(packet: &mut [u8]) {
    const HOP_LIMIT: usize = 7;
    const TIME_TO_LIVE: usize = 8;
    const CHECKSUM: usize = 10;
    const ONE_HOP: u16 = 0x0100;
    if packet[0] >> 4 == 6 {
        packet[HOP_LIMIT] += 1;
        return;
    }
    packet[TIME_TO_LIVE] += 1;
    let checksum = u16::from_be_bytes([packet[CHECKSUM], packet[CHECKSUM + 1]]);
    let (less, borrowed) = checksum.overflowing_sub(ONE_HOP);
    let checksum = less - u16::from(borrowed);
    packet[CHECKSUM..CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// What stands behind the MAC addresses of a frame that carries a packet in
/// another one, the packet as it was before its hop. Left out are the outer one's
/// number where it may be any, and its flow label.
pub fn tunnelled(frame: &[u8]) -> Vec<u8> {
    let mut rest = frame[12..].to_vec();
    let got = etherparse::SlicedPacket::from_ethernet(frame).expect("a whole packet");
    let start = 2 + got.vlan_ids().len() * 4;
    let Some(etherparse::NetSlice::Ipv4(outer)) = &got.net else {
        rest[start + 1] &= 0xf0;
        rest[start + 2..start + 4].fill(0);
        one_hop_more(&mut rest[start + 40..]);
        return rest;
    };
    let mut outer = outer.header().to_header();
    let checksum = outer.calc_header_checksum();
    assert_eq!(outer.header_checksum, checksum, "IPv4 checksum");
    let is_numbered = outer.identification != 0;
    assert_eq!(
        is_numbered, !outer.dont_fragment,
        "what may be fragmented, and nothing else, has a number"
    );
    outer.identification = 0;
    outer.header_checksum = outer.calc_header_checksum();
    rest[start..start + 20].copy_from_slice(&outer.to_bytes());
    one_hop_more(&mut rest[start + 20..]);
    rest
}

fn headers(frame: &[u8]) -> PacketHeaders<'_> {
    PacketHeaders::from_ethernet_slice(frame).expect("a whole packet")
}

/// Bytes of `frame` from the IP header on.
fn network_length(frame: &[u8]) -> usize {
    let sliced = etherparse::SlicedPacket::from_ethernet(frame).expect("a whole packet");
    let tags = sliced.vlan_ids().len();
    frame.len() - 14 - tags * 4
}

/// An answer goes back the way that the packet came, from the service's address.
fn check_addresses(frame: &[u8], answer: &[u8], sent: &PacketHeaders, got: &PacketHeaders) {
    assert_eq!(answer[..6], frame[6..12], "to the sender of the frame");
    assert_eq!(answer[6..12], frame[..6], "from its receiver");
    assert_eq!(got.vlan_ids(), sent.vlan_ids(), "in the same VLAN");
    match (&sent.net, &got.net) {
        (Some(NetHeaders::Ipv4(sent, _)), Some(NetHeaders::Ipv4(got, _))) => {
            assert_eq!(
                (got.source, got.destination),
                (sent.destination, sent.source)
            );
            assert_eq!(
                got.header_checksum,
                got.calc_header_checksum(),
                "IPv4 checksum"
            );
        }
        (Some(NetHeaders::Ipv6(sent, _)), Some(NetHeaders::Ipv6(got, _))) => {
            assert_eq!(
                (got.source, got.destination),
                (sent.destination, sent.source)
            );
        }
        other => panic!("an answer of the same family, not {other:?}"),
    }
}
