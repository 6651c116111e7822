//! HTTP-FLV and WebSocket-FLV at origins and edges.

mod requests;
mod websocket;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::post;
use rtmp_proto::wire::{Message, MessageType};
use rtmp_server::config::Role;
use serde_json::Value;
use tokio::sync::Notify;

use crate::flv_client::{FlvClient, Tag};
use crate::support::{TestServer, headers, keyframe, message, picture, sound, until, web_server};

/// An origin that serves HTTP-FLV, with these directives in its vhost and outside of it.
fn origin(vhost: &str, globals: &str) -> (TestServer, SocketAddr) {
    serve(Role::Origin, vhost, globals)
}

fn edge(origin: &TestServer, vhost: &str) -> (TestServer, SocketAddr) {
    let remote = format!("mode remote; origin {};", origin.address);
    serve(Role::Edge, &format!("{remote} {vhost}"), "")
}

fn serve(role: Role, vhost: &str, globals: &str) -> (TestServer, SocketAddr) {
    let remux = match vhost.contains("http_remux") {
        true => "",
        false => "http_remux { enabled on; }",
    };
    let text = format!(
        "http_server {{ enabled on; }} {globals} \
         vhost __defaultVhost__ {{ min_latency on; publish_normal_timeout 600000; {remux} {vhost} }}"
    );
    let server = TestServer::start(role, &text);
    let http = server.http.unwrap();
    (server, http)
}

/// The tag that a message becomes, as of `timestamp`.
fn tag(message: &Message, timestamp: u32) -> Tag {
    Tag {
        kind: message.message_type.0,
        timestamp,
        payload: message.payload.to_vec(),
    }
}

/// The status of the answer to a request.
async fn status(http: SocketAddr, line: &str, fields: &str) -> String {
    let mut client = FlvClient::asking(http, line, fields).await;
    let answer = client.answer().await;
    assert!(answer.contains("Connection: close\r\n"), "{answer}");
    answer.split(' ').nth(1).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_gets_metadata_headers_the_newest_group_and_what_follows() {
    let (origin, http) = origin("", "");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&headers()).await;
    let group = [keyframe(80), picture(120), sound(125)];
    publisher.publish(&[keyframe(40), sound(45)]).await;
    publisher.publish(&group).await;
    origin.arrived("s", 8).await;
    let (mut player, flags) = FlvClient::playing(http, "/live/s.flv").await;
    assert_eq!(flags, 5);
    let [_, video, audio] = &headers()[..] else {
        unreachable!()
    };
    let metadata = message(MessageType::DATA_AMF0, 0, b"\x02\0\x0aonMetaData\x05");
    let expected = [(&metadata, 0), (video, 80), (audio, 80)];
    for (message, timestamp) in expected {
        assert_eq!(player.tag().await, tag(message, timestamp));
    }
    for message in &group {
        assert_eq!(player.tag().await, tag(message, message.timestamp));
    }
    let news = [picture(160), sound(165), keyframe(0x0100_0000)];
    publisher.publish(&news[..2]).await;
    for message in &news[..2] {
        assert_eq!(player.tag().await, tag(message, message.timestamp));
    }
    // Who comes later reads the same log.
    let (mut second, _) = FlvClient::playing(http, "/live/s.flv").await;
    let kinds = second.tags(8).await;
    assert_eq!(
        kinds[3..],
        [
            (9, 80, 0x17),
            (9, 120, 0x27),
            (8, 125, 0xaf),
            (9, 160, 0x27),
            (8, 165, 0xaf)
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn enhanced_flv_and_long_payloads_pass_through_as_they_are() {
    let (origin, http) = origin("chunk_size 128;", "");
    let mut publisher = origin.publisher("s").await;
    let mut hevc = vec![0x91, b'h', b'v', b'c', b'1'];
    hevc.extend((0..=255).cycle().take(300_000));
    let frame = message(MessageType::VIDEO, 0, &hevc);
    publisher.publish(std::slice::from_ref(&frame)).await;
    let (mut player, flags) = FlvClient::playing(http, "/live/s.flv").await;
    assert_eq!(flags, 1);
    assert_eq!(player.tag().await, tag(&frame, 0));
    let (mut socket, _) = FlvClient::playing_websocket(http, "/live/s.flv").await;
    assert_eq!(socket.tag().await, tag(&frame, 0));
    hevc[0] = 0xa1;
    let next = message(MessageType::VIDEO, 40, &hevc);
    publisher.publish(std::slice::from_ref(&next)).await;
    assert_eq!(player.tag().await, tag(&next, 40));
    assert_eq!(socket.tag().await, tag(&next, 40));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_header_announces_what_the_stream_has() {
    let (origin, http) = origin("", "");
    let mut publisher = origin.publisher("sound").await;
    publisher.publish(&[sound(0)]).await;
    let (mut player, flags) = FlvClient::playing(http, "/live/sound.flv").await;
    assert_eq!(flags, 4);
    assert_eq!(player.tag().await, tag(&sound(0), 0));
    let (origin, http) = self::origin("http_remux { enabled on; has_audio off; }", "");
    let mut publisher = origin.publisher("s").await;
    publisher
        .publish(&[keyframe(0), sound(10), picture(40)])
        .await;
    origin.arrived("s", 3).await;
    let (mut player, flags) = FlvClient::playing(http, "/live/s.flv").await;
    assert_eq!(flags, 1);
    assert_eq!(player.tags(2).await, [(9, 0, 0x17), (9, 40, 0x27)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_track_that_is_denied_no_header_is_sent() {
    for (denied, flags, kinds) in [
        ("has_audio", 1, [18, 9, 9, 9, 9, 9]),
        ("has_video", 4, [18, 8, 8, 8, 8, 8]),
    ] {
        let (origin, http) = origin(&format!("http_remux {{ enabled on; {denied} off; }}"), "");
        let mut publisher = origin.publisher("s").await;
        publisher.publish(&headers()).await;
        publisher.publish(&[keyframe(0), sound(10)]).await;
        origin.arrived("s", 5).await;
        let (mut player, announced) = FlvClient::playing(http, "/live/s.flv").await;
        assert_eq!(announced, flags);
        let mut tags = player.tags(3).await;
        // Headers that come later, too: with other bytes, which are not left out.
        let mut changed = headers().split_off(1);
        for header in &mut changed {
            let mut payload = header.payload.to_vec();
            payload.push(9);
            header.payload = payload.into();
        }
        publisher.publish(&changed).await;
        publisher
            .publish(&[keyframe(40), sound(50), picture(80), sound(90)])
            .await;
        tags.extend(player.tags(3).await);
        let received: Vec<_> = tags.iter().map(|tag| tag.0).collect();
        assert_eq!(received, kinds, "{denied} off");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_is_there_when_its_publisher_returns_on_one_timeline() {
    let (origin, http) = origin("publish_return_timeout 60000;", "");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(1_000)]).await;
    let (mut player, _) = FlvClient::playing(http, "/live/s.flv").await;
    assert_eq!(player.tags(1).await, [(9, 1_000, 0x17)]);
    drop(publisher);
    let mut publisher = origin.replacing_publisher("s").await;
    publisher.publish(&headers()).await;
    publisher.publish(&[keyframe(0), picture(40)]).await;
    let tags = player.tags(5).await;
    let kinds: Vec<_> = tags.iter().map(|tag| tag.0).collect();
    assert_eq!(kinds, [18, 9, 8, 9, 9]);
    assert!(tags[3].1 >= 1_040, "{tags:?}");
    assert_eq!(tags[4].1, tags[3].1 + 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_waits_for_its_stream() {
    let (origin, http) = origin("play_wait_timeout 60000;", "");
    let mut player = FlvClient::asking(http, "GET /live/s.flv?x=y", "").await;
    until(|| origin.server.streams().len() == 1).await;
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let head = player.head().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_connection() {
    let (origin, http) = origin("publish_return_timeout 0;", "");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let (mut player, _) = FlvClient::playing(http, "/live/s.flv").await;
    let (mut socket, _) = FlvClient::playing_websocket(http, "/live/s.flv").await;
    drop(publisher);
    player.closed().await;
    socket.closed().await;
    assert_eq!(socket.close_code, Some(1_000));
    until(|| origin.server.clients().count() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_decide_about_players_and_hear_of_their_end() {
    let told: Arc<Mutex<Vec<Value>>> = Arc::default();
    let record = told.clone();
    let hook = post(move |body: String| async move {
        let body: Value = serde_json::from_str(&body).unwrap();
        let forbidden = body["stream"] == "forbidden";
        record.lock().unwrap().push(body);
        if forbidden { "1" } else { "0" }
    });
    let web = web_server(Router::new().route("/", hook)).await;
    let hooks =
        format!("http_hooks {{ enabled on; on_play http://{web}/; on_stop http://{web}/; }}");
    let (origin, http) = origin(&hooks, "");
    assert_eq!(
        status(http, "GET /live/forbidden.flv?token=x", "").await,
        "403"
    );
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let (player, _) = FlvClient::playing(http, "/live/s.flv?token=y").await;
    drop(player);
    until(|| told.lock().unwrap().len() == 3).await;
    let told = told.lock().unwrap();
    let field = |name: &str| {
        told.iter()
            .map(|body| body[name].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(field("action"), ["on_play", "on_play", "on_stop"]);
    assert_eq!(field("stream"), ["forbidden", "s", "s"]);
    assert_eq!(field("param"), ["?token=x", "?token=y", "?token=y"]);
    assert_eq!(field("app"), ["live", "live", "live"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_pulls_at_the_request() {
    let (origin, _) = origin("", "");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&headers()).await;
    publisher.publish(&[keyframe(40), picture(80)]).await;
    origin.arrived("s", 5).await;
    let (edge, http) = edge(&origin, "");
    let (mut player, flags) = FlvClient::playing(http, "/live/s.flv").await;
    assert_eq!(flags, 5);
    let tags = player.tags(5).await;
    assert_eq!(tags[3..], [(9, 40, 0x17), (9, 80, 0x27)]);
    publisher.publish(&[picture(120)]).await;
    assert_eq!(player.tags(1).await, [(9, 120, 0x27)]);
    // RTMP viewers share the pull.
    let mut viewer = edge.player("s").await;
    assert_eq!(viewer.frame().await, keyframe(40));
    assert_eq!(origin.server.clients().count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_passes_tokens_lets_the_origin_decide() {
    let hook = post(|body: String| async move {
        let body: Value = serde_json::from_str(&body).unwrap();
        if body["param"] == "?token=good" {
            "0"
        } else {
            "1"
        }
    });
    let web = web_server(Router::new().route("/", hook)).await;
    let hooks = format!("http_hooks {{ enabled on; on_play http://{web}/; }}");
    let (origin, _) = origin(&hooks, "");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let (_edge, http) = edge(&origin, "token_traverse on;");
    let refused = status(http, "GET /live/s.flv?token=bad", "").await;
    assert_eq!(refused, "403");
    let (mut player, _) = FlvClient::playing(http, "/live/s.flv?token=good").await;
    assert_eq!(player.tags(1).await, [(9, 0, 0x17)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_whose_origin_has_no_such_stream_says_so() {
    let (origin, _) = origin("play_wait_timeout 100;", "");
    let (edge, http) = edge(&origin, "play_wait_timeout 100;");
    assert_eq!(status(http, "GET /live/none.flv", "").await, "404");
    until(|| edge.server.clients().count() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_players_and_ends_them() {
    let (origin, http) = origin("", "");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let (mut player, _) = FlvClient::playing(http, "/live/s.flv").await;
    let (mut socket, _) = FlvClient::playing_websocket(http, "/live/s.flv").await;
    player.tag().await;
    socket.tag().await;
    let clients = origin.server.clients().list();
    let playing: Vec<_> = clients
        .iter()
        .filter(|client| client.activity().name() == "play")
        .collect();
    assert_eq!(playing.len(), 2);
    assert_eq!(origin.server.streams()[0].players(), 2);
    for client in playing {
        assert!(origin.server.dismiss(client.id));
    }
    player.closed().await;
    socket.closed().await;
    assert_eq!(socket.close_code, Some(1_001));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_being_closed_wants_no_stream_any_more() {
    let (origin, http) = origin("", "");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let (mut player, _) = FlvClient::playing(http, "/live/s.flv").await;
    player.tag().await;
    let clients = origin.server.clients().list();
    let client = clients
        .into_iter()
        .find(|it| it.activity().name() == "play");
    let client = client.unwrap();
    let subscriptions = origin.server.streams()[0].subscriptions();
    assert_eq!(*subscriptions.borrow(), 1);
    assert!(origin.server.dismiss(client.id));
    // The client does not close its side.
    until(|| client.activity().name() == "idle").await;
    assert_eq!(*subscriptions.borrow(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_dismissed_while_a_hook_is_asked_does_not_play() {
    let asked = Arc::new(Notify::new());
    let answer = Arc::new(Notify::new());
    let (asking, answering) = (asked.clone(), answer.clone());
    let hook = post(move || async move {
        asking.notify_one();
        answering.notified().await;
        "0"
    });
    let web = web_server(Router::new().route("/", hook)).await;
    let hooks = format!("http_hooks {{ enabled on; on_play http://{web}/; }}");
    let (origin, http) = origin(&hooks, "");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    origin.arrived("s", 1).await;
    let mut player = FlvClient::asking(http, "GET /live/s.flv", "").await;
    asked.notified().await;
    let clients = origin.server.clients().list();
    let client = clients.last().unwrap();
    assert!(origin.server.dismiss(client.id));
    answer.notify_one();
    let head = player.head().await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
}
