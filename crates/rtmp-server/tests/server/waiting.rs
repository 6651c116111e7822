//! Viewers of a stream whose publisher is there and has sent nothing yet.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use rtmp_proto::session::ClientEvent;
use rtmp_proto::session::status::code;
use rtmp_proto::wire::Message;
use rtmp_server::StreamState;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::support::{Client, TestServer, keyframe, publishing, until, web_server};

/// The state of the only stream.
fn state(server: &TestServer) -> Option<StreamState> {
    let stream = server.server.streams().pop()?;
    Some(*stream.state().borrow())
}

fn has_publisher(server: &TestServer) -> bool {
    state(server).is_some_and(|state| state.has_publisher())
}

/// Returns true if `count` clients wait for a stream.
fn waiting(server: &TestServer, count: usize) -> bool {
    let clients = server.server.clients().list();
    let waits = clients
        .iter()
        .filter(|client| client.activity().name() == "wait");
    waits.count() == count
}

/// The first frame of a player of the stream. A task of its own reads it, since the
/// player sends its requests only while it is read.
fn frame_at(server: &TestServer, stream: &'static str) -> JoinHandle<Message> {
    let player = server.player(stream);
    tokio::spawn(async move { player.await.frame().await })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_without_patience_waits_for_a_publisher_that_is_there() {
    let origin = TestServer::origin("play_wait_timeout 0;");
    let mut publisher = origin.publisher("s").await;
    let viewer = frame_at(&origin, "s");
    until(|| waiting(&origin, 1)).await;
    publisher.publish(&[keyframe(0)]).await;
    assert_eq!(viewer.await.unwrap(), keyframe(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_whose_publisher_goes_without_a_picture_is_told() {
    let origin = TestServer::origin("play_wait_timeout 0;");
    let publisher = origin.publisher("s").await;
    let player = origin.player("s");
    let refusal = tokio::spawn(async move { player.await.refusal().await });
    until(|| waiting(&origin, 1)).await;
    drop(publisher);
    let refusal = refusal.await.unwrap();
    assert_eq!(refusal.code, code::PLAY_STREAM_NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_waits_on_when_another_takes_a_silent_publishers_place() {
    let origin = TestServer::origin("play_wait_timeout 0;");
    let mut silent = origin.publisher("s").await;
    let viewer = frame_at(&origin, "s");
    until(|| waiting(&origin, 1)).await;
    // As soon as the first has been silent for long enough.
    let mut next = origin.replacing_publisher("s").await;
    silent.closed().await;
    next.publish(&[keyframe(0)]).await;
    assert_eq!(viewer.await.unwrap(), keyframe(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn edges_learn_from_their_origin_that_a_publisher_is_there_and_that_it_goes() {
    let origin = TestServer::origin("");
    let middle = TestServer::edge(&[origin.address], "");
    let last = TestServer::edge(&[middle.address], "");
    let edges = [&middle, &last];
    let viewers = [frame_at(&last, "s"), frame_at(&middle, "s")];
    until(|| waiting(&last, 1) && waiting(&middle, 2)).await;
    assert!(!edges.iter().any(|edge| has_publisher(edge)));
    let publisher = origin.publisher("s").await;
    until(|| edges.iter().all(|edge| has_publisher(edge))).await;
    drop(publisher);
    until(|| !edges.iter().any(|edge| has_publisher(edge))).await;
    let mut publisher = origin.publisher("s").await;
    until(|| edges.iter().all(|edge| has_publisher(edge))).await;
    publisher.publish(&[keyframe(0)]).await;
    for viewer in viewers {
        assert_eq!(viewer.await.unwrap(), keyframe(0));
    }
    // It is there itself now. The pull lets go of its announcement beside the pictures.
    let expected = |edge| state(edge).map(|state| state.expected);
    until(|| edges.map(expected) == [Some(0); 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_with_a_silent_publisher_lets_viewers_of_an_asking_edge_wait() {
    let origin = TestServer::origin("");
    let edge = TestServer::edge(&[origin.address], "token_traverse on;");
    let mut publisher = origin.publisher("s").await;
    let viewer = frame_at(&edge, "s?token=x");
    until(|| waiting(&edge, 1)).await;
    publisher.publish(&[keyframe(0)]).await;
    assert_eq!(viewer.await.unwrap(), keyframe(0));
}

/// A web server whose answer has to be waited for.
#[derive(Clone, Default)]
struct Gate {
    asked: Arc<Mutex<usize>>,
    open: Arc<Notify>,
}

impl Gate {
    async fn start(&self) -> String {
        let router = Router::new().route("/", post(Self::answer));
        let router = router.with_state(self.clone());
        format!("http://{}/", web_server(router).await)
    }

    async fn answer(State(gate): State<Self>) -> &'static str {
        *gate.asked.lock().unwrap() += 1;
        gate.open.notified().await;
        "0"
    }

    async fn has_been_asked(&self) {
        until(|| *self.asked.lock().unwrap() > 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_waits_while_a_hook_decides_about_the_publisher() {
    let gate = Gate::default();
    let hook = gate.start().await;
    let hooks = format!("play_wait_timeout 0; http_hooks {{ enabled on; on_publish {hook}; }}");
    let origin = TestServer::origin(&hooks);
    let config = publishing(origin.address, "s");
    let mut publisher = Client::connect(origin.address, config).await;
    assert_eq!(publisher.event().await, Some(ClientEvent::Connected));
    let asking = tokio::spawn(async move {
        assert_eq!(publisher.event().await, Some(ClientEvent::Publishing));
        publisher
    });
    gate.has_been_asked().await;
    let viewer = frame_at(&origin, "s");
    until(|| waiting(&origin, 1)).await;
    gate.open.notify_one();
    let mut publisher = asking.await.unwrap();
    publisher.publish(&[keyframe(0)]).await;
    assert_eq!(viewer.await.unwrap(), keyframe(0));
}
