//! Connections that this process encrypts, handed over while they are used, with rustls as
//! their peer.

use std::io::{self, Read, Write};

use bytes::BytesMut;
use netbed::TIME_LIMIT;
use rustls::crypto::{CryptoProvider, ring};
use rustls::version::{TLS12, TLS13};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};
use socket2::SockRef;
use tls_record::Role;
use tokio::time::timeout;

use super::{Peer, configs_with, connect, limited};
use crate::hand_over::{Blob, HandOverError};
use crate::transport::part::EncryptionPart;
use crate::transport::{Encryption, MAX_FRAGMENT, MAX_RECORD, StdTransport, Transport};

/// Each version, with each of its ciphers that goes with the certificate.
fn suites() -> Vec<(&'static SupportedProtocolVersion, SupportedCipherSuite)> {
    let suites = ring::default_provider().cipher_suites.into_iter();
    let suites: Vec<_> = suites
        .filter(|suite| !format!("{:?}", suite.suite()).contains("RSA"))
        .map(|suite| match suite.tls13() {
            Some(_) => (&TLS13, suite),
            None => (&TLS12, suite),
        })
        .collect();
    assert_eq!(suites.len(), 6, "{suites:?}");
    suites
}

/// One that has this suite alone.
fn provider(suite: SupportedCipherSuite) -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![suite],
        ..ring::default_provider()
    }
}

/// A side, and what both agree upon.
type Case = (
    Role,
    &'static SupportedProtocolVersion,
    SupportedCipherSuite,
);

/// Each of [`suites`] from both sides.
fn cases() -> impl Iterator<Item = Case> {
    let suites = suites().into_iter();
    suites.flat_map(|(version, suite)| {
        [Role::Server, Role::Client].map(|role| (role, version, suite))
    })
}

/// Both ends of a connection with `suite`, of which ours is `role`.
async fn connected((role, version, suite): Case) -> (Transport, Peer) {
    let (server, client) = configs_with(provider(suite), version);
    connect(role, (server.into(), client.into()), None).await
}

/// The connection as the program that the process becomes goes on with it.
fn handed_over(transport: Transport) -> Transport {
    let StdTransport { tcp, encryption } = transport.into_std().unwrap();
    let part = encryption.part();
    drop(encryption);
    let written = Blob::of(&part).unwrap();
    let encryption = Encryption::take_over(&written.read().unwrap()).unwrap();
    Transport::from_std(StdTransport { tcp, encryption }).unwrap()
}

/// The records of what `write` has the peer send.
fn records(peer: &mut Peer, write: impl FnOnce(&mut Peer)) -> Vec<u8> {
    write(peer);
    let mut records = Vec::new();
    while peer.conn.wants_write() {
        peer.conn.write_tls(&mut records).unwrap();
    }
    records
}

fn data(bytes: &'static [u8]) -> impl FnOnce(&mut Peer) {
    |peer| peer.conn.writer().write_all(bytes).unwrap()
}

/// Reads so many bytes.
async fn read(transport: &mut Transport, count: usize) -> Vec<u8> {
    let mut input = BytesMut::new();
    while input.len() < count {
        let read = timeout(TIME_LIMIT, transport.read(65_536, &mut input)).await;
        assert_ne!(read.expect("it waits").unwrap(), 0, "it has ended");
    }
    input.to_vec()
}

/// What comes of a connection that ends.
async fn read_to_end(transport: &mut Transport) -> io::Result<Vec<u8>> {
    let mut input = BytesMut::new();
    while timeout(TIME_LIMIT, transport.read(65_536, &mut input))
        .await
        .expect("it waits")?
        > 0
    {}
    Ok(input.to_vec())
}

/// Has a thread read all that the peer gets.
fn reading(mut peer: Peer) -> tokio::task::JoinHandle<io::Result<Vec<u8>>> {
    tokio::task::spawn_blocking(move || {
        let mut came = Vec::new();
        // Without `close_notify`, rustls calls the end unexpected.
        peer.read_to_end(&mut came).map(|_| came)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_goes_on_in_the_middle_of_records() {
    for case in cases() {
        let (mut transport, mut peer) = connected(case).await;
        let records = records(&mut peer, |peer| {
            peer.conn.writer().write_all(b"first ").unwrap();
            peer.conn.writer().write_all(b"second ").unwrap();
        });
        // Whole, in the header, in the payload, in the tag.
        let mut rest = &records[..];
        for length in [records.len() / 2 + 3, 4, 9] {
            let (now, later) = rest.split_at(length);
            peer.sock.write_all(now).unwrap();
            let mut input = BytesMut::new();
            // It reads what there is, which may hold no whole record.
            let unread = tokio::time::Duration::from_millis(50);
            let _ = timeout(unread, transport.read(1_024, &mut input)).await;
            assert!(b"first second ".starts_with(&input), "{input:?}");
            if !input.is_empty() {
                assert_eq!(&input[..], b"first ");
            }
            transport = handed_over(transport);
            rest = later;
        }
        peer.sock.write_all(rest).unwrap();
        assert_eq!(read(&mut transport, 7).await, b"second ");
        // More than the socket takes: what waits goes on, too.
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|it| (it / 7) as u8).collect();
        let mut sent = 0;
        let mut worker = transport.into_std().unwrap();
        // Else its buffer grows.
        let socket = SockRef::from(worker.tcp());
        socket.set_send_buffer_size(65_536).unwrap();
        while !worker.has_unsent() {
            assert!(sent < bytes.len(), "the socket takes everything");
            sent += worker.write(&bytes[sent..]).unwrap();
        }
        let reading = reading(peer);
        let mut transport = handed_over(Transport::from_std(worker).unwrap());
        transport.write_all(&bytes[sent..]).await.unwrap();
        let mut transport = handed_over(transport);
        transport.shutdown().await.unwrap();
        let came = reading.await.unwrap().unwrap();
        assert!(came == bytes, "{case:?}: {} bytes", came.len());
    }
}

#[tokio::test]
async fn an_end_that_was_said_or_heard_before_is_known_after() {
    for case in cases() {
        let (mut transport, mut peer) = connected(case).await;
        let end = records(&mut peer, |peer| {
            peer.conn.writer().write_all(b"x").unwrap();
            peer.conn.send_close_notify();
        });
        peer.sock.write_all(&end).unwrap();
        assert_eq!(read(&mut transport, 1).await, b"x");
        let mut transport = handed_over(transport);
        assert_eq!(read_to_end(&mut transport).await.unwrap(), b"");
        transport.write_all(b"the end").await.unwrap();
        transport.shutdown().await.unwrap();
        let mut transport = handed_over(transport);
        let refused = transport.write_all(b"more").await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::BrokenPipe);
        transport.shutdown().await.unwrap();
        assert_eq!(reading(peer).await.unwrap().unwrap(), b"the end");
    }
}

#[tokio::test]
async fn records_that_were_changed_or_sent_twice_end_a_connection_with_an_alert() {
    for case in cases() {
        for replayed in [false, true] {
            let (mut transport, mut peer) = connected(case).await;
            let mut bad = records(&mut peer, data(b"one"));
            if replayed {
                peer.sock.write_all(&bad).unwrap();
                assert_eq!(read(&mut transport, 3).await, b"one");
            } else {
                *bad.last_mut().unwrap() ^= 1;
            }
            peer.sock.write_all(&bad).unwrap();
            let mut transport = handed_over(transport);
            let error = read_to_end(&mut transport).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
            let mut transport = handed_over(transport);
            assert_eq!(read_to_end(&mut transport).await.unwrap(), b"");
            assert!(transport.write_all(b"more").await.is_err());
            drop(transport);
            let alert = reading(peer).await.unwrap().unwrap_err();
            assert!(alert.to_string().contains("BadRecordMac"), "{alert}");
        }
    }
}

#[tokio::test]
async fn keys_change_before_and_after() {
    for case in cases().filter(|(_, version, _)| **version == TLS13) {
        let (mut transport, mut peer) = connected(case).await;
        for text in [b"one ", b"two ", b"six "] {
            let sent = records(&mut peer, |peer| {
                peer.conn.refresh_traffic_keys().unwrap();
                peer.conn.writer().write_all(text).unwrap();
            });
            peer.sock.write_all(&sent).unwrap();
            assert_eq!(read(&mut transport, text.len()).await, text);
            transport.write_all(text).await.unwrap();
            transport = handed_over(transport);
        }
        transport.shutdown().await.unwrap();
        let came = reading(peer).await.unwrap().unwrap();
        assert_eq!(came, b"one two six ", "{case:?}");
    }
}

/// The peer wants three answers while the socket takes nothing: one is enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_reads_nothing_cannot_make_answers_gather() {
    let suite = ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let (transport, mut peer) = connected((Role::Server, &TLS13, suite)).await;
    let mut worker = transport.into_std().unwrap();
    let mut sent = 0;
    while !worker.has_unsent() {
        sent += worker.write(&[7; 100_000]).unwrap();
    }
    let waiting = |worker: &StdTransport| match &worker.encryption {
        Encryption::User(session) => format!("{:?}", session.part()).len(),
        other => panic!("{other:?}"),
    };
    let before = waiting(&worker);
    let mut transport = Transport::from_std(worker).unwrap();
    for _ in 0..100 {
        let update = records(&mut peer, |peer| {
            peer.conn.refresh_traffic_keys().unwrap();
            peer.conn.writer().write_all(b"x").unwrap();
        });
        peer.sock.write_all(&update).unwrap();
        assert_eq!(read(&mut transport, 1).await, b"x");
    }
    let worker = handed_over(transport).into_std().unwrap();
    assert!(waiting(&worker) < before + 100);
    let reading = reading(peer);
    let mut transport = Transport::from_std(worker).unwrap();
    transport.write_all(b"y").await.unwrap();
    transport.shutdown().await.unwrap();
    let came = reading.await.unwrap().unwrap();
    assert_eq!((came.len(), came.last()), (sent + 1, Some(&b'y')));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_tls_1_3_is_renewed_before_its_limit_in_both_programs() {
    let suite = ring::default_provider()
        .cipher_suites
        .into_iter()
        .find_map(|suite| {
            suite
                .tls13()
                .filter(|it| it.common.confidentiality_limit < u64::MAX)
        })
        .map(|suite| limited(suite, 5))
        .unwrap();
    for role in [Role::Server, Role::Client] {
        let (mut transport, peer) = connected((role, &TLS13, suite)).await;
        let reading = reading(peer);
        let bytes: Vec<u8> = (0..100 * MAX_FRAGMENT).map(|it| (it / 11) as u8).collect();
        for part in bytes.chunks(10 * MAX_FRAGMENT) {
            transport.write_all(part).await.unwrap();
            let Encryption::User(session) = &transport.encryption else {
                panic!("{transport:?}");
            };
            let text = format!("{:?}", session.part());
            let number: u64 = text.split("number: ").nth(1).unwrap()[..1].parse().unwrap();
            assert!(number <= 5, "{text}");
            transport = handed_over(transport);
        }
        transport.shutdown().await.unwrap();
        let came = reading.await.unwrap().unwrap();
        assert!(came == bytes, "{} bytes", came.len());
    }
}

#[tokio::test]
async fn numbers_go_on_from_the_handshake_and_keys_are_not_shown() {
    for case in cases() {
        let (transport, _peer) = connected(case).await;
        let Encryption::User(session) = &transport.encryption else {
            panic!("{transport:?}");
        };
        let text = format!("{:?} {:?}", session, session.part());
        // Numbers and names: no bytes.
        assert!(text.contains("secret: Secret, number: "), "{text}");
        assert!(text.contains("incoming: [], outgoing: []"), "{text}");
        // The `Finished` of TLS 1.2 has the first number, and its nonce is used already.
        if *case.1 == TLS12 {
            assert_eq!(text.matches("number: 1 ").count(), 2, "{text}");
        }
    }
}

#[tokio::test]
async fn more_of_a_record_than_there_can_be_is_refused() {
    let suite = ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let (transport, _peer) = connected((Role::Server, &TLS13, suite)).await;
    let with_incoming = |length| match transport.encryption.part() {
        EncryptionPart::User(part) => EncryptionPart::User(Box::new(part.with_incoming(length))),
        other => panic!("{other:?}"),
    };
    Encryption::take_over(&with_incoming(MAX_RECORD - 1)).unwrap();
    let refused = Encryption::take_over(&with_incoming(MAX_RECORD)).unwrap_err();
    assert!(
        matches!(refused, HandOverError::TlsRecord(MAX_RECORD)),
        "{refused}"
    );
}

/// What waits is sent by the same read, and the answer behind it: nothing else need be sent.
#[tokio::test]
async fn a_wish_is_answered_behind_what_has_waited_for_more() {
    let suite = ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
    for role in [Role::Server, Role::Client] {
        let (mut transport, mut peer) = connected((role, &TLS13, suite)).await;
        assert_eq!(transport.write_more(b"head").unwrap(), 4);
        let sent = records(&mut peer, |peer| {
            peer.conn.refresh_traffic_keys().unwrap();
            peer.conn.writer().write_all(b"x").unwrap();
        });
        peer.sock.write_all(&sent).unwrap();
        assert_eq!(read(&mut transport, 1).await, b"x");
        let Encryption::User(session) = &transport.encryption else {
            panic!("{transport:?}");
        };
        let text = format!("{:?}", session.part());
        assert!(text.contains("outgoing: []"), "{text}");
        assert!(text.contains("answer_due: false"), "{text}");
    }
}
