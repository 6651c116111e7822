//! Frames as viewers send them.

use etherparse::PacketBuilder;

use super::{DIRECTOR, ROUTER};

/// The virtual service of the deployment.
pub const VIP: [u8; 4] = [172, 16, 1, 200];
/// Its port.
pub const RTMP: u16 = 1935;
/// A viewer.
pub const ALICE: [u8; 4] = [10, 0, 0, 1];
/// Another viewer.
pub const BOB: [u8; 4] = [10, 0, 0, 2];
/// A viewer of another network.
pub const CAROL: [u8; 4] = [10, 0, 1, 1];

// Flags of a TCP segment, as tcpdump(8) abbreviates them.

/// SYN.
pub const S: &str = "S";
/// ACK.
pub const A: &str = ".";
/// FIN and ACK.
pub const F: &str = "F.";
/// RST.
pub const R: &str = "R";

/// A TCP segment from `client` to the deployment's service.
pub fn tcp(client: [u8; 4], port: u16, flags: &str) -> Vec<u8> {
    tcp_to(client, port, VIP, RTMP, flags)
}

/// A TCP segment to any address.
pub fn tcp_to(
    client: [u8; 4],
    port: u16,
    address: [u8; 4],
    service_port: u16,
    flags: &str,
) -> Vec<u8> {
    let mut step = PacketBuilder::ethernet2(ROUTER, DIRECTOR)
        .ipv4(client, address, 64)
        .tcp(port, service_port, 1000, 65_535);
    for flag in flags.chars() {
        step = match flag {
            'S' => step.syn(),
            '.' => step.ack(5000),
            'F' => step.fin(),
            'R' => step.rst(),
            'P' => step.psh(),
            other => panic!("no TCP flag {other}"),
        };
    }
    let payload: &[u8] = if flags.contains('P') { b"play" } else { b"" };
    let mut frame = Vec::with_capacity(step.size(payload.len()));
    step.write(&mut frame, payload).expect("a vector takes it");
    frame
}

/// The virtual service of IPv6 tests.
pub const VIP6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xc8];
/// A viewer.
pub const DAVE: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// Another viewer of the same /64.
pub const ERIN: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

/// A TCP segment over IPv6 to the service.
pub fn tcp6(client: [u8; 16], port: u16, flags: &str) -> Vec<u8> {
    let mut step = PacketBuilder::ethernet2(ROUTER, DIRECTOR)
        .ipv6(client, VIP6, 64)
        .tcp(port, RTMP, 1000, 65_535);
    for flag in flags.chars() {
        step = match flag {
            'S' => step.syn(),
            '.' => step.ack(5000),
            'F' => step.fin(),
            'R' => step.rst(),
            'P' => step.psh(),
            other => panic!("no TCP flag {other}"),
        };
    }
    let mut frame = Vec::with_capacity(step.size(0));
    step.write(&mut frame, &[]).expect("a vector takes it");
    frame
}

/// A TCP segment over IPv6 with `extensions` between the headers; each names
/// its own number and its bytes, of which the first is filled in.
pub fn tcp6_with(port: u16, flags: &str, extensions: &[(u8, Vec<u8>)]) -> Vec<u8> {
    const TCP: u8 = 6;
    let mut frame = tcp6(DAVE, port, flags);
    let mut next = TCP;
    for (number, bytes) in extensions.iter().rev() {
        let mut bytes = bytes.clone();
        bytes[0] = next;
        next = *number;
        frame.splice(54..54, bytes);
    }
    frame[20] = next;
    let payload = (frame.len() - 54) as u16;
    patched(frame, 18, &payload.to_be_bytes())
}

/// A UDP datagram from `client` to the deployment's service.
pub fn udp(client: [u8; 4], port: u16) -> Vec<u8> {
    let step = PacketBuilder::ethernet2(ROUTER, DIRECTOR)
        .ipv4(client, VIP, 64)
        .udp(port, RTMP);
    let mut frame = Vec::with_capacity(step.size(4));
    step.write(&mut frame, b"ping").expect("a vector takes it");
    frame
}

/// A UDP datagram over IPv6 to the service.
pub fn udp6(client: [u8; 16], port: u16) -> Vec<u8> {
    let step = PacketBuilder::ethernet2(ROUTER, DIRECTOR)
        .ipv6(client, VIP6, 64)
        .udp(port, RTMP);
    let mut frame = Vec::with_capacity(step.size(4));
    step.write(&mut frame, b"ping").expect("a vector takes it");
    frame
}

/// An acknowledging TCP segment with so many bytes of payload.
pub fn tcp_of(client: [u8; 4], port: u16, bytes: usize) -> Vec<u8> {
    let step = PacketBuilder::ethernet2(ROUTER, DIRECTOR)
        .ipv4(client, VIP, 64)
        .tcp(port, RTMP, 1000, 65_535)
        .ack(5000);
    let mut frame = Vec::with_capacity(step.size(bytes));
    step.write(&mut frame, &vec![7; bytes])
        .expect("a vector takes it");
    frame
}

/// `frame` with VLAN tags of these types and numbers.
pub fn tagged(mut frame: Vec<u8>, tags: &[(u16, u16)]) -> Vec<u8> {
    for (ethertype, number) in tags.iter().rev() {
        let tag = [ethertype.to_be_bytes(), number.to_be_bytes()].concat();
        frame.splice(12..12, tag);
    }
    frame
}

/// An ICMP message of this type and code to the service, that quotes the first
/// `quoted` bytes of the IPv4 packet in `about`.
pub fn icmp(kind: u8, code: u8, about: &[u8], quoted: usize) -> Vec<u8> {
    let payload = [&[kind, code, 0, 0, 0, 0, 5, 0xdc], &about[14..14 + quoted]].concat();
    let step = PacketBuilder::ethernet2(ROUTER, DIRECTOR).ipv4([10, 9, 9, 9], VIP, 64);
    let mut frame = Vec::new();
    step.write(&mut frame, etherparse::IpNumber::ICMP, &payload)
        .expect("a vector takes it");
    frame
}

/// As [`icmp`], for IPv6.
pub fn icmp6(kind: u8, code: u8, about: &[u8], quoted: usize) -> Vec<u8> {
    let payload = [&[kind, code, 0, 0, 0, 0, 5, 0xdc], &about[14..14 + quoted]].concat();
    let step = PacketBuilder::ethernet2(ROUTER, DIRECTOR).ipv6(ERIN, VIP6, 64);
    let mut frame = Vec::new();
    step.write(&mut frame, etherparse::IpNumber::IPV6_ICMP, &payload)
        .expect("a vector takes it");
    frame
}

/// What the service sends back to `client`, as a router on the way sees it.
pub fn from_service(client: [u8; 4], port: u16) -> Vec<u8> {
    let step = PacketBuilder::ethernet2(DIRECTOR, ROUTER)
        .ipv4(VIP, client, 63)
        .tcp(RTMP, port, 5000, 65_535);
    let mut frame = Vec::new();
    step.write(&mut frame, &[0; 1400])
        .expect("a vector takes it");
    frame
}

/// As [`from_service`], over UDP.
pub fn udp_from_service(client: [u8; 4], port: u16) -> Vec<u8> {
    let step = PacketBuilder::ethernet2(DIRECTOR, ROUTER)
        .ipv4(VIP, client, 63)
        .udp(RTMP, port);
    let mut frame = Vec::new();
    step.write(&mut frame, &[0; 1400])
        .expect("a vector takes it");
    frame
}

/// As [`from_service`], over IPv6.
pub fn from_service6(client: [u8; 16], port: u16) -> Vec<u8> {
    let step = PacketBuilder::ethernet2(DIRECTOR, ROUTER)
        .ipv6(VIP6, client, 63)
        .tcp(RTMP, port, 5000, 65_535);
    let mut frame = Vec::new();
    step.write(&mut frame, &[0; 1400])
        .expect("a vector takes it");
    frame
}

/// `frame`, of IPv4 without options, with one that says nothing.
pub fn with_option(mut frame: Vec<u8>) -> Vec<u8> {
    const NO_OPERATION: u8 = 1;
    frame.splice(34..34, [NO_OPERATION; 4]);
    let length = (frame.len() - 14) as u16;
    patched(patched(frame, 14, &[0x46]), 16, &length.to_be_bytes())
}

/// `frame` with `bytes` written at `offset`.
pub fn patched(mut frame: Vec<u8>, offset: usize, bytes: &[u8]) -> Vec<u8> {
    frame[offset..offset + bytes.len()].copy_from_slice(bytes);
    frame
}
