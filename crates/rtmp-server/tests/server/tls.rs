//! HTTPS, WSS and RTMPS at origins.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use netbed::TIME_LIMIT;
use rtmp_proto::session::Purpose;
use rtmp_server::serve_https_api;
use rustls::HandshakeKind;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::certificates::Authority;
use crate::common::server::any_port;
use crate::flv_client::FlvClient;
use crate::support::{headers, keep_log, keyframe, log_lines, picture, sound, until};
use crate::tls_support::{
    TlsServer, connect, large_pictures, publish_until_a_player_skips, publisher, rtmp, tunnel,
};

#[tokio::test(flavor = "multi_thread")]
async fn all_protocols_are_spoken_over_tls() {
    let origin = TlsServer::origin("", "");
    let rtmps = origin.tunnel(origin.rtmps()).await;
    let https = origin.tunnel(origin.https()).await;
    let mut publisher = publisher(rtmps, "s").await;
    publisher.publish(&headers()).await;
    publisher.publish(&[keyframe(40)]).await;
    origin.server.arrived("s", 4).await;
    let mut player = rtmp(rtmps, Purpose::Play, "s").await;
    let (mut flv, _) = FlvClient::playing(https, "/live/s.flv").await;
    let (mut websocket, _) = FlvClient::playing_websocket(https, "/live/s.flv").await;
    let news = [picture(80), sound(85), keyframe(120)];
    let expected = [(9, 40, 0x17), (9, 80, 0x27), (8, 85, 0xaf), (9, 120, 0x17)];
    assert_eq!(player.frame().await, keyframe(40));
    for client in [&mut flv, &mut websocket] {
        client.tags(3).await;
    }
    publisher.publish(&news).await;
    for message in &news {
        assert_eq!(player.frame().await, *message);
    }
    for client in [&mut flv, &mut websocket] {
        assert_eq!(client.tags(4).await, expected);
    }
    websocket.send_frame(0x89, b"ping").await;
    while websocket.pongs.is_empty() {
        assert!(websocket.fill().await);
    }
    drop((player, flv, websocket));
    until(|| origin.server.server.clients().count() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_arrive_whole_in_both_directions() {
    let origin = TlsServer::origin("", "");
    let rtmps = origin.tunnel(origin.rtmps()).await;
    let https = origin.tunnel(origin.https()).await;
    let mut publisher = publisher(rtmps, "s").await;
    publisher.publish(&[keyframe(0)]).await;
    origin.server.arrived("s", 1).await;
    let mut player = rtmp(rtmps, Purpose::Play, "s").await;
    player.frame().await;
    let (mut flv, _) = FlvClient::playing(https, "/live/s.flv").await;
    let (mut websocket, _) = FlvClient::playing_websocket(https, "/live/s.flv").await;
    let pictures = large_pictures(3, 30);
    publisher.publish(&pictures).await;
    for expected in &pictures {
        assert!(player.frame().await == *expected, "another picture");
    }
    for client in [&mut flv, &mut websocket] {
        assert_eq!(client.tags(1).await, [(9, 0, 0x17)]);
        for expected in &pictures {
            assert!(client.tag().await.payload == expected.payload.to_vec());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_use_the_smallest_records() {
    let origin = TlsServer::origin("", "");
    let mut config = origin.authority.client();
    config.max_fragment_size = Some(32);
    let rtmps = tunnel(origin.rtmps(), config).await;
    let mut publisher = publisher(rtmps, "s").await;
    let pictures = large_pictures(5, 3);
    publisher.publish(&[keyframe(0)]).await;
    publisher.publish(&pictures).await;
    origin.server.arrived("s", 4).await;
    let mut player = rtmp(rtmps, Purpose::Play, "s").await;
    player.frame().await;
    for expected in &pictures {
        assert!(player.frame().await == *expected, "another picture");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_that_sends_many_records_at_once_goes_on() {
    let origin = TlsServer::origin("", "");
    let mut publisher = origin.server.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    origin.server.arrived("s", 1).await;
    // Records of 1,000 bytes, which a socket gives by the dozen; a full one and a rest, of
    // which one read of the socket gives both.
    for (fragment, bytes) in [(Some(1_005), 10_000_000), (None, 16_384 + 2_000)] {
        let mut config = origin.authority.client();
        config.max_fragment_size = fragment;
        let mut stream = connect(origin.https(), "localhost", config).await.unwrap();
        let request = b"GET /live/s.flv HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).await.unwrap();
        assert!(stream.read(&mut [0; 1_024]).await.unwrap() > 0);
        let before = received(&origin);
        for _ in 0..10_000_000 / bytes {
            stream.write_all(&vec![7; bytes]).await.unwrap();
            stream.flush().await.unwrap();
        }
        until(|| received(&origin) >= before + 9_900_000).await;
        drop(stream);
        // The publisher. What the player has sent no longer counts.
        until(|| origin.server.server.clients().count() == 1).await;
    }
}

/// The bytes that all clients have sent.
fn received(origin: &TlsServer) -> u64 {
    let clients = origin.server.server.clients().list();
    let received = clients.iter().map(|it| it.received.load(Ordering::Relaxed));
    received.sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_player_skips_to_a_keyframe() {
    let origin = TlsServer::origin("", "queue_length 1;");
    let https = origin.tunnel(origin.https()).await;
    let mut publisher = origin.server.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let (mut player, _) = FlvClient::playing(https, "/live/s.flv").await;
    assert_eq!(player.tags(1).await, [(9, 0, 0x17)]);
    let timestamp = publish_until_a_player_skips(&origin, &mut publisher).await;
    let last = timestamp + 40;
    publisher.publish(&[keyframe(last)]).await;
    let mut before = 0;
    loop {
        let tag = player.tag().await;
        if tag.timestamp > before + 40 {
            assert_eq!(tag.payload[0], 0x17, "it goes on at a keyframe");
        }
        before = tag.timestamp;
        if before == last {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_resumed() {
    let origin = TlsServer::origin("", "");
    let config = origin.authority.client();
    let kind = async || {
        let mut stream = connect(origin.https(), "localhost", config.clone())
            .await
            .unwrap();
        stream
            .write_all(b"GET /live/s.flv HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        // The tickets come with the answer.
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        stream.get_ref().1.handshake_kind().unwrap()
    };
    origin.server.reload(
        &origin
            .text
            .replace("min_latency", "play_wait_timeout 0; min_latency"),
    );
    assert_eq!(kind().await, HandshakeKind::Full);
    assert_eq!(kind().await, HandshakeKind::Resumed);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_http_api_answers_by_https_and_says_who_encrypts() {
    let authority = Authority::new();
    let certificate = authority.issue("default", "localhost");
    let api = authority.issue("api", "api.example");
    let globals = format!(
        "http_api {{ enabled on; https {{ enabled on; {} }} }}",
        api.directives()
    );
    let origin = TlsServer::with(authority, certificate, &globals, "");
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_https_api(listener, origin.server.server.clone()));
    let _plain = origin.server.publisher("plain").await;
    let rtmps = origin.tunnel(origin.rtmps()).await;
    let _secured = publisher(rtmps, "secured").await;
    let mut stream = connect(address, "api.example", origin.authority.client())
        .await
        .unwrap();
    let request = b"GET /api/v1/clients HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let clients = body["clients"].as_array().unwrap();
    let tls = |name: &str| {
        clients
            .iter()
            .find(|client| client["name"] == name)
            .unwrap()["tls"]
            .clone()
    };
    assert_eq!(tls("plain"), Value::Null);
    assert!(
        ["user", "kernel"]
            .map(Value::from)
            .contains(&tls("secured"))
    );
}

/// What a server answers to `bytes` before it closes.
async fn answer_to(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(TIME_LIMIT, socket.read_to_end(&mut answer)).await;
    let _ = read.expect("the connection is still open");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_tls_is_told_so() {
    let origin = TlsServer::origin("", "");
    let request = b"GET /live/s.flv HTTP/1.1\r\nHost: a\r\n\r\n";
    let answer = answer_to(origin.https(), request).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("this port speaks HTTPS"), "{answer}");
    let allowed = "Access-Control-Allow-Origin: *";
    assert!(answer.contains(allowed), "{answer}");
    let text = origin.text.replace(
        "http_server { enabled on;",
        "http_server { enabled on; crossdomain off;",
    );
    origin.server.reload(&text);
    let answer = answer_to(origin.https(), request).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(!answer.contains(allowed), "{answer}");
    assert_eq!(answer_to(origin.rtmps(), request).await, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_handshake_is_closed() {
    let origin = TlsServer::origin("handshake_timeout 600000;", "");
    let record = |length: u16, body: &[u8]| {
        let mut record = vec![22, 3, 1];
        record.extend(length.to_be_bytes());
        record.extend(body);
        record
    };
    // An alert: type, version, length, level, description.
    let is_alert = |answer: &[u8]| matches!(answer, [21, 3, _, 0, 2, 2, _]);
    for (bytes, alert) in [
        (vec![3; 1_537], false),
        (vec![0x80, 46, 1, 3, 1], false),
        (record(60_000, &[]), false),
        (record(4, &[1, 0, 0, 0]), true),
        (record(4, &[9, 0, 0, 0]), true),
    ] {
        let answer = answer_to(origin.rtmps(), &bytes).await;
        assert_eq!(is_alert(&answer), alert, "{bytes:?}: {answer:?}");
    }
    // Those that wait for more end by the time-out alone.
    let text = origin
        .text
        .replace("handshake_timeout 600000;", "handshake_timeout 200;");
    origin.server.reload(&text);
    for bytes in [
        // Cut off, and silent.
        record(512, &[1, 0, 1]),
        vec![],
        // Part of a message that is longer.
        record(64, &[9; 64]),
        record(5, &[1, 0xff, 0xff, 0xff, 0]),
    ] {
        answer_to(origin.rtmps(), &bytes).await;
    }
    until(|| origin.server.server.clients().count() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_stall_in_the_handshake_keep_nobody_out() {
    let origin = TlsServer::origin("handshake_timeout 600000;", "");
    let mut stalled = Vec::new();
    for number in 0..300 {
        let address = match number % 2 {
            0 => origin.https(),
            _ => origin.rtmps(),
        };
        let mut socket = TcpStream::connect(address).await.unwrap();
        // A part of a client hello.
        socket.write_all(&[22, 3, 1, 0, 1, 1]).await.unwrap();
        stalled.push(socket);
    }
    until(|| origin.server.server.clients().count() == stalled.len()).await;
    for address in [origin.https(), origin.rtmps()] {
        let config = origin.authority.client();
        let connecting = connect(address, "localhost", config);
        let connected = tokio::time::timeout(TIME_LIMIT, connecting).await;
        connected.expect("no handshake").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_never_ends_is_closed() {
    let origin = TlsServer::origin("handshake_timeout 600000;", "");
    let mut socket = TcpStream::connect(origin.https()).await.unwrap();
    // A client hello of 65,535 bytes, in records of one byte.
    let mut bytes = vec![1, 0, 0xff, 0xff];
    bytes.resize(70_000, 0);
    let records: Vec<u8> = bytes
        .iter()
        .flat_map(|&byte| [22, 3, 1, 0, 1, byte])
        .collect();
    // An error means that it is closed already.
    let _ = socket.write_all(&records).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(TIME_LIMIT, socket.read_to_end(&mut answer)).await;
    let _ = read.expect("the connection is still open");
    until(|| origin.server.server.clients().count() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_half_way_is_gone() {
    let origin = TlsServer::origin("", "");
    let mut publisher = origin.server.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let clients = || origin.server.server.clients().count();
    let request = b"GET /live/s.flv HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for with_close_notify in [true, false] {
        let mut stream = connect(origin.https(), "localhost", origin.authority.client())
            .await
            .unwrap();
        stream.write_all(request).await.unwrap();
        assert!(stream.read(&mut [0; 1_024]).await.unwrap() > 0);
        until(|| clients() == 2).await;
        if with_close_notify {
            // It goes on reading.
            stream.get_mut().1.send_close_notify();
            stream.flush().await.unwrap();
        } else {
            stream.get_mut().0.shutdown().await.unwrap();
        }
        until(|| clients() == 1).await;
    }
    // In the middle of a record.
    let mut stream = connect(origin.https(), "localhost", origin.authority.client())
        .await
        .unwrap();
    stream.write_all(request).await.unwrap();
    assert!(stream.read(&mut [0; 1_024]).await.unwrap() > 0);
    let (socket, _) = stream.get_mut();
    socket.write_all(&[23, 3, 3, 0, 100, 1, 2]).await.unwrap();
    socket.shutdown().await.unwrap();
    until(|| clients() == 1).await;
    publisher.publish(&[picture(40)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_decrypted_ends_a_play() {
    keep_log();
    let origin = TlsServer::origin("", "");
    let mut publisher = origin.server.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut stream = connect(origin.https(), "localhost", origin.authority.client())
        .await
        .unwrap();
    stream
        .write_all(b"GET /live/s.flv HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    assert!(stream.read(&mut [0; 1_024]).await.unwrap() > 0);
    let clients = || origin.server.server.clients().count();
    until(|| clients() == 2).await;
    let (socket, _) = stream.get_mut();
    let mut forged = vec![23, 3, 3, 0, 100];
    forged.resize(105, 7);
    socket.write_all(&forged).await.unwrap();
    until(|| clients() == 1).await;
    assert_ne!(log_lines("a TLS record cannot be decrypted"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_change_its_key_and_ask_for_another() {
    let origin = TlsServer::origin("", "");
    let mut publisher = origin.server.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut stream = connect(origin.https(), "localhost", origin.authority.client())
        .await
        .unwrap();
    let fields = FlvClient::websocket_fields();
    let request = format!("GET /live/s.flv HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(stream.read(&mut [0; 1_024]).await.unwrap() > 0);
    stream.get_mut().1.refresh_traffic_keys().unwrap();
    stream.flush().await.unwrap();
    // A ping with no mask to speak of: its answer comes by the new keys.
    stream
        .write_all(&[0x89, 0x84, 0, 0, 0, 0, b'p', b'i', b'n', b'g'])
        .await
        .unwrap();
    let mut came = Vec::new();
    while !came.windows(4).any(|bytes| bytes == b"ping") {
        let mut bytes = [0; 1_024];
        let read = tokio::time::timeout(TIME_LIMIT, stream.read(&mut bytes)).await;
        let count = read.expect("no answer").unwrap();
        assert!(count > 0, "closed");
        came.extend_from_slice(&bytes[..count]);
    }
}
