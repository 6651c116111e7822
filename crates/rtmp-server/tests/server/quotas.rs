//! `quota` and `max_connections_per_address`.

use rtmp_proto::session::Purpose;
use rtmp_proto::session::status::code;
use rtmp_server::config::Role;

use crate::flv_client::FlvClient;
use crate::support::{TestServer, keyframe, until};

fn origin(quota: &str, globals: &str) -> TestServer {
    let text = format!(
        "http_server {{ enabled on; }} {globals}
         vhost __defaultVhost__ {{
             min_latency on; publish_normal_timeout 600000; http_remux {{ enabled on; }}
             quota {{ {quota} }}
         }}"
    );
    TestServer::start(Role::Origin, &text)
}

/// Waits until the server has this number of connections.
async fn has_clients(server: &TestServer, count: usize) {
    until(|| server.server.clients().count() == count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn players_of_both_protocols_share_a_quota_and_give_it_back() {
    let server = origin("players 2;", "");
    let http = server.http.unwrap();
    let mut publisher = server.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut rtmp = server.player("s").await;
    assert_eq!(rtmp.frame().await, keyframe(0));
    let (flv, _) = FlvClient::playing(http, "/live/s.flv").await;
    let refusal = server.refused(Purpose::Play, "s").await;
    assert_eq!(refusal.code, code::PLAY_FAILED);
    assert!(
        refusal.description.contains("has its 2 players"),
        "{refusal}"
    );
    let mut refused = FlvClient::asking(http, "GET /live/s.flv", "").await;
    let answer = refused.answer().await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    // The quota of players is not that of publishers.
    let _other = server.publisher("t").await;
    drop((flv, refused));
    has_clients(&server, 3).await;
    let _flv = FlvClient::playing(http, "/live/s.flv").await;
    drop(rtmp);
    has_clients(&server, 3).await;
    let mut rtmp = server.player("s").await;
    assert_eq!(rtmp.frame().await, keyframe(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_beyond_the_quota_is_refused_until_another_ends() {
    let server = origin("application live { publishers 1; }", "");
    let publisher = server.publisher("s").await;
    let refusal = server.refused(Purpose::Publish, "t").await;
    assert_eq!(refusal.code, code::PUBLISH_DENIED);
    let expected = "the application live has its 1 publishers already";
    assert!(refusal.description.contains(expected), "{refusal}");
    drop(publisher);
    has_clients(&server, 0).await;
    server.publisher("t").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_as_many_players_as_it_may() {
    let server = origin("players_per_address 1;", "");
    let http = server.http.unwrap();
    let mut publisher = server.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let (_flv, _) = FlvClient::playing(http, "/live/s.flv").await;
    let mut refused = FlvClient::asking(http, "GET /live/s.flv", "").await;
    let answer = refused.answer().await;
    assert!(
        answer.starts_with("HTTP/1.1 429 Too Many Requests\r\n"),
        "{answer}"
    );
    assert!(
        answer.contains("this address has its 1 players"),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_as_many_connections_as_it_may() {
    let server = origin("", "max_connections_per_address 1;");
    let publisher = server.publisher("s").await;
    let mut refused = FlvClient::asking(server.http.unwrap(), "GET /live/s.flv", "").await;
    let answer = refused.answer().await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    drop(publisher);
    has_clients(&server, 0).await;
    server.publisher("s").await;
}
