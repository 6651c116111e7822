//! Peers that say nothing.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use netbed::TIME_LIMIT;
use rtmp_proto::session::status::code;
use rtmp_proto::wire::amf0::Value;
use rtmp_proto::wire::chunk::encode_message;
use rtmp_proto::wire::message::Command;
use rtmp_server::config::Role;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{TestServer, keyframe, until};

/// Keeps publishers that say nothing.
const PATIENT: &str = "publish_normal_timeout 600000;";

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_does_not_come_to_an_end_is_given_up() {
    let origin = TestServer::origin("");
    let mut silent = TcpStream::connect(origin.address).await.unwrap();
    let mut slow = TcpStream::connect(origin.address).await.unwrap();
    // A byte now and then does not buy it time: at most 5 s in all.
    let dribbling = async {
        slow.write_all(&[3]).await.unwrap();
        while slow.write_all(&[0]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let dribbled = tokio::time::timeout(TIME_LIMIT, dribbling).await;
    assert!(dribbled.is_ok(), "the slow one is still there");
    let mut rest = Vec::new();
    let read = tokio::time::timeout(TIME_LIMIT, silent.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "the silent one is still there");
    until(|| origin.server.clients().count() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_does_not_answer_is_given_up_for_the_next() {
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = TestServer::origin(PATIENT);
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let origins = [mute.local_addr().unwrap(), origin.address];
    let edge = TestServer::edge(&origins, "origin_connect_timeout 300;");
    let mut player = edge.player("s").await;
    assert_eq!(player.frame().await, keyframe(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_falls_silent_is_given_up_for_the_next() {
    let first = TestServer::origin(PATIENT);
    let second = TestServer::origin(PATIENT);
    let mut publisher = first.publisher("s").await;
    publisher.publish(&[keyframe(50_000)]).await;
    let mut other = second.publisher("s").await;
    other.publish(&[keyframe(0)]).await;
    let origins = [first.address, second.address];
    let edge = TestServer::edge(&origins, "origin_read_timeout 3000;");
    let mut player = edge.player("s").await;
    assert_eq!(player.frame().await.timestamp, 50_000);
    // The publisher is there and sends nothing.
    assert!(player.frame().await.timestamp > 50_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_patience_with_those_who_only_talk_can_be_set() {
    // Each is far from the others, which would take too long for the test.
    for (directive, words) in [
        ("handshake_timeout 100;", 0),
        ("connect_timeout 100;", 1),
        ("idle_timeout 100;", 2),
    ] {
        let others = "handshake_timeout 600000; connect_timeout 600000; idle_timeout 600000;";
        let others = others.replace(
            &format!("{} 600000;", &directive[..directive.len() - 5]),
            "",
        );
        let text = format!("{others} {directive} vhost __defaultVhost__ {{ }}");
        let origin = TestServer::start(Role::Origin, &text);
        let mut socket = TcpStream::connect(origin.address).await.unwrap();
        let mut rest = Vec::new();
        if words > 0 {
            // C0 and C1, then C2, which may say what it likes.
            let mut hello = vec![0; 1 + 1536];
            hello[0] = 3;
            socket.write_all(&hello).await.unwrap();
            let mut answer = vec![0; 1 + 2 * 1536];
            socket.read_exact(&mut answer).await.unwrap();
            socket.write_all(&answer[1..1 + 1536]).await.unwrap();
        }
        if words > 1 {
            let url = format!("rtmp://{}/live", origin.address);
            let object = Value::Object(vec![
                ("app".to_owned(), "live".into()),
                ("tcUrl".to_owned(), url.as_str().into()),
            ]);
            let mut connect = Command::new("connect", 1.0, Vec::new());
            connect.object = object;
            let mut bytes = Vec::new();
            encode_message(&connect.to_message(0), 128, 3, &mut bytes);
            socket.write_all(&bytes).await.unwrap();
        }
        let read = tokio::time::timeout(TIME_LIMIT, socket.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "{directive} has no effect");
        assert_eq!(rest.is_empty(), words < 2, "{directive}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn input_that_gathers_for_longer_than_the_patience_is_no_silence() {
    let origin =
        TestServer::origin("mr { enabled on; latency 2000; } publish_normal_timeout 1000;");
    let mut publisher = origin.publisher("s").await;
    let received = || {
        let clients = origin.server.clients().list();
        clients[0].received.load(Ordering::Relaxed)
    };
    for number in 0..4 {
        let before = received();
        publisher.publish(&[keyframe(number * 40)]).await;
        // It gathers now, for longer than it would wait.
        until(|| received() > before).await;
    }
    origin.arrived("s", 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_whose_input_gathers_is_dismissed_at_once() {
    let origin = TestServer::origin("mr { enabled on; latency 10000; }");
    let mut publisher = origin.publisher("s").await;
    let client = origin.server.clients().list().remove(0);
    let before = client.received.load(Ordering::Relaxed);
    publisher.publish(&[keyframe(0)]).await;
    // It gathers from now on.
    until(|| client.received.load(Ordering::Relaxed) > before).await;
    let dismissed = Instant::now();
    origin.server.dismiss_all();
    assert_eq!(publisher.refusal().await.code, "NetStream.Failed");
    assert!(
        dismissed.elapsed() < Duration::from_secs(9),
        "it gathered on"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_whose_origins_do_not_answer_is_told_so() {
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = format!(
        "idle_timeout 1000; vhost __defaultVhost__ {{
           mode remote; origin {}; origin_connect_timeout 60000; }}",
        mute.local_addr().unwrap()
    );
    let edge = TestServer::start(Role::Edge, &text);
    let refusal = edge.player("s").await.refusal().await;
    assert_eq!(refusal.code, code::PLAY_STREAM_NOT_FOUND);
    assert_eq!(
        refusal.description,
        "the origins of live/s have not answered"
    );
}
