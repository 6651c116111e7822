//! HTTP/2 where TLS has agreed on it.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use netbed::TIME_LIMIT;
use tokio::task::JoinHandle;

use crate::api_client::Api;
use crate::support::{headers, keep_log, keyframe, log_lines, picture, until};
use crate::tls_support::{TlsServer, connect, large_pictures, publish_until_a_player_skips};

/// A client's connection.
struct Http2 {
    requests: SendRequest<Empty<Bytes>>,
    connection: JoinHandle<hyper::Result<()>>,
}

impl Http2 {
    async fn connect(origin: &TlsServer, address: SocketAddr) -> Self {
        let mut config = origin.authority.client();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stream = connect(address, "localhost", config).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (requests, connection) = http2::Builder::new(TokioExecutor::new())
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let connection = tokio::spawn(connection);
        Self {
            requests,
            connection,
        }
    }

    fn request(method: &Method, path: &str) -> Request<Empty<Bytes>> {
        let request = Request::builder().method(method);
        let request = request.uri(format!("https://localhost{path}"));
        request.body(Empty::new()).unwrap()
    }

    async fn ask(&mut self, method: Method, path: &str) -> Response<hyper::body::Incoming> {
        let answer = self.requests.send_request(Self::request(&method, path));
        let answer = tokio::time::timeout(TIME_LIMIT, answer).await;
        answer.expect("no answer").unwrap()
    }

    async fn get(&mut self, path: &str) -> Response<hyper::body::Incoming> {
        self.ask(Method::GET, path).await
    }

    /// Waits for the end of the connection.
    async fn ended(self) -> hyper::Result<()> {
        let ended = tokio::time::timeout(TIME_LIMIT, self.connection).await;
        ended.expect("it is still open").unwrap()
    }
}

/// Reads of a body as many bytes as `expected` has, which it begins with.
async fn assert_begins(body: &mut hyper::body::Incoming, expected: &[u8]) {
    let mut came = Vec::new();
    while came.len() < expected.len() {
        let frame = tokio::time::timeout(TIME_LIMIT, body.frame()).await;
        let frame = frame.expect("nothing came").expect("the end").unwrap();
        came.extend_from_slice(&frame.into_data().unwrap());
    }
    assert!(came.starts_with(expected), "another body");
}

/// A tag with its size behind it.
fn tag(message: &rtmp_proto::wire::Message) -> Vec<u8> {
    let length = u32::try_from(message.payload.len()).unwrap();
    let time = message.timestamp.to_be_bytes();
    let mut tag = vec![message.message_type.0];
    tag.extend(&length.to_be_bytes()[1..]);
    tag.extend([time[1], time[2], time[3], time[0], 0, 0, 0]);
    tag.extend(message.payload.iter());
    tag.extend((11 + length).to_be_bytes());
    tag
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_played_side_by_side_over_one_connection() {
    let origin = TlsServer::origin("", "");
    let mut client = Http2::connect(&origin, origin.https()).await;
    let mut players = Vec::new();
    for name in ["a", "b"] {
        let mut publisher = origin.server.publisher(name).await;
        publisher.publish(&[keyframe(0)]).await;
        origin.server.arrived(name, 1).await;
        let answer = client.get(&format!("/live/{name}.flv")).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "video/x-flv");
        assert_eq!(answer.headers()["access-control-allow-origin"], "*");
        assert!(!answer.headers().contains_key("connection"));
        players.push((publisher, answer.into_body()));
    }
    // The connection, two publishers, two players.
    assert_eq!(origin.server.server.clients().count(), 5);
    for (number, (publisher, _)) in (0_u8..).zip(&mut players) {
        publisher.publish(&large_pictures(number, 10)).await;
    }
    for (number, (_, body)) in (0_u8..).zip(&mut players) {
        let mut expected = b"FLV\x01\x01\0\0\0\x09\0\0\0\0".to_vec();
        expected.extend(tag(&keyframe(0)));
        for picture in large_pictures(number, 10) {
            expected.extend(tag(&picture));
        }
        assert_begins(body, &expected).await;
    }
    // Who gives up one stream keeps the others.
    let (_publisher, body) = players.remove(0);
    drop(body);
    until(|| origin.server.server.clients().count() == 4).await;
    players[0].0.publish(&[picture(4_000)]).await;
    assert_begins(&mut players[0].1, &tag(&picture(4_000))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_and_questions_are_answered_as_by_http_1() {
    let origin = TlsServer::origin("", "play_wait_timeout 0;");
    let mut client = Http2::connect(&origin, origin.https()).await;
    let answer = client.get("/live/s.flv").await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "nobody publishes live/s\n");
    let answer = client.ask(Method::POST, "/live/s.flv").await;
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    let answer = client.ask(Method::OPTIONS, "/live/s.flv").await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    let mut publisher = origin.server.publisher("s").await;
    publisher.publish(&headers()).await;
    publisher.publish(&[keyframe(0)]).await;
    origin.server.arrived("s", 4).await;
    let answer = client.ask(Method::HEAD, "/live/s.flv").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(
        answer
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .is_empty()
    );
    // The connection and the publisher.
    until(|| origin.server.server.clients().count() == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_player_counts_as_a_connection() {
    let origin = TlsServer::origin("max_connections 3;", "");
    let mut publisher = origin.server.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    origin.server.arrived("s", 1).await;
    let mut client = Http2::connect(&origin, origin.https()).await;
    let first = client.get("/live/s.flv").await;
    assert_eq!(first.status(), StatusCode::OK);
    let second = client.get("/live/s.flv").await;
    assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_stream_is_the_end_of_its_answer() {
    let origin = TlsServer::origin("", "publish_return_timeout 0;");
    let mut publisher = origin.server.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    origin.server.arrived("s", 1).await;
    let mut client = Http2::connect(&origin, origin.https()).await;
    let answer = client.get("/live/s.flv").await;
    drop(publisher);
    let body = tokio::time::timeout(TIME_LIMIT, answer.into_body().collect()).await;
    assert!(
        body.expect("no end")
            .unwrap()
            .to_bytes()
            .ends_with(&tag(&keyframe(0)))
    );
    assert_eq!(client.get("/").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_answers_and_the_connection_properly() {
    let origin = TlsServer::origin("", "");
    let mut publisher = origin.server.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    origin.server.arrived("s", 1).await;
    let mut client = Http2::connect(&origin, origin.https()).await;
    let first = client.get("/live/s.flv").await;
    let of_connection = |it: &std::sync::Arc<rtmp_server::Client>| it.tls().is_some();
    let list = origin.server.server.clients().list();
    let connection = list
        .iter()
        .filter(|it| of_connection(it))
        .map(|it| it.id)
        .min();
    // The end of the connection is that of its requests.
    assert!(origin.server.server.dismiss(connection.unwrap()));
    let body = tokio::time::timeout(TIME_LIMIT, first.into_body().collect()).await;
    body.expect("no end").expect("cut off");
    client.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_can_be_left_out() {
    let origin = TlsServer::origin("", "");
    let agreed = async || {
        let mut config = origin.authority.client();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stream = connect(origin.https(), "localhost", config).await.unwrap();
        stream.get_ref().1.alpn_protocol().unwrap().to_vec()
    };
    assert_eq!(agreed().await, b"h2");
    let text = origin
        .text
        .replace("https { enabled on;", "https { enabled on; http2 off;");
    origin.server.reload(&text);
    assert_eq!(agreed().await, b"http/1.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_that_reads_nothing_skips_and_others_go_on() {
    let origin = TlsServer::origin("", "queue_length 1;");
    let mut publisher = origin.server.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    origin.server.arrived("s", 1).await;
    let mut client = Http2::connect(&origin, origin.https()).await;
    let _unread = client.get("/live/s.flv").await;
    let mut read = client.get("/live/s.flv").await.into_body();
    tokio::spawn(async move { while let Some(Ok(_)) = read.frame().await {} });
    publish_until_a_player_skips(&origin, &mut publisher).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn players_are_among_the_slowest_and_their_bytes_are_the_connections() {
    keep_log();
    let origin = TlsServer::origin("", "");
    let api = Api::of(&origin.server).await;
    let mut publisher = origin.server.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    origin.server.arrived("s", 1).await;
    let mut client = Http2::connect(&origin, origin.https()).await;
    let mut body = client.get("/live/s.flv").await.into_body();
    publisher.publish(&large_pictures(7, 10)).await;
    let mut came = 0;
    while came < 100_000 {
        came += body
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap()
            .len();
    }
    let slowest = api.get("/api/v1/clients?slowest=5").await;
    let [player] = &slowest["clients"].as_array().unwrap()[..] else {
        panic!("one player: {slowest}");
    };
    assert_eq!(player["protocol"], "http-flv", "{player}");
    assert!(player["tcp"].is_null(), "{player}");
    // The bytes are those of the connection, and count once.
    let clients = origin.server.server.clients().list();
    let connection = clients
        .iter()
        .filter(|it| it.tls().is_some())
        .min_by_key(|it| it.id);
    let connection = connection.unwrap();
    // The connection that carries it plays nothing itself.
    let path = format!("/api/v1/clients/{}", connection.id);
    let carrier = &api.get(&path).await["client"];
    assert_eq!(carrier["protocol"], "http", "{carrier}");
    let sent = connection.meter.bytes.load(Ordering::Relaxed);
    assert!(sent > 100_000, "{sent}");
    let summaries = api.get("/api/v1/summaries").await;
    let all = summaries["data"]["system"]["srs_send_bytes"]
        .as_u64()
        .unwrap();
    assert!(all < 2 * sent, "{all} {sent}");
    // With its port: other tests of this process have clients of the same number.
    let line = format!("{connection}: ");
    drop((body, client));
    until(|| log_lines(&line).iter().any(|it| it.contains(" bytes in, "))).await;
    assert!(!log_lines(&line).iter().any(|it| it.contains(" 0 out)")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_requests_ends() {
    let origin = TlsServer::origin("idle_timeout 600000;", "");
    let mut client = Http2::connect(&origin, origin.https()).await;
    origin.server.reload(
        &origin
            .text
            .replace("idle_timeout 600000;", "idle_timeout 200;"),
    );
    // The time runs from the end of a request on.
    assert_eq!(client.get("/").await.status(), StatusCode::NOT_FOUND);
    let _ = client.ended().await;
    until(|| origin.server.server.clients().count() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_resets_streams_again_and_again_is_closed() {
    let origin = TlsServer::origin("", "play_wait_timeout 600000;");
    let clients = || origin.server.server.clients().count();
    let mut client = Http2::connect(&origin, origin.https()).await;
    // CVE-2023-44487: requests that are given up before they are answered, though not at
    // once: each has begun to wait for the stream.
    let mut given_up = 0;
    while client.requests.ready().await.is_ok() {
        let request = Http2::request(&Method::GET, "/live/s.flv");
        let answer = tokio::spawn(client.requests.send_request(request));
        until(|| clients() == 2 || answer.is_finished()).await;
        answer.abort();
        until(|| clients() < 2).await;
        given_up += 1;
        assert!(given_up < 100, "it may go on");
    }
    let _ = client.ended().await;
    until(|| origin.server.server.clients().count() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn header_fields_are_bounded() {
    let origin = TlsServer::origin("", "");
    let mut client = Http2::connect(&origin, origin.https()).await;
    let mut request = Http2::request(&Method::GET, "/live/s.flv");
    for number in 0..20 {
        let name = format!("x-{number}")
            .parse::<hyper::header::HeaderName>()
            .unwrap();
        request
            .headers_mut()
            .insert(name, "a".repeat(1_000).parse().unwrap());
    }
    let answer = tokio::time::timeout(TIME_LIMIT, client.requests.send_request(request)).await;
    if let Ok(answer) = answer.expect("no answer") {
        assert_eq!(answer.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
}
