//! The log line that closes a play or a publish.

use std::time::{Duration, Instant};

use rtmp_proto::wire::message::Command;

use crate::support::{TestServer, keep_log, keyframe, log_lines, picture, sound, until};

/// Longer than what a line's rounding hides.
const A_WHILE: Duration = Duration::from_millis(600);

/// `3.5 s` and `103 frames` of a line, say, by the word behind.
fn figure(line: &str, unit: &str) -> f64 {
    let words: Vec<&str> = line
        .split([' ', ','])
        .filter(|word| !word.is_empty())
        .collect();
    let place = words.iter().position(|word| *word == unit);
    let place = place.unwrap_or_else(|| panic!("no {unit} in {line}"));
    words[place - 1].parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_play_of_a_connection_has_a_line_of_its_own() {
    keep_log();
    let origin = TestServer::origin("");
    let mut long = origin.publisher("long").await;
    long.publish(&[keyframe(0), picture(40), picture(80)]).await;
    let mut short = origin.publisher("short").await;
    short.publish(&[keyframe(0)]).await;
    let mut player = origin.player("long").await;
    let peer = player.socket.local_addr().unwrap().to_string();
    for _ in 0..3 {
        player.frame().await;
    }
    tokio::time::sleep(A_WHILE).await;
    let second = Instant::now();
    let play = Command::new("play", 0.0, vec!["short".into()]);
    player.send(&play.to_message(1)).await;
    player.frame().await;
    drop(player);
    let played = || {
        let mut lines = log_lines(&peer);
        lines.retain(|line| line.contains("played"));
        lines
    };
    until(|| played().len() == 2).await;
    let lines = played();
    assert!(lines[0].contains("live/long"), "{lines:?}");
    assert!(lines[1].contains("live/short"), "{lines:?}");
    assert_eq!(figure(&lines[0], "frames"), 3.0, "{lines:?}");
    assert_eq!(figure(&lines[1], "frames"), 1.0, "{lines:?}");
    assert_eq!(figure(&lines[1], "skips;"), 0.0, "{lines:?}");
    assert!(
        figure(&lines[1], "bytes") < figure(&lines[0], "bytes"),
        "{lines:?}"
    );
    assert!(
        figure(&lines[0], "s") >= A_WHILE.as_secs_f64() - 0.1,
        "{lines:?}"
    );
    // Not the connection's, which is longer by the first play.
    let most = second.elapsed().as_secs_f64() + 0.1;
    assert!(figure(&lines[1], "s") <= most, "{most}: {lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publishers_line_tells_how_long_and_how_much() {
    keep_log();
    let origin = TestServer::origin("");
    let mut publisher = origin.publisher("s").await;
    let peer = publisher.socket.local_addr().unwrap().to_string();
    publisher
        .publish(&[keyframe(0), sound(10), picture(40)])
        .await;
    origin.arrived("s", 3).await;
    drop(publisher);
    let published = || {
        let mut lines = log_lines(&peer);
        lines.retain(|line| line.contains("published live/s: "));
        lines
    };
    until(|| !published().is_empty()).await;
    let line = &published()[0];
    assert_eq!(figure(line, "frames"), 2.0, "{line}");
    assert_eq!(figure(line, "messages"), 3.0, "{line}");
    assert!(figure(line, "bytes") > 0.0, "{line}");
    assert!(figure(line, "s") < 60.0, "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_says_that_a_stream_has_ended_and_warns_of_nothing() {
    keep_log();
    let origin = TestServer::origin("publish_return_timeout 600000;");
    let edge = TestServer::edge(
        &[origin.address],
        "origin_read_timeout 3000; origin_connect_timeout 60000;",
    );
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = edge.player("s").await;
    player.frame().await;
    drop(publisher);
    let lines = || log_lines(&format!("live/s from {}: ", origin.address));
    let ended = |line: &String| line.contains("the stream has ended");
    until(|| lines().iter().any(ended)).await;
    assert!(
        lines().iter().all(|line| line.starts_with("INFO")),
        "{:?}",
        lines()
    );
}
