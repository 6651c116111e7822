//! Commands and control messages of players that play.

use netbed::TIME_LIMIT;
use rtmp_proto::session::status::code;
use rtmp_proto::session::{ClientEvent, Status};
use rtmp_proto::wire::chunk::encode_message;
use rtmp_proto::wire::message::Control;
use tokio::io::AsyncWriteExt;

use crate::support::{Client, TestServer, keyframe, picture, sound, until};

async fn status(client: &mut Client) -> Status {
    match client.event().await {
        Some(ClientEvent::Status(status)) => status,
        other => panic!("not a status: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_halts_the_stream_until_the_player_goes_on() {
    let origin = TestServer::origin("");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = origin.player("s").await;
    assert_eq!(player.frame().await, keyframe(0));
    player.call(1, "pause", vec![true.into(), 0.0.into()]).await;
    assert_eq!(status(&mut player).await.code, code::PAUSE_NOTIFY);
    assert_eq!(player.event().await, Some(ClientEvent::Ended), "stream EOF");
    publisher.publish(&[picture(40)]).await;
    origin.arrived("s", 2).await;
    player
        .call(1, "pause", vec![false.into(), 0.0.into()])
        .await;
    assert_eq!(status(&mut player).await.code, code::UNPAUSE_NOTIFY);
    assert_eq!(player.media().await, picture(40));
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_and_sound_can_be_turned_off() {
    let origin = TestServer::origin("");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = origin.player("s").await;
    assert_eq!(player.frame().await, keyframe(0));
    player.call(1, "receiveVideo", vec![false.into()]).await;
    // Its answer tells that what came before has been obeyed.
    player
        .call(1, "pause", vec![false.into(), 0.0.into()])
        .await;
    assert_eq!(status(&mut player).await.code, code::UNPAUSE_NOTIFY);
    publisher.publish(&[picture(40), sound(50)]).await;
    assert_eq!(player.media().await, sound(50));
    player.call(1, "receiveAudio", vec![false.into()]).await;
    player.call(1, "receiveVideo", vec![true.into()]).await;
    player
        .call(1, "pause", vec![false.into(), 0.0.into()])
        .await;
    assert_eq!(status(&mut player).await.code, code::UNPAUSE_NOTIFY);
    publisher
        .publish(&[picture(80), sound(90), keyframe(120)])
        .await;
    assert_eq!(player.media().await, keyframe(120));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_player_asks_for_while_it_waits_holds_when_its_stream_comes() {
    let origin = TestServer::origin("play_wait_timeout 600000;");
    let mut player = origin.player("s").await;
    assert_eq!(player.event().await, Some(ClientEvent::Connected));
    let clients = || origin.server.clients().list();
    let waits = || clients().iter().any(|it| it.activity().name() == "wait");
    tokio::select! {
        event = player.event() => panic!("there is nothing to hear yet: {event:?}"),
        () = until(waits) => {}
    }
    player.call(1, "receiveVideo", vec![false.into()]).await;
    player.call(1, "pause", vec![true.into(), 0.0.into()]).await;
    assert_eq!(status(&mut player).await.code, code::PAUSE_NOTIFY);
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0), sound(10)]).await;
    origin.arrived("s", 2).await;
    player
        .call(1, "pause", vec![false.into(), 0.0.into()])
        .await;
    loop {
        match player.event().await.expect("the connection was closed") {
            ClientEvent::Status(status) if status.code == code::UNPAUSE_NOTIFY => break,
            ClientEvent::Media(message) => panic!("it has paused, and got {message:?}"),
            _ => {}
        }
    }
    assert_eq!(player.media().await, sound(10), "it wants no pictures");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_play_for_a_while_ends_then_and_the_connection_does_not() {
    let origin = TestServer::origin("");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = origin.player("s").await;
    assert_eq!(player.frame().await, keyframe(0));
    let for_80_ms = vec!["s".into(), (-2000.0).into(), 80.0.into()];
    player.call(1, "play", for_80_ms).await;
    assert_eq!(player.media().await, keyframe(0));
    publisher.publish(&[picture(40), picture(80)]).await;
    assert_eq!(player.media().await, picture(40));
    assert_eq!(player.event().await, Some(ClientEvent::Ended));
    player.call(1, "play", vec!["s".into()]).await;
    while player.event().await.unwrap() == ClientEvent::Ended {}
    assert_eq!(player.media().await, keyframe(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_may_acknowledge_without_end() {
    let origin = TestServer::origin("");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = origin.player("s").await;
    assert_eq!(player.frame().await, keyframe(0));
    // More than any socket holds unread.
    let mut acknowledgement = Vec::new();
    let message = Control::Acknowledgement(7).to_message();
    encode_message(&message, 128, 2, &mut acknowledgement);
    let acknowledgements = acknowledgement.repeat((16 << 20) / acknowledgement.len());
    let said = tokio::time::timeout(TIME_LIMIT, player.socket.write_all(&acknowledgements)).await;
    said.expect("nobody reads them").unwrap();
    publisher.publish(&[picture(40)]).await;
    assert_eq!(player.media().await, picture(40));
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_no_part_of_a_streams_name() {
    let origin = TestServer::origin("");
    let edge = TestServer::edge(&[origin.address], "token_traverse on;");
    let mut publisher = origin.publisher("s?key=secret").await;
    publisher.publish(&[keyframe(0)]).await;
    for name in ["s", "s?token=a", "s?token=b&x=y"] {
        let mut player = edge.player(name).await;
        assert_eq!(player.frame().await, keyframe(0));
        assert_eq!(edge.server.streams().len(), 1, "{name} is another stream");
    }
    assert_eq!(origin.server.streams().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_cannot_fill_the_server_with_streams_that_nobody_publishes() {
    // Whoever has published something may take an hour to return.
    let origin = TestServer::origin("publish_return_timeout 3600000; play_wait_timeout 3600000;");
    let mut viewer = origin.player("a").await;
    assert_eq!(viewer.event().await, Some(ClientEvent::Connected));
    for number in 0..200 {
        let name = format!("a{number}");
        viewer.call(1, "play", vec![name.as_str().into()]).await;
    }
    let refusal = loop {
        match viewer.event().await.expect("closed without a word") {
            ClientEvent::Rejected(status) => break status,
            ClientEvent::Status(status) if status.code == code::PLAY_FAILED => break status,
            _ => {}
        }
    };
    assert!(
        refusal.description.contains("too many streams"),
        "{refusal}"
    );
    viewer.closed().await;
    until(|| origin.server.streams().is_empty()).await;
}
