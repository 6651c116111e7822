//! Our side as a client, with rustls as the server.

use std::io::Write;
use std::net::Shutdown;
use std::sync::Arc;

use bytes::BytesMut;
use netbed::TIME_LIMIT;
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use tls_record::Role;
use tokio::time::timeout;

use super::{Peer, configs, connect};
use crate::transport::Transport;
use crate::transport::handshake;

/// Has the server send `text`, which comes behind its tickets.
async fn receive(transport: &mut Transport, server: &mut Peer, text: &[u8]) {
    server.conn.writer().write_all(text).unwrap();
    while server.conn.wants_write() {
        server.conn.write_tls(&mut server.sock).unwrap();
    }
    let mut input = BytesMut::new();
    while input.len() < text.len() {
        let read = timeout(TIME_LIMIT, transport.read(65_536, &mut input)).await;
        assert_ne!(read.expect("it waits").unwrap(), 0, "it has ended");
    }
    assert_eq!(input, text);
}

#[tokio::test]
async fn a_second_handshake_is_short_by_a_ticket_of_the_first_connection() {
    for version in [&TLS12, &TLS13] {
        let (server, client) = configs(version);
        let (server, client) = (Arc::new(server), Arc::new(client));
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let configs = (server.clone(), client.clone());
            let (mut transport, mut peer) = connect(Role::Client, configs, None).await;
            assert_eq!(peer.conn.handshake_kind(), Some(expected), "{version:?}");
            receive(&mut transport, &mut peer, b"x").await;
        }
    }
}

#[tokio::test]
async fn a_server_that_ends_within_a_record_gives_nothing_of_it() {
    for version in [&TLS12, &TLS13] {
        let (server, client) = configs(version);
        let configs = (server.into(), client.into());
        let (mut transport, mut peer) = connect(Role::Client, configs, None).await;
        receive(&mut transport, &mut peer, b"whole").await;
        let mut record = Vec::new();
        peer.conn.writer().write_all(b"part").unwrap();
        peer.conn.write_tls(&mut record).unwrap();
        let (_, part) = record.split_last().unwrap();
        peer.sock.write_all(part).unwrap();
        peer.sock.shutdown(Shutdown::Write).unwrap();
        let mut input = BytesMut::new();
        let read = timeout(TIME_LIMIT, transport.read(65_536, &mut input)).await;
        assert_eq!((read.expect("it waits").unwrap(), input.len()), (0, 0));
    }
}

/// Both what does not speak TLS and who ends before it says something.
#[tokio::test]
async fn a_server_without_tls_is_no_server() {
    let (_, client) = configs(&TLS13);
    let client = Arc::new(client);
    for (says, expected) in [
        (&b"\x03\0\0\0\0"[..], "it does not speak TLS"),
        (b"HTTP/1.1 400 \r\n", "it does not speak TLS"),
        (b"", "closed by the peer within the handshake"),
    ] {
        let (ours, mut theirs) = super::sockets();
        theirs.write_all(says).unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        let ours = tokio::net::TcpStream::from_std(ours).unwrap();
        let name = "localhost".try_into().unwrap();
        let refused = handshake::connect(ours, client.clone(), name).await;
        assert_eq!(refused.unwrap_err().to_string(), expected);
    }
}
