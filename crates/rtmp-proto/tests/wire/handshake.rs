//! The handshake, both sides, simple and with digests.

use rml_rtmp::handshake::{Handshake as Peer, HandshakeProcessResult, PeerType};
use rtmp_proto::wire::handshake::{Handshake, HandshakeError};

use crate::tools::counting;

/// C0 and C1 of the simple form: time, zero, random bytes.
fn simple_c0_c1() -> Vec<u8> {
    [vec![3, 0, 0, 0, 1, 0, 0, 0, 0], counting(1528)].concat()
}

#[test]
fn a_simple_client_gets_its_own_packet_back() {
    let mut server = Handshake::server();
    let c0_c1 = simple_c0_c1();
    let mut out = Vec::new();
    assert_eq!(server.read(&mut &c0_c1[..], &mut out), Ok(false));
    assert_eq!(out.len(), 1 + 1536 + 1536);
    assert_eq!(out[0], 3);
    assert_eq!(out[1 + 1536..], c0_c1[1..], "S2 echoes C1");

    let c2 = out[1..1 + 1536].to_vec();
    out.clear();
    assert_eq!(server.read(&mut &c2[..], &mut out), Ok(true));
    assert!(out.is_empty());
}

#[test]
fn a_simple_client_may_echo_anything() {
    // P2 is not verified: what matters is that 1536 bytes come.
    let mut server = Handshake::server();
    let mut out = Vec::new();
    assert_eq!(server.read(&mut &simple_c0_c1()[..], &mut out), Ok(false));
    assert_eq!(server.read(&mut &[0; 1536][..], &mut out), Ok(true));
}

#[test]
fn a_client_with_digests_gets_an_answer_with_digests() {
    let mut client = Peer::new(PeerType::Client);
    let mut server = Handshake::server();
    let c0_c1 = client.generate_outbound_p0_and_p1().unwrap();
    let mut out = Vec::new();
    assert_eq!(server.read(&mut &c0_c1[..], &mut out), Ok(false));
    assert_ne!(out[1 + 1536..], c0_c1[1..], "S2 is signed, not an echo");
    let Ok(HandshakeProcessResult::Completed {
        response_bytes,
        remaining_bytes,
    }) = client.process_bytes(&out)
    else {
        panic!("the client is not content")
    };
    assert!(remaining_bytes.is_empty());
    assert_eq!(server.read(&mut &response_bytes[..], &mut out), Ok(true));
}

#[test]
fn our_two_sides_understand_each_other_byte_by_byte() {
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    let mut client = Handshake::client(&mut to_server).unwrap();
    let mut server = Handshake::server();
    let (mut client_done, mut server_done) = (false, false);
    while !(client_done && server_done) {
        assert!(
            !to_server.is_empty() || !to_client.is_empty(),
            "both are waiting"
        );
        for byte in std::mem::take(&mut to_server) {
            server_done = server.read(&mut &[byte][..], &mut to_client).unwrap();
        }
        for byte in std::mem::take(&mut to_client) {
            client_done = client.read(&mut &[byte][..], &mut to_server).unwrap();
        }
    }
}

#[test]
fn a_client_accepts_a_server_that_only_echoes() {
    let mut out = Vec::new();
    let mut client = Handshake::client(&mut out).unwrap();
    let c1 = out.split_off(1);
    out.clear();
    let s0_s1_s2 = [simple_c0_c1(), c1].concat();
    assert_eq!(client.read(&mut &s0_s1_s2[..], &mut out), Ok(true));
    assert_eq!(out, s0_s1_s2[1..1 + 1536], "C2 echoes S1");
}

#[test]
fn what_follows_the_handshake_is_left_alone() {
    let mut server = Handshake::server();
    let bytes = [simple_c0_c1(), vec![0; 1536], b"chunks".to_vec()].concat();
    let (mut input, mut out) = (&bytes[..], Vec::new());
    assert_eq!(server.read(&mut input, &mut out), Ok(true));
    assert_eq!(input, b"chunks");
}

#[test]
fn nothing_is_held_while_a_clients_last_packet_is_awaited() {
    let mut server = Handshake::server();
    let mut out = Vec::new();
    let c0_c1 = simple_c0_c1();
    assert_eq!(server.heap_bytes(), 0, "nor before its first one comes");
    assert_eq!(server.read(&mut &c0_c1[..1_000], &mut out), Ok(false));
    assert!(server.heap_bytes() > 1_536);
    // A part of its last packet comes along.
    let rest = [&c0_c1[1_000..], &[0; 7]].concat();
    assert_eq!(server.read(&mut &rest[..], &mut out), Ok(false));
    assert_eq!(server.heap_bytes(), 0);
    assert_eq!(server.read(&mut &[0; 1_529][..], &mut out), Ok(true));
}

#[test]
fn another_version_or_protocol_is_an_error_and_gets_no_answer() {
    for first in [0, 2, 6, 8, b'G', 0x16] {
        let mut out = Vec::new();
        let result = Handshake::server().read(&mut &[first][..], &mut out);
        assert_eq!(
            result,
            Err(HandshakeError::Version),
            "first byte {first:#04x}"
        );
        assert!(out.is_empty());
    }
}

#[test]
fn nothing_in_is_nothing_out() {
    let mut out = Vec::new();
    assert_eq!(Handshake::server().read(&mut &[][..], &mut out), Ok(false));
    assert!(out.is_empty());
}
