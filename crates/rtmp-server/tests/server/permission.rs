//! Edges that ask their origins about each viewer (`token_traverse`).

use rtmp_proto::session::status::code;

use crate::support::{TestServer, keyframe, until};

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_lets_viewers_wait_does_not_hold_up_the_next() {
    let empty = TestServer::origin("play_wait_timeout 600000;");
    let full = TestServer::origin("");
    let origins = [empty.address, full.address];
    let edge = TestServer::edge(&origins, "token_traverse on; origin_read_timeout 600000;");
    let mut publisher = full.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut viewer = edge.player("s").await;
    assert_eq!(viewer.frame().await, keyframe(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_who_waits_hears_from_the_first_origin_that_gets_the_stream() {
    let (first, second) = (
        TestServer::origin("play_wait_timeout 600000;"),
        TestServer::origin("play_wait_timeout 600000;"),
    );
    let origins = [first.address, second.address];
    let edge = TestServer::edge(&origins, "token_traverse on; origin_read_timeout 600000;");
    let mut viewer = edge.player("s").await;
    let coming = async {
        until(|| second.server.clients().count() == 1).await;
        let mut publisher = first.publisher("s").await;
        publisher.publish(&[keyframe(0)]).await;
        publisher
    };
    let (frame, _publisher) = tokio::join!(viewer.frame(), coming);
    assert_eq!(frame, keyframe(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_of_a_stream_that_nobody_publishes_is_told_so() {
    for (wait, patience) in [("0", "600000"), ("600000", "500")] {
        let origin = TestServer::origin(&format!("play_wait_timeout {wait};"));
        let edge = TestServer::edge(
            &[origin.address],
            &format!("token_traverse on; origin_read_timeout {patience};"),
        );
        let mut viewer = edge.player("absent").await;
        let refusal = viewer.refusal().await;
        assert_eq!(refusal.code, code::PLAY_STREAM_NOT_FOUND, "{refusal}");
    }
}
