//! Peers that say nothing.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{PATIENCE, Running, keyframe, until};

/// Keeps publishers that say nothing.
const PATIENT: &str = "publish_normal_timeout 600000;";

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_does_not_come_to_an_end_is_given_up() {
    let origin = Running::origin("");
    let mut silent = TcpStream::connect(origin.address).await.unwrap();
    let mut slow = TcpStream::connect(origin.address).await.unwrap();
    // A byte now and then does not buy it time: at most 5 s in all.
    let dribbling = async {
        slow.write_all(&[3]).await.unwrap();
        while slow.write_all(&[0]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let dribbled = tokio::time::timeout(PATIENCE, dribbling).await;
    assert!(dribbled.is_ok(), "the slow one is still there");
    let mut rest = Vec::new();
    let read = tokio::time::timeout(PATIENCE, silent.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "the silent one is still there");
    until(|| origin.server.clients().count() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_does_not_answer_is_given_up_for_the_next() {
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = Running::origin(PATIENT);
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let origins = [mute.local_addr().unwrap(), origin.address];
    let edge = Running::edge(&origins, "origin_connect_timeout 300;");
    let mut player = edge.player("s").await;
    assert_eq!(player.frame().await, keyframe(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_falls_silent_is_given_up_for_the_next() {
    let first = Running::origin(PATIENT);
    let second = Running::origin(PATIENT);
    let mut publisher = first.publisher("s").await;
    publisher.publish(&[keyframe(50_000)]).await;
    let mut other = second.publisher("s").await;
    other.publish(&[keyframe(0)]).await;
    let origins = [first.address, second.address];
    let edge = Running::edge(&origins, "origin_read_timeout 500;");
    let mut player = edge.player("s").await;
    assert_eq!(player.frame().await.timestamp, 50_000);
    // The publisher is there and sends nothing.
    assert!(player.frame().await.timestamp > 50_000);
}
