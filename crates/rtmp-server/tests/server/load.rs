//! `capacity` and `admission`, and what the HTTP API says of the load.

use rtmp_proto::session::Purpose;
use rtmp_proto::session::status::code;
use rtmp_server::config::Role;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::api_client::Api;
use crate::flv_client::FlvClient;
use crate::support::{TestServer, eventually, keyframe};

/// An origin with room for so many viewers of a stream that is not known yet, for a megabit
/// per second each, and half of one for answers.
fn origin(viewers: u32, admission: &str) -> TestServer {
    let text = format!(
        "http_server {{ enabled on; }}
         admission {{ capacity {viewers}500k; limit 100%; reserve 1m; {admission} }}
         vhost __defaultVhost__ {{
             min_latency on; publish_normal_timeout 600000; http_remux {{ enabled on; }}
             hls {{ enabled on; }}
         }}"
    );
    TestServer::start(Role::Origin, &text)
}

/// Waits until this is reserved for viewers, bit/s.
async fn has_reserved(api: &Api, rate: u64) {
    eventually(async || (load(api).await["reserved"] == rate).then_some(())).await;
}

/// A player that waits for its stream until this is aborted.
async fn waiting(server: &TestServer) -> JoinHandle<()> {
    let mut player = server.player("s").await;
    tokio::spawn(async move { while player.event().await.is_some() {} })
}

async fn load(api: &Api) -> Value {
    api.get("/api/v1/load").await["data"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_viewer_too_many_is_refused_by_every_protocol() {
    let server = origin(2, "");
    let (http, api) = (server.http.unwrap(), Api::of(&server).await);
    let _publisher = server.publisher("s").await;
    // Nothing is sent to them yet: their rate is kept for them.
    let _first = waiting(&server).await;
    let second = waiting(&server).await;
    has_reserved(&api, 2_000_000).await;
    let refusal = server.refused(Purpose::Play, "s").await;
    assert_eq!(refusal.code, code::PLAY_FAILED);
    assert!(
        refusal.description.contains("the server is full"),
        "{refusal}"
    );
    for path in ["/live/s.flv", "/live/s.m3u8"] {
        let mut refused =
            FlvClient::asking(http, &format!("GET {path}"), "Connection: close\r\n").await;
        let answer = refused.answer().await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("\r\nRetry-After: 5\r\n"), "{answer}");
    }
    assert_eq!(load(&api).await["capacity"], 2_500_000);
    let expected = [
        "millrace_refusals_total{reason=\"capacity\"} 3",
        "millrace_load_capacity_bytes_per_second 312500",
    ];
    // A refusal is counted when its connection has ended.
    let metrics = async || {
        let metrics = api.ask("GET", "/metrics").await.body;
        let has = |line: &&str| metrics.lines().any(|it| it == *line);
        expected.iter().all(has).then_some(())
    };
    eventually(metrics).await;
    // Another one has room as soon as one goes, and publishers always do.
    let _other = server.publisher("t").await;
    second.abort();
    has_reserved(&api, 1_000_000).await;
    let _third = waiting(&server).await;
    has_reserved(&api, 2_000_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_beyond_the_capacity_are_sent_to_another_server() {
    let overflow = "reserve 3m; overflow rtmp://192.0.2.7:1936 http://192.0.2.7:8080;";
    let server = origin(1, overflow);
    let http = server.http.unwrap();
    let api = Api::of(&server).await;
    let _publisher = server.publisher("s").await;
    // Nothing is known of the stream, so that the first is let in whatever is reserved.
    let _first = waiting(&server).await;
    has_reserved(&api, 3_000_000).await;
    let said = load(&api).await;
    assert_eq!(
        (&said["accepting"], &said["reason"]),
        (&false.into(), &"capacity".into())
    );
    let metrics = api.ask("GET", "/metrics").await.body;
    assert!(metrics.contains("\nmillrace_load_accepting 0\n"));
    let status = server.refused(Purpose::Play, "s?token=1").await;
    let redirect = status.redirect.expect("another server");
    assert_eq!(redirect.url, "rtmp://192.0.2.7:1936/live/s?token=1");
    for path in ["/live/s.flv?a=b", "/live/s.m3u8"] {
        let mut refused =
            FlvClient::asking(http, &format!("GET {path}"), "Connection: close\r\n").await;
        let answer = refused.answer().await;
        assert!(answer.starts_with("HTTP/1.1 302 Found\r\n"), "{answer}");
        let location = format!("\r\nLocation: http://192.0.2.7:8080{path}\r\n");
        assert!(answer.contains(&location), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_of_edges_are_not_refused() {
    let origin = TestServer::start(
        Role::Origin,
        "capacity 1k; vhost __defaultVhost__ { min_latency on; }",
    );
    let api = Api::of(&origin).await;
    let _publisher = origin.publisher("s").await;
    let edge = TestServer::edge(&[origin.address], "");
    let _player = waiting(&edge).await;
    has_reserved(&api, 2_000_000).await;
    let refusal = origin.refused(Purpose::Play, "s").await;
    assert_eq!(refusal.code, code::PLAY_FAILED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_capacity_says_its_load_and_refuses_nobody() {
    let server = TestServer::origin("");
    let api = Api::of(&server).await;
    let mut publisher = server.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = server.player("s").await;
    assert_eq!(player.frame().await, keyframe(0));
    let said = load(&api).await;
    assert_eq!(
        (&said["players"], &said["accepting"]),
        (&1.into(), &true.into())
    );
    assert_eq!(
        (&said["reserved"], &said["reason"]),
        (&0.into(), &Value::Null)
    );
    assert_eq!(said["limit"], said["capacity"]);
    server.server.drain();
    assert_eq!(load(&api).await["reason"], "draining");
}
