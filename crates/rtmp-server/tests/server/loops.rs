//! Edges whose origins lead back to them.

use netbed::local::free_address;
use rtmp_proto::session::status::code;
use rtmp_proto::session::{ClientConfig, Purpose};
use rtmp_server::config::Role;

use crate::support::{Client, TestServer, until};

/// Two edges, each the other's origin.
fn loop_of_edges(vhost: &str) -> [TestServer; 2] {
    let addresses = [free_address(), free_address()];
    [0, 1].map(|number| {
        let origin = addresses[1 - number];
        let text = format!("vhost __defaultVhost__ {{ mode remote; origin {origin}; {vhost} }}");
        TestServer::start_at(addresses[number], Role::Edge, &text)
    })
}

/// The status code and text that `edge` sends to a client of this purpose, and the
/// number of connections that it has had for it.
async fn outcome(edge: &TestServer, purpose: Purpose) -> (String, String, u64) {
    let tc_url = format!("rtmp://{}/live", edge.address);
    let config = ClientConfig::new(purpose, &tc_url, "live", "s?token=x");
    let mut client = Client::connect(edge.address, config.clone()).await;
    let status = client.refusal().await;
    drop(client);
    let clients = edge.server.clients();
    until(|| clients.count() == 0).await;
    let _next = Client::connect(edge.address, config).await;
    until(|| clients.count() > 0).await;
    let before = clients.list()[0].id - 1;
    (status.code.into_owned(), status.description, before)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_does_not_go_round_in_a_circle() {
    let [edge, _other] = loop_of_edges("");
    let (code, description, connections) = outcome(&edge, Purpose::Publish).await;
    assert_eq!(code, code::PUBLISH_DENIED);
    assert!(description.contains("lead back"), "{description}");
    assert_eq!(
        connections, 2,
        "the publisher's own, and the one that came back"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_the_question_who_may_play() {
    let [edge, _other] = loop_of_edges("token_traverse on;");
    let (code, description, connections) = outcome(&edge, Purpose::Play).await;
    assert_eq!(code, code::PLAY_FAILED);
    assert!(description.contains("lead back"), "{description}");
    assert_eq!(
        connections, 2,
        "the viewer's own, and the one that came back"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_in_a_circle_ends_with_the_players_wait() {
    let [edge, other] = loop_of_edges("play_wait_timeout 100;");
    let (code, ..) = outcome(&edge, Purpose::Play).await;
    assert_eq!(code, code::PLAY_STREAM_NOT_FOUND);
    for server in [edge, other] {
        until(|| server.server.clients().count() == 0).await;
    }
}
