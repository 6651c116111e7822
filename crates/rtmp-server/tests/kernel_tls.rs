//! TLS that the kernel encrypts. Most machines have the module `tls` only once it is loaded;
//! `cargo xtask test-kernels` runs this on kernels that have it.

#[path = "common/mod.rs"]
#[allow(dead_code, reason = "the other test programs use the rest")]
mod common;
#[path = "server/flv_client.rs"]
#[allow(dead_code, reason = "the other test programs use the rest")]
mod flv_client;
#[path = "server/support.rs"]
#[allow(dead_code, reason = "the other test programs use the rest")]
mod support;
#[path = "server/tls_support.rs"]
#[allow(dead_code, reason = "the other test programs use the rest")]
mod tls_support;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use netbed::TIME_LIMIT;
use rtmp_proto::session::Purpose;
use rtmp_server::config::Role;
use rustls::crypto::{CryptoProvider, ring};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, ClientConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use common::server::any_port;
use flv_client::FlvClient;
use support::{TestServer, keep_log, keyframe, log_lines, picture, until};
use tls_support::{TlsServer, connect, large_pictures, publisher, rtmp, tunnel};

/// A player's request.
const REQUEST: &[u8] = b"GET /live/s.flv HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// An origin whose kernel encrypts; none, with the reason, where the kernel has no TLS.
macro_rules! origin {
    () => {{
        keep_log();
        let origin = TlsServer::origin("", "");
        if log_lines("TLS: the kernel encrypts").is_empty() {
            netbed::skip!("this kernel has no TLS: the module `tls` is not loaded");
        }
        origin
    }};
}

/// A client of `origin` with this cipher suite.
fn with_suite(origin: &TlsServer, suite: CipherSuite) -> ClientConfig {
    let mut provider: CryptoProvider = ring::default_provider();
    provider.cipher_suites.retain(|it| it.suite() == suite);
    let version = match suite.as_str().is_some_and(|name| name.starts_with("TLS13")) {
        true => &TLS13,
        false => &TLS12,
    };
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(common::certificates::first(&origin.authority.file()))
        .unwrap();
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

const SUITES: [CipherSuite; 6] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// True if the kernel encrypts each connection that is encrypted.
fn kernel_encrypts(origin: &TlsServer) -> bool {
    let clients = origin.server.server.clients().list();
    let mut places = clients.iter().filter_map(|client| client.tls());
    places.all(|place| place == "kernel")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_are_the_same_with_every_cipher_in_both_directions() {
    let origin = origin!();
    for (number, suite) in SUITES.into_iter().enumerate() {
        let config = with_suite(&origin, suite);
        let rtmps = tunnel(origin.rtmps(), config.clone()).await;
        let https = tunnel(origin.https(), config).await;
        let stream = format!("s{number}");
        let mut publisher = publisher(rtmps, &stream).await;
        publisher.publish(&[keyframe(0)]).await;
        origin.server.arrived(&stream, 1).await;
        let mut player = rtmp(rtmps, Purpose::Play, &stream).await;
        player.frame().await;
        let path = format!("/live/{stream}.flv");
        let (mut flv, _) = FlvClient::playing(https, &path).await;
        let (mut websocket, _) = FlvClient::playing_websocket(https, &path).await;
        let pictures = large_pictures(7, 4);
        publisher.publish(&pictures).await;
        for expected in &pictures {
            assert!(
                player.frame().await == *expected,
                "{suite:?}: another picture"
            );
        }
        for client in [&mut flv, &mut websocket] {
            assert_eq!(client.tags(1).await, [(9, 0, 0x17)]);
            for expected in &pictures {
                let tag = client.tag().await;
                assert!(
                    tag.payload == expected.payload.to_vec(),
                    "{suite:?}: another tag"
                );
            }
        }
        // Its frames come by TLS that the kernel decrypts.
        websocket.send_frame(0x89, b"ping").await;
        while websocket.pongs.is_empty() {
            assert!(websocket.fill().await);
        }
        assert!(kernel_encrypts(&origin), "{suite:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_half_way_is_gone() {
    let origin = origin!();
    let mut publisher = origin.server.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let clients = || origin.server.server.clients().count();
    for end in ["close_notify", "FIN", "part of a record", "a forged record"] {
        let mut stream = connect(origin.https(), "localhost", origin.authority.client())
            .await
            .unwrap();
        stream.write_all(REQUEST).await.unwrap();
        assert!(stream.read(&mut [0; 1_024]).await.unwrap() > 0);
        until(|| clients() == 2).await;
        let (socket, session) = stream.get_mut();
        match end {
            "close_notify" => session.send_close_notify(),
            "FIN" => socket.shutdown().await.unwrap(),
            "part of a record" => {
                socket.write_all(&[23, 3, 3, 0, 100, 1, 2]).await.unwrap();
                socket.shutdown().await.unwrap();
            }
            _ => {
                let mut forged = vec![23, 3, 3, 0, 100];
                forged.resize(105, 7);
                socket.write_all(&forged).await.unwrap();
            }
        }
        stream.flush().await.unwrap();
        until(|| clients() == 1).await;
    }
    publisher.publish(&[picture(40)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_stream_is_said_by_an_alert() {
    let origin = origin!();
    let https = origin.https();
    let text = origin
        .text
        .replace("min_latency", "publish_return_timeout 0; min_latency");
    origin.server.reload(&text);
    let mut publisher = origin.server.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut stream = connect(https, "localhost", origin.authority.client())
        .await
        .unwrap();
    stream.write_all(REQUEST).await.unwrap();
    assert!(stream.read(&mut [0; 1_024]).await.unwrap() > 0);
    drop(publisher);
    // Without the alert, rustls calls the end unexpected.
    let mut rest = Vec::new();
    let read = tokio::time::timeout(TIME_LIMIT, stream.read_to_end(&mut rest)).await;
    read.expect("no end").expect("no alert");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_changes_its_key_is_closed_where_the_kernel_cannot_follow() {
    let origin = origin!();
    let mut publisher = origin.server.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut stream = connect(origin.https(), "localhost", origin.authority.client())
        .await
        .unwrap();
    stream.write_all(REQUEST).await.unwrap();
    assert!(stream.read(&mut [0; 1_024]).await.unwrap() > 0);
    let clients = || origin.server.server.clients().count();
    until(|| clients() == 2).await;
    stream.get_mut().1.refresh_traffic_keys().unwrap();
    stream.flush().await.unwrap();
    until(|| clients() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_by_rtmps_passes_the_same_bytes_on_in_both_directions() {
    let origin = origin!();
    let text = format!(
        "vhost __defaultVhost__ {{ mode remote; origin rtmps://127.0.0.1:{}; origin_ca {}; \
         min_latency on; publish_normal_timeout 600000; }}",
        origin.rtmps().port(),
        origin.authority.file().display()
    );
    let edge = TestServer::start(Role::Edge, &text);
    let mut publisher = edge.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = edge.player("s").await;
    assert_eq!(player.frame().await, keyframe(0));
    let pictures = large_pictures(3, 20);
    publisher.publish(&pictures).await;
    for expected in &pictures {
        assert!(player.frame().await == *expected, "another picture");
    }
    assert!(kernel_encrypts(&origin));
}

/// A way to `address` that keeps what the server sends.
async fn listened_to(address: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let entrance = listener.local_addr().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let keeper = heard.clone();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect(address).await.unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
        let mut bytes = vec![0; 65_536];
        while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
            keeper.lock().unwrap().extend_from_slice(&bytes[..count]);
            to_client.write_all(&bytes[..count]).await.unwrap();
        }
    });
    (entrance, heard)
}

/// With a nonce that comes twice, AES-GCM gives its key away. In TLS 1.2 the nonces can be
/// read (RFC 5288 §3): the first is rustls's, the others are the kernel's.
#[tokio::test(flavor = "multi_thread")]
async fn no_nonce_of_tls_1_2_comes_twice() {
    let origin = origin!();
    let mut publisher = origin.server.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    publisher.publish(&large_pictures(1, 3)).await;
    origin.server.arrived("s", 4).await;
    let suite = CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
    let (entrance, heard) = listened_to(origin.https()).await;
    let https = tunnel(entrance, with_suite(&origin, suite)).await;
    let (mut player, _) = FlvClient::playing(https, "/live/s.flv").await;
    player.tags(4).await;
    let heard = heard.lock().unwrap().clone();
    let mut rest = &heard[..];
    let mut nonces = HashSet::new();
    let mut encrypted = false;
    let mut data = 0;
    while let [kind, _, _, high, low, following @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some(record) = following.get(..length) else {
            break;
        };
        if encrypted {
            assert!(
                nonces.insert(record[..8].to_vec()),
                "a nonce came twice: {nonces:?}"
            );
        }
        // ChangeCipherSpec: what follows is encrypted.
        encrypted |= *kind == 20;
        data += usize::from(*kind == 23);
        rest = &following[length..];
    }
    assert!(
        data > 10 && nonces.len() > data,
        "{data} of {} records",
        nonces.len()
    );
}
