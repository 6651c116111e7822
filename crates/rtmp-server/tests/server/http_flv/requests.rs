//! Requests and the status of their answers.

use tokio::io::AsyncReadExt;

use super::{origin, status};
use crate::flv_client::FlvClient;
use crate::support::{keyframe, picture, until};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_served_has_a_status() {
    let (_origin, http) = origin(
        "play_wait_timeout 100;",
        "vhost other { http_remux { enabled off; } }",
    );
    for (line, expected) in [
        ("GET /live/s.flv", "404"),
        ("GET /live/s.ts", "404"),
        ("GET /s.flv", "404"),
        ("GET /live/a%3Fb.flv", "404"),
        ("GET /live/s.flv?vhost=other", "404"),
        ("HEAD /live/s.flv", "404"),
        ("POST /live/s.flv", "405"),
        ("GET /live/%ff.flv", "400"),
        ("GET live", "400"),
    ] {
        assert_eq!(status(http, line, "").await, expected, "{line}");
    }
    let long = "a".repeat(3_000);
    assert_eq!(status(http, &format!("GET /{long}"), "").await, "414");
    let fields = format!("X: {}\r\n", "a".repeat(9_000));
    assert_eq!(status(http, "GET /live/s.flv", &fields).await, "431");
    let old = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n";
    assert_eq!(status(http, "GET /live/s.flv", old).await, "426");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_path_alone_names_the_stream() {
    let (origin, http) = origin("play_wait_timeout 100;", "");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    origin.arrived("s", 1).await;
    for (path, expected) in [
        // In RTMP, this query would make it `live/s/other`.
        ("/live/s.flv?vhost=v/other", "200"),
        ("/live/s.flv?domain=v&x=/y", "200"),
        ("/live//s.flv", "404"),
        ("/live/_definst_/s.flv", "404"),
        ("/live/%20s.flv", "404"),
    ] {
        let line = format!("HEAD {path}");
        assert_eq!(status(http, &line, "").await, expected, "{path}");
    }
    let streams = origin.server.streams();
    let names: Vec<_> = streams.iter().map(|it| it.key().to_string()).collect();
    assert_eq!(names, ["live/s"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reason_stands_in_the_answer() {
    let (_origin, http) = origin("play_wait_timeout 100;", "");
    let mut client = FlvClient::asking(http, "GET /live/s.flv", "").await;
    let answer = client.answer().await;
    assert!(
        answer.ends_with("\r\n\r\nnobody publishes live/s\n"),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_may_ask_first_and_players_for_the_head() {
    for (crossdomain, globals) in [
        (true, ""),
        (false, "http_server { enabled on; crossdomain off; }"),
    ] {
        let (origin, http) = origin("", globals);
        let mut publisher = origin.publisher("s").await;
        publisher.publish(&[keyframe(0)]).await;
        origin.arrived("s", 1).await;
        let mut asking =
            FlvClient::asking(http, "OPTIONS /live/s.flv", "Origin: http://a\r\n").await;
        let answer = asking.answer().await;
        assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
        let allowed = "Access-Control-Allow-Origin: *\r\n";
        assert_eq!(answer.contains(allowed), crossdomain, "{answer}");
        let mut asking = FlvClient::asking(http, "HEAD /live/s.flv", "").await;
        let answer = asking.answer().await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("Content-Type: video/x-flv\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_no_whole_request_is_closed() {
    let (origin, http) = origin("", "handshake_timeout 2000;");
    let mut silent = FlvClient::connect(http).await;
    assert_eq!(silent.answer().await, "");
    let mut slow = FlvClient::connect(http).await;
    slow.send(b"GET /live/s.flv HTTP/1.1\r\n").await;
    assert!(slow.answer().await.starts_with("HTTP/1.1 408 "));
    until(|| origin.server.clients().count() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_request_is_ignored() {
    let (origin, http) = origin("", "");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let (mut player, _) = FlvClient::playing(http, "/live/s.flv").await;
    player
        .send(b"GET /live/other.flv HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    publisher.publish(&[picture(40)]).await;
    assert_eq!(player.tags(2).await, [(9, 0, 0x17), (9, 40, 0x27)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_pages_and_limits_are_refused() {
    let (_first, http) = origin("security { enabled on; deny play all; }", "");
    assert_eq!(status(http, "GET /live/s.flv", "").await, "403");
    let (_second, http) = origin("refer_play example.com;", "");
    assert_eq!(
        status(http, "GET /live/s.flv", "Referer: http://evil.net/\r\n").await,
        "403"
    );
    assert_eq!(
        status(http, "GET /live/s.ts", "Referer: http://example.com/\r\n").await,
        "404"
    );
    let (third, http) = origin("", "max_connections 2;");
    let mut publisher = third.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let (_player, _) = FlvClient::playing(http, "/live/s.flv").await;
    let mut refused = FlvClient::asking(http, "GET /live/s.flv", "").await;
    // An RST, which may discard the answer, would be an error here.
    let mut answer = String::new();
    refused.socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}
