//! `signed_urls`: who may publish and play by the signature of a URL.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use rtmp_proto::session::Purpose;
use rtmp_proto::session::status::code;
use rtmp_server::config::Role;
use signed_url::{Hash, Key, Policy, Request, Scheme};

use crate::flv_client::FlvClient;
use crate::support::{TestServer, keyframe, picture};

/// A configuration with these keys for players, and one for publishers.
fn configuration(play_keys: &str) -> String {
    format!(
        "http_server {{ enabled on; }}
         vhost __defaultVhost__ {{
             min_latency on; publish_normal_timeout 600000; http_remux {{ enabled on; }}
             signed_urls {{
                 enabled on;
                 play {{ scheme aliyun; {play_keys} }}
                 publish {{ scheme tencent; key only publishing; }}
             }}
         }}"
    )
}

/// The query that signs `uri`, for an hour from `from_now` seconds on.
fn signed(scheme: Scheme, secret: &str, uri: &str, from_now: i64) -> String {
    let key = Key {
        name: "test".to_owned(),
        secret: secret.to_owned(),
    };
    let request = Request {
        uri,
        app: "live",
        stream: "s",
        query: "",
        remote_addr: IpAddr::from([127, 0, 0, 1]),
    };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let expires = now.checked_add_signed(from_now + 3_600).unwrap();
    Policy::new(scheme, vec![key])
        .sign(&request, expires, 7)
        .unwrap()
}

fn play(secret: &str, uri: &str) -> String {
    signed(Scheme::aliyun(), secret, uri, 0)
}

fn publish() -> String {
    signed(Scheme::tencent(Hash::Md5), "publishing", "/live/s", 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn rtmp_clients_need_a_signature_for_what_they_do() {
    let server = TestServer::start(Role::Origin, &configuration("key a one; key b two;"));
    let forged = signed(Scheme::tencent(Hash::Md5), "guess", "/live/s", 0);
    let expired = signed(Scheme::tencent(Hash::Md5), "publishing", "/live/s", -7_200);
    for (name, reason) in [
        ("s".to_owned(), "is not signed"),
        (format!("s?{forged}"), "does not fit"),
        (format!("s?{expired}"), "has expired"),
        (format!("other?{}", publish()), "does not fit"),
        (format!("s?{}", play("one", "/live/s")), "is not signed"),
    ] {
        let refusal = server.refused(Purpose::Publish, &name).await;
        assert_eq!(refusal.code, code::PUBLISH_DENIED, "{name}");
        assert!(refusal.description.contains(reason), "{name}: {refusal}");
    }
    let mut publisher = server.publisher(&format!("s?{}", publish())).await;
    publisher.publish(&[keyframe(0)]).await;
    for (name, reason) in [
        ("s".to_owned(), "is not signed"),
        (format!("s?{}", play("three", "/live/s")), "does not fit"),
        (format!("s?{}", play("one", "/live/s.flv")), "does not fit"),
        (format!("s?{}", publish()), "is not signed"),
    ] {
        let refusal = server.refused(Purpose::Play, &name).await;
        assert_eq!(refusal.code, code::PLAY_FAILED, "{name}");
        assert!(refusal.description.contains(reason), "{name}: {refusal}");
    }
    for secret in ["one", "two"] {
        let name = format!("s?{}", play(secret, "/live/s"));
        let mut player = server.player(&name).await;
        assert_eq!(player.frame().await, keyframe(0), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_players_need_a_signature_of_their_path() {
    let server = TestServer::start(Role::Origin, &configuration("key a one;"));
    let http = server.http.unwrap();
    let mut publisher = server.publisher(&format!("s?{}", publish())).await;
    publisher.publish(&[keyframe(0)]).await;
    for (query, reason) in [
        (String::new(), "is not signed"),
        (play("one", "/live/s"), "does not fit"),
        (
            signed(Scheme::aliyun(), "one", "/live/s.flv", -7_200),
            "has expired",
        ),
    ] {
        let mut client = FlvClient::asking(http, &format!("GET /live/s.flv?{query}"), "").await;
        let answer = client.answer().await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{query}: {answer}");
        assert!(answer.contains(reason), "{query}: {answer}");
    }
    let path = format!("/live/s.flv?{}", play("one", "/live/s.flv"));
    FlvClient::playing(http, &path).await;
    FlvClient::playing_websocket(http, &path).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_taken_away_ends_nobody_who_plays() {
    let server = TestServer::start(Role::Origin, &configuration("key a one;"));
    let mut publisher = server.publisher(&format!("s?{}", publish())).await;
    publisher.publish(&[keyframe(0)]).await;
    let name = format!("s?{}", play("one", "/live/s"));
    let mut player = server.player(&name).await;
    assert_eq!(player.frame().await, keyframe(0));
    server.reload(&configuration("key b two;"));
    server.refused(Purpose::Play, &name).await;
    publisher.publish(&[picture(40)]).await;
    assert_eq!(player.frame().await, picture(40));
}
