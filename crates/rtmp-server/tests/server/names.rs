//! One URL is one stream, wherever a client cuts it, at origin and edge.

use std::sync::Arc;
use std::time::Duration;

use axum::handler::Handler;
use axum::routing::post;
use axum::{Json, Router};
use rtmp_proto::session::{ClientConfig, Purpose};
use rtmp_proto::wire::message::Command;
use serde_json::Value;
use socket2::SockRef;
use tokio::sync::Notify;

use crate::support::{Client, TestServer, keep_log, keyframe, log_lines, until, web_server};

/// A client of `running` that sends this as application and stream.
async fn client(running: &TestServer, purpose: Purpose, app: &str, stream: &str) -> Client {
    let tc_url = format!("rtmp://{}/{app}", running.address);
    let config = ClientConfig::new(purpose, &tc_url, app, stream);
    Client::connect(running.address, config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_cut_a_url_elsewhere_meet_at_origin_and_edge() {
    let origin = TestServer::origin("");
    let edge = TestServer::edge(&[origin.address], "");
    let cuts = [
        ("a/b/c", "d"),
        ("a/b", "c/d"),
        ("a/b/c/d", ""),
        ("a", "b/c/d"),
    ];
    for (app, stream) in cuts {
        let mut publisher = client(&edge, Purpose::Publish, app, stream).await;
        publisher.may_publish().await;
        publisher.publish(&[keyframe(0)]).await;
        // They stay, and the edge's pull with them.
        let mut players = Vec::new();
        for server in [&origin, &edge] {
            for (app, stream) in cuts {
                let mut player = client(server, Purpose::Play, app, stream).await;
                let frame = player.frame().await;
                assert_eq!(frame.payload, keyframe(0).payload, "{app} {stream}");
                players.push(player);
            }
        }
        let key = origin.server.streams()[0].key().clone();
        assert_eq!((key.app.as_str(), key.stream.as_str()), ("a/b/c", "d"));
        assert_eq!(origin.server.streams().len(), 1);
        assert_eq!(edge.server.streams().len(), 1);
        drop(publisher);
        until(|| !origin.server.streams()[0].is_published()).await;
    }
}

/// The lines about the connection of `client` with "refused" in them.
fn refusals(client: &str) -> Vec<String> {
    let mut lines = log_lines(client);
    lines.retain(|line| line.contains("refused: "));
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_name_is_refused_in_the_log_too() {
    keep_log();
    let origin = TestServer::origin("");
    for (purpose, code) in [
        (Purpose::Publish, "NetStream.Publish.BadName"),
        (Purpose::Play, "NetStream.Play.Failed"),
    ] {
        let mut client = client(&origin, purpose, "live", "").await;
        let peer = client.socket.local_addr().unwrap().to_string();
        assert_eq!(client.refusal().await.code, code);
        until(|| refusals(&peer).len() == 1).await;
        let line = &refusals(&peer)[0];
        let expected = format!("{code} (the stream has no name)");
        assert!(line.ends_with(&expected), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_beside_a_publish_is_in_the_log_and_cannot_fill_it() {
    keep_log();
    let origin = TestServer::origin("");
    let mut publisher = origin.publisher("s").await;
    let peer = publisher.socket.local_addr().unwrap().to_string();
    const ASKED: usize = 200;
    for _ in 0..ASKED {
        let play = Command::new("play", 0.0, vec!["t".into()]);
        publisher.send(&play.to_message(2)).await;
    }
    publisher.publish(&[keyframe(0)]).await;
    origin.arrived("s", 1).await;
    let lines = refusals(&peer);
    assert!(
        lines[0].ends_with("(this connection publishes a stream already)"),
        "{lines:?}"
    );
    assert!(lines.len() < ASKED / 2, "{} lines", lines.len());
}

/// The URL of a web server with this one answer.
async fn hook<H: Handler<T, ()>, T: 'static>(answer: H) -> String {
    let address = web_server(Router::new().route("/", post(answer))).await;
    format!("http://{address}/")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reason_of_a_refusal_is_in_the_log_though_the_client_has_gone() {
    keep_log();
    let (asking, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, awaited) = (asking.clone(), gone.clone());
    let url = hook(async move || {
        told.notify_one();
        awaited.notified().await;
        "1"
    })
    .await;
    let origin = TestServer::origin(&format!("http_hooks {{ enabled on; on_publish {url}; }}"));
    let mut client = client(&origin, Purpose::Publish, "live", "s").await;
    let peer = client.socket.local_addr().unwrap().to_string();
    tokio::select! {
        () = asking.notified() => {}
        () = client.closed() => panic!("closed"),
    }
    // Reset, and not closed: what is written to it from now on fails.
    SockRef::from(&client.socket)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    gone.notify_one();
    let clients = origin.server.clients();
    until(|| clients.count() == 0).await;
    let lines = refusals(&peer);
    assert_eq!(lines.len(), 1, "{:?}", log_lines(&peer));
    assert!(
        lines[0].contains("NetStream.Publish.Denied (not allowed)"),
        "{lines:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_call_a_stream_by_its_one_name() {
    let (told, mut asked) = tokio::sync::mpsc::unbounded_channel::<Value>();
    let answer = move |Json(event): Json<Value>| {
        told.send(event).unwrap();
        async { "0" }
    };
    let url = hook(answer).await;
    let hooks = format!("http_hooks {{ enabled on; on_publish {url}; on_play {url}; }}");
    let origin = TestServer::origin(&hooks);
    for (purpose, app, name, param) in [
        (Purpose::Publish, "live/room/key?token=x", "", "?token=x"),
        (Purpose::Play, "live", "room/key?token=y", "?token=y"),
        (Purpose::Play, "live?token=z", "room/key", "?token=z"),
        (Purpose::Play, "live/_definst_/room/key", "", ""),
    ] {
        let mut client = client(&origin, purpose, app, name).await;
        let event = tokio::select! {
            event = asked.recv() => event.unwrap(),
            () = client.closed() => panic!("{app} {name}: closed"),
        };
        let found = ["app", "stream", "param"].map(|it| event[it].as_str().unwrap());
        assert_eq!(found, ["live/room", "key", param], "{app} {name}");
    }
}
