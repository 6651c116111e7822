//! Which events hooks hear of, and in which order.

use std::collections::HashSet;

use rtmp_proto::session::ClientEvent;
use rtmp_proto::session::status::code;
use serde_json::Value;

use crate::hooks::Site;
use crate::support::{Client, TestServer, keyframe, publishing, until};

/// An origin that tells `site` of publishers, and asks its path `ask` about them.
async fn telling(site: &Site, ask: &str) -> TestServer {
    let web = site.start().await;
    TestServer::origin(&format!(
        "http_hooks {{ enabled on; on_publish http://{web}{ask}; on_unpublish http://{web}/zero;
           on_close http://{web}/zero; }}"
    ))
}

/// The events of the client that publishes or has published.
fn told_of(site: &Site, client: &Value) -> Vec<String> {
    let asked = site.asked.lock().unwrap();
    let of_client = asked.iter().filter(|event| event["client_id"] == *client);
    of_client
        .map(|event| event["action"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_hear_nothing_of_a_publisher_whose_stream_is_busy() {
    let site = Site::default();
    let origin = telling(&site, "/zero").await;
    let publisher = origin.publisher("s").await;
    let mut second = Client::connect(origin.address, publishing(origin.address, "s")).await;
    assert_eq!(second.refusal().await.code, code::PUBLISH_BAD_NAME);
    second.closed().await;
    until(|| site.actions().len() == 2).await;
    drop(publisher);
    until(|| site.actions().len() == 4).await;
    let expected = ["on_publish", "on_close", "on_unpublish", "on_close"];
    assert_eq!(site.actions(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_that_let_a_publisher_in_hear_that_the_origin_did_not() {
    let site = Site::default();
    let web = site.start().await;
    let origin = TestServer::origin("security { enabled on; deny publish all; }");
    let edge = TestServer::edge(
        &[origin.address],
        &format!(
            "http_hooks {{ enabled on; on_publish http://{web}/zero;
               on_unpublish http://{web}/zero; on_close http://{web}/zero; }}"
        ),
    );
    let mut publisher = Client::connect(edge.address, publishing(edge.address, "s")).await;
    publisher.refusal().await;
    publisher.closed().await;
    until(|| site.actions().contains(&"on_close".to_owned())).await;
    let expected = ["on_publish", "on_unpublish", "on_close"];
    assert_eq!(site.actions(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_publishers_that_are_decided_about_together_one_ends_for_the_hooks() {
    let site = Site::default();
    let origin = telling(&site, "/both").await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let config = publishing(origin.address, "s");
        let mut client = Client::connect(origin.address, config).await;
        assert_eq!(client.event().await, Some(ClientEvent::Connected));
        clients.push(tokio::spawn(async move {
            let answer = client.event().await;
            (client, answer)
        }));
    }
    let mut publishes = None;
    for client in clients {
        match client.await.unwrap() {
            (client, Some(ClientEvent::Publishing)) => publishes = Some(client),
            (mut client, Some(ClientEvent::Rejected(status))) => {
                assert_eq!(status.code, code::PUBLISH_BAD_NAME);
                client.closed().await;
            }
            (_, other) => panic!("{other:?}"),
        }
    }
    let publishes = publishes.expect("one of them publishes");
    until(|| site.actions().len() == 3).await;
    assert_eq!(site.actions()[2], "on_close", "of the one that was refused");
    drop(publishes);
    until(|| site.actions().len() == 5).await;
    assert_eq!(site.actions()[3..], ["on_unpublish", "on_close"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_another_has_replaced_does_not_end_the_show() {
    let site = Site::default();
    let origin = telling(&site, "/zero").await;
    let edge_site = Site::default();
    let edge_web = edge_site.start().await;
    let edge = TestServer::edge(
        &[origin.address],
        &format!(
            "publish_1stpkt_timeout 600000; http_hooks {{ enabled on;
               on_publish http://{edge_web}/zero; on_unpublish http://{edge_web}/zero;
               on_close http://{edge_web}/zero; }}"
        ),
    );
    // One publishes at the origin, one through an edge, and each is replaced.
    let mut replaced = vec![origin.publisher("s").await];
    for server in [&edge, &origin] {
        let next = server.replacing_publisher("s").await;
        replaced.last_mut().unwrap().closed().await;
        replaced.push(next);
    }
    let closed = |site: &Site| {
        let actions = site.actions();
        actions
            .iter()
            .filter(|action| *action == "on_close")
            .count()
    };
    let attempts = |site: &Site| {
        let asked = site.asked.lock().unwrap();
        let ids = asked.iter().filter_map(|event| event["client_id"].as_str());
        ids.collect::<HashSet<_>>().len()
    };
    // All but the one that publishes now have gone.
    until(|| origin.server.clients().count() == 1).await;
    until(|| closed(&site) + 1 == attempts(&site)).await;
    until(|| closed(&edge_site) == attempts(&edge_site)).await;
    for site in [&site, &edge_site] {
        let actions = site.actions();
        assert!(!actions.contains(&"on_unpublish".to_owned()), "{actions:?}");
    }
    drop(replaced);
    until(|| site.actions().contains(&"on_unpublish".to_owned())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_clients_events_arrive_in_the_order_in_which_they_happened() {
    const CLIENTS: usize = 40;
    let site = Site::default();
    let web = site.start().await;
    let hook = format!("http://{web}/slow_end");
    let origin = TestServer::origin(&format!(
        "http_hooks {{ enabled on; on_connect {hook}; on_publish {hook}; on_play {hook};
           on_stop {hook}; on_unpublish {hook}; on_close {hook}; }}"
    ));
    let mut clients = Vec::new();
    for number in 0..CLIENTS / 2 {
        let name = format!("s{number}");
        let mut publisher = origin.publisher(&name).await;
        publisher.publish(&[keyframe(0)]).await;
        let mut player = origin.player(&name).await;
        player.frame().await;
        clients.extend([player, publisher]);
    }
    drop(clients);
    until(|| site.actions().len() == 4 * CLIENTS).await;
    let mut by_client = HashSet::new();
    for event in &*site.asked.lock().unwrap() {
        by_client.insert(event["client_id"].clone());
    }
    assert_eq!(by_client.len(), CLIENTS);
    for client in &by_client {
        let told = told_of(&site, client);
        let expected = if told[1] == "on_play" {
            ["on_connect", "on_play", "on_stop", "on_close"]
        } else {
            ["on_connect", "on_publish", "on_unpublish", "on_close"]
        };
        assert_eq!(told, expected, "client {client}");
    }
}
