//! Our side as a client, with rustls as the server.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;

use bytes::BytesMut;
use netbed::TIME_LIMIT;
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use tls_record::Role;
use tokio::time::timeout;

use super::{Peer, configs, configs_with, connect};
use crate::transport::handshake;
use crate::transport::kernel::KernelSupport;
use crate::transport::{Encryption, Transport};

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
        let refused = handshake::connect(ours, client.clone(), name, None).await;
        assert_eq!(refused.unwrap_err().to_string(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_kernel_serves_a_client_that_is_handed_over() {
    let kernel = match KernelSupport::probe() {
        Ok(kernel) => kernel,
        Err(error) => netbed::skip!("this kernel has no TLS: {error}"),
    };
    for (version, suite) in super::hand_over::suites() {
        let provider = super::hand_over::provider(suite);
        let (server, client) = configs_with(provider, version);
        let configs = (server.into(), client.into());
        let (transport, mut peer) = connect(Role::Client, configs, Some(&kernel)).await;
        assert!(matches!(transport.encryption, Encryption::Kernel(_)));
        let mut transport = super::hand_over::handed_over(transport);
        // Behind the server's tickets.
        receive(&mut transport, &mut peer, &[7; 50_000]).await;
        transport.write_all(&[8; 50_000]).await.unwrap();
        let mut transport = super::hand_over::handed_over(transport);
        transport.write_all(b"the end").await.unwrap();
        transport.shutdown().await.unwrap();
        let read = tokio::task::spawn_blocking(move || {
            let mut came = Vec::new();
            let read = peer.read_to_end(&mut came);
            read.map(|_| (came, peer))
        });
        let (came, mut peer) = read.await.unwrap().unwrap();
        assert_eq!((came.len(), &came[50_000..]), (50_007, &b"the end"[..]));
        // This kernel cannot follow another key.
        if *version == TLS13 {
            peer.conn.refresh_traffic_keys().unwrap();
            peer.conn.write_tls(&mut peer.sock).unwrap();
            let mut input = BytesMut::new();
            let read = timeout(TIME_LIMIT, transport.read(65_536, &mut input)).await;
            let error = read.expect("it waits").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        }
    }
}
