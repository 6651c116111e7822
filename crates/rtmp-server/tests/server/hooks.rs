//! Permissions: hooks over HTTP, and pages.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use rtmp_proto::session::status::code;
use rtmp_proto::session::{ClientConfig, Purpose};
use rtmp_proto::wire::chunk::encode_message;
use rtmp_proto::wire::message::Command;
use rtmp_server::config::Role;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::Barrier;

use crate::support::{
    Client, TestServer, keep_log, keyframe, log_lines, publishing, until, web_server,
};

/// A web server that remembers what it was asked.
#[derive(Clone)]
pub(crate) struct Site {
    pub asked: Arc<Mutex<Vec<Value>>>,
    /// The parameters that `/token` allows.
    valid: Arc<Mutex<&'static str>>,
    pair: Arc<Barrier>,
}

impl Default for Site {
    fn default() -> Self {
        Self {
            asked: Arc::default(),
            valid: Arc::default(),
            pair: Arc::new(Barrier::new(2)),
        }
    }
}

impl Site {
    pub(crate) async fn start(&self) -> SocketAddr {
        let router = Router::new()
            .route("/zero", post(zero))
            .route("/object", post(object))
            .route("/token", post(token))
            .route("/slow_end", post(slow_end))
            .route("/both", post(both))
            .route("/one", post(|| async { "1" }))
            .route("/late", post(late))
            .route(
                "/broken",
                post(|| async { (StatusCode::INTERNAL_SERVER_ERROR, "0") }),
            )
            .with_state(self.clone());
        web_server(router).await
    }

    pub(crate) fn actions(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked
            .iter()
            .map(|event| event["action"].as_str().unwrap().to_owned())
            .collect()
    }
}

async fn zero(State(site): State<Site>, Json(event): Json<Value>) -> &'static str {
    site.asked.lock().unwrap().push(event);
    "0\n"
}

/// Time that `/late` takes: less than the limit of a hook.
const LATE: Duration = Duration::from_millis(3_000);
/// A time-out that has passed by then.
const SHORT_TIMEOUT_MS: u32 = 2_000;

async fn late() -> &'static str {
    tokio::time::sleep(LATE).await;
    "0"
}

/// Takes its time over the end of a play or publish.
async fn slow_end(State(site): State<Site>, Json(event): Json<Value>) -> &'static str {
    let ends = matches!(event["action"].as_str(), Some("on_stop" | "on_unpublish"));
    if ends {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    site.asked.lock().unwrap().push(event);
    "0"
}

/// Allows two publishers at the same time, once both have asked.
async fn both(State(site): State<Site>, Json(event): Json<Value>) -> &'static str {
    site.asked.lock().unwrap().push(event);
    site.pair.wait().await;
    "0"
}

async fn object(State(site): State<Site>, Json(event): Json<Value>) -> Json<Value> {
    site.asked.lock().unwrap().push(event);
    Json(serde_json::json!({ "code": 0 }))
}

async fn token(State(site): State<Site>, Json(event): Json<Value>) -> &'static str {
    if event["param"] == *site.valid.lock().unwrap() {
        "0"
    } else {
        "1"
    }
}

/// Fails unless `event` has the fields that name the stream of a publisher of
/// `live/s?token=x` in all hooks.
pub(crate) fn expect_stream(event: &Value, action: &str) {
    for (field, value) in [
        ("action", action),
        ("ip", "127.0.0.1"),
        ("vhost", "__defaultVhost__"),
        ("app", "live"),
        ("stream", "s"),
        ("param", "?token=x"),
        ("stream_url", "/live/s"),
    ] {
        assert_eq!(event[field], value, "{event}");
    }
    let url = event["tcUrl"].as_str().unwrap();
    assert!(
        url.starts_with("rtmp://") && url.ends_with("/live"),
        "{event}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_asks_its_origin_about_each_viewer_where_tokens_travel() {
    let site = Site::default();
    let web = site.start().await;
    *site.valid.lock().unwrap() = "?token=a";
    let origin = TestServer::origin(&format!(
        "http_hooks {{ enabled on; on_play http://{web}/token; }}"
    ));
    let edge = TestServer::edge(&[origin.address], "token_traverse on;");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    // Before anybody else, and while the stream is there.
    for _ in 0..2 {
        let mut stranger = edge.player("s?token=b").await;
        assert_eq!(stranger.refusal().await.code, code::PLAY_FAILED);
        let mut viewer = edge.player("s?token=a").await;
        assert_eq!(viewer.frame().await, keyframe(0));
    }
    // The token that the pull began with expires.
    *site.valid.lock().unwrap() = "?token=c";
    let mut viewer = edge.player("s?token=c").await;
    assert_eq!(viewer.frame().await, keyframe(0));
    let playing = |clients: Vec<Arc<rtmp_server::Client>>| {
        let mut playing = clients
            .into_iter()
            .filter(|client| client.activity().name() == "play");
        playing.next().map(|client| client.id)
    };
    until(|| origin.server.players_per_worker().iter().sum::<usize>() == 1).await;
    let pull = playing(origin.server.clients().list()).unwrap();
    assert!(origin.server.dismiss(pull));
    publisher.publish(&[keyframe(40)]).await;
    assert_eq!(viewer.frame().await, keyframe(40));
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_are_asked_and_told_with_the_fields_that_srs_sends() {
    let site = Site::default();
    let web = site.start().await;
    let hooks = format!(
        "http_hooks {{ enabled on; on_connect http://{web}/zero; on_publish http://{web}/object;
           on_play http://{web}/zero; on_stop http://{web}/zero; on_unpublish http://{web}/zero;
           on_close http://{web}/zero; }}"
    );
    let vhost = format!("vhost __defaultVhost__ {{ publish_normal_timeout 600000; {hooks} }}");
    let origin = TestServer::start(Role::Origin, &format!("server_id origin-7; {vhost}"));
    let mut publisher = origin.publisher("s?token=x").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = origin.player("s").await;
    player.frame().await;
    assert_eq!(
        site.actions(),
        ["on_connect", "on_publish", "on_connect", "on_play"]
    );
    drop(player);
    until(|| site.actions().len() == 6).await;
    drop(publisher);
    until(|| site.actions().len() == 8).await;
    let rest = site.actions().split_off(4);
    assert_eq!(rest, ["on_stop", "on_close", "on_unpublish", "on_close"]);

    let stream = origin.server.streams().pop().unwrap().id().to_string();
    let tc_url = format!("rtmp://{}/live", origin.address);
    for event in &*site.asked.lock().unwrap() {
        let action = event["action"].as_str().unwrap();
        let mut fields: Vec<_> = event.as_object().unwrap().keys().collect();
        fields.sort();
        let mut expected: Vec<_> = FIELDS.split(' ').chain(more_fields(action)).collect();
        expected.sort_unstable();
        assert_eq!(fields, expected, "{action}");
        let publishes = event["client_id"] == "1";
        let known = [
            ("vhost", "__defaultVhost__"),
            ("app", "live"),
            ("ip", "127.0.0.1"),
            ("client_id", if publishes { "1" } else { "2" }),
            ("tcUrl", &*tc_url),
            ("pageUrl", ""),
            ("stream", if action == "on_connect" { "" } else { "s" }),
            ("stream_url", "/live/s"),
            ("stream_id", &*stream),
            (
                "param",
                if publishes && action != "on_connect" {
                    "?token=x"
                } else {
                    ""
                },
            ),
        ];
        for (field, value) in known {
            if expected.contains(&field) {
                assert_eq!(event[field], value, "{field} of {action}");
            }
        }
        assert_eq!(event["server_id"], "origin-7", "{action}");
        let service = event["service_id"].as_str().unwrap();
        assert!(!service.is_empty(), "service_id of {action}");
        if action == "on_close" {
            assert!(event["send_bytes"].is_u64() && event["recv_bytes"].is_u64());
        }
    }
}

/// The fields of every event of SRS 6, and …
const FIELDS: &str = "server_id service_id action client_id ip vhost app";

/// … those that this one has beside them.
fn more_fields(action: &str) -> impl Iterator<Item = &'static str> {
    let fields = match action {
        "on_connect" => "stream param tcUrl pageUrl",
        "on_close" => "send_bytes recv_bytes",
        "on_play" => "stream param tcUrl stream_url stream_id pageUrl",
        "on_publish" | "on_unpublish" | "on_stop" => "stream param tcUrl stream_url stream_id",
        other => panic!("an unknown event: {other}"),
    };
    fields.split(' ')
}

#[tokio::test(flavor = "multi_thread")]
async fn an_applications_parameters_stand_in_for_a_streams() {
    let site = Site::default();
    let web = site.start().await;
    let origin = TestServer::origin(&format!(
        "http_hooks {{ enabled on; on_publish http://{web}/zero; on_play http://{web}/zero; }}"
    ));
    let tc_url = format!("rtmp://{}/live?token=x", origin.address);
    for (purpose, stream) in [
        (Purpose::Publish, "s"),
        (Purpose::Play, "s"),
        (Purpose::Play, "s?token=y"),
    ] {
        let config = ClientConfig::new(purpose, &tc_url, "live?token=x", stream);
        let mut client = Client::connect(origin.address, config).await;
        tokio::select! {
            () = client.closed() => panic!("the connection has ended"),
            () = until(|| !site.asked.lock().unwrap().is_empty()) => {}
        }
        let event = site.asked.lock().unwrap().remove(0);
        let expected = if stream == "s" {
            "?token=x"
        } else {
            "?token=y"
        };
        assert_eq!(event["param"], expected, "{event}");
        assert_eq!(event["tcUrl"], tc_url, "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_another_vhost_has_to_pass_its_on_connect() {
    let web = Site::default().start().await;
    let closed =
        format!("vhost closed {{ http_hooks {{ enabled on; on_connect http://{web}/one; }} }}");
    let origin = TestServer::start(
        Role::Origin,
        &format!("vhost __defaultVhost__ {{ }} {closed}"),
    );
    let mut player = origin.player("s?vhost=closed").await;
    assert_eq!(player.refusal().await.code, code::PLAY_FAILED);
    let config = publishing(origin.address, "s?vhost=closed");
    let mut publisher = Client::connect(origin.address, config).await;
    assert_eq!(publisher.refusal().await.code, code::PUBLISH_DENIED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_does_not_allow_it_refuses_it() {
    let web = Site::default().start().await;
    let gone = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    for hook in [
        format!("http://{web}/one"),
        format!("http://{web}/broken"),
        format!("http://{gone}/zero"),
    ] {
        let hooks = format!("http_hooks {{ enabled on; on_publish {hook}; on_play {hook}; }}");
        let origin = TestServer::origin(&hooks);
        let config = publishing(origin.address, "s");
        let mut publisher = Client::connect(origin.address, config).await;
        assert_eq!(
            publisher.refusal().await.code,
            code::PUBLISH_DENIED,
            "{hook}"
        );
        let mut player = origin.player("s").await;
        assert_eq!(player.refusal().await.code, code::PLAY_FAILED, "{hook}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_is_not_blamed_for_the_time_that_a_hook_takes() {
    let web = Site::default().start().await;
    let origin = TestServer::origin(&format!(
        "publish_1stpkt_timeout {SHORT_TIMEOUT_MS};
         http_hooks {{ enabled on; on_publish http://{web}/late; }}"
    ));
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    origin.arrived("s", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_waits_while_its_origin_asks_about_a_publisher() {
    let web = Site::default().start().await;
    let origin = TestServer::origin(&format!(
        "http_hooks {{ enabled on; on_publish http://{web}/late; }}"
    ));
    let patience = format!("origin_connect_timeout {SHORT_TIMEOUT_MS};");
    let edge = TestServer::edge(&[origin.address], &patience);
    let mut publisher = edge.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    origin.arrived("s", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_play_that_nonsense_follows_never_begins_and_the_hooks_hear_of_its_end() {
    keep_log();
    let site = Site::default();
    let web = site.start().await;
    let origin = TestServer::origin(&format!(
        "http_hooks {{ enabled on; on_play http://{web}/zero; on_stop http://{web}/zero;
           on_close http://{web}/zero; }}"
    ));
    let mut publishers = Vec::new();
    for stream in ["first", "never"] {
        let mut publisher = origin.publisher(stream).await;
        publisher.publish(&[keyframe(0)]).await;
        publishers.push(publisher);
    }
    let mut player = origin.player("first").await;
    let peer = player.socket.local_addr().unwrap().to_string();
    player.frame().await;
    let play = Command::new("play", 0.0, vec!["never".into()]);
    let mut bytes = Vec::new();
    encode_message(&play.to_message(1), 128, 3, &mut bytes);
    // Format 2 on a fresh chunk stream.
    bytes.extend([0x80 | 9, 0, 0, 0]);
    player.socket.write_all(&bytes).await.unwrap();
    player.closed().await;
    until(|| site.actions().len() == 5).await;
    let expected = ["on_play", "on_stop", "on_play", "on_stop", "on_close"];
    assert_eq!(site.actions(), expected);
    assert_eq!(origin.server.clients().count(), 2);
    let stream = origin.server.streams().pop().unwrap();
    assert_eq!((&*stream.key().stream, stream.players()), ("never", 0));
    let lines = log_lines(&format!("{peer}: "));
    assert!(
        !lines.iter().any(|line| line.contains("play live/never")),
        "a line that no other closes: {lines:?}"
    );
    assert_eq!(lines.len(), 3, "one play, and the connection: {lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn players_of_other_pages_are_refused() {
    let origin = TestServer::origin("refer_play example.com;");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let from = |page: &str| {
        let tc_url = format!("rtmp://{}/live", origin.address);
        let mut config = ClientConfig::new(Purpose::Play, &tc_url, "live", "s");
        config
            .connect_properties
            .push(("pageUrl".to_owned(), page.into()));
        Client::connect(origin.address, config)
    };
    let mut welcome = from("http://www.example.com/player").await;
    assert_eq!(welcome.frame().await, keyframe(0));
    let mut stranger = from("http://elsewhere.net/").await;
    assert_eq!(stranger.refusal().await.code, code::PLAY_FAILED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_that_was_let_in_is_told_of_again_though_nothing_came_of_it() {
    let site = Site::default();
    let web = site.start().await;
    let origin = TestServer::origin(&format!(
        "play_wait_timeout 0; http_hooks {{ enabled on; on_play http://{web}/zero;
           on_stop http://{web}/zero; on_close http://{web}/zero; }}"
    ));
    let mut waiting = origin.player("absent").await;
    assert_eq!(waiting.refusal().await.code, code::PLAY_STREAM_NOT_FOUND);
    waiting.closed().await;
    until(|| site.actions().len() == 3).await;
    assert_eq!(site.actions(), ["on_play", "on_stop", "on_close"]);
}
