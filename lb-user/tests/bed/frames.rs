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

/// Flags of a TCP segment, as tcpdump(8) abbreviates them.
pub const S: &str = "S";
pub const A: &str = ".";
pub const F: &str = "F.";
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

/// `frame` with `bytes` written at `offset`.
pub fn patched(mut frame: Vec<u8>, offset: usize, bytes: &[u8]) -> Vec<u8> {
    frame[offset..offset + bytes.len()].copy_from_slice(bytes);
    frame
}
