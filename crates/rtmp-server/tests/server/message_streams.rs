//! Plays and publishes on any message stream of a connection.

use rtmp_proto::session::ClientEvent;
use rtmp_proto::session::status::code;
use rtmp_proto::wire::{Message, MessageType};

use crate::support::{Client, TestServer, headers, keyframe, picture, sound, until};

/// The first message of a play that ends another, of which the player is told.
async fn after_the_end(player: &mut Client) -> Message {
    assert_eq!(player.event().await, Some(ClientEvent::Ended));
    while player.event().await.unwrap() == ClientEvent::Ended {}
    player.media().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_can_be_played_on_any_message_stream() {
    let origin = TestServer::origin("chunk_size 128;");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&headers()).await;
    // Of several chunks, each of which repeats the extended timestamp.
    let mut long = keyframe(0x0123_4567);
    long.payload = [long.payload.as_ref(), &[7; 1_000]].concat().into();
    publisher.publish(std::slice::from_ref(&long)).await;
    let mut player = origin.player("s").await;
    player.frame().await;
    for stream_id in [2, 16] {
        player.call(stream_id, "play", vec!["s".into()]).await;
        let data = after_the_end(&mut player).await;
        let headers = [data, player.media().await, player.media().await];
        let expected = [
            MessageType::DATA_AMF0,
            MessageType::VIDEO,
            MessageType::AUDIO,
        ];
        for (header, message_type) in headers.iter().zip(expected) {
            assert_eq!(
                (header.message_type, header.stream_id),
                (message_type, stream_id)
            );
        }
        let first = player.media().await;
        assert_eq!(
            (first.stream_id, first.timestamp),
            (stream_id, long.timestamp)
        );
        assert_eq!(first.payload, long.payload);
        let next = [sound(long.timestamp + 10), picture(long.timestamp + 20)];
        publisher.publish(&next).await;
        for sent in next {
            let got = player.media().await;
            assert_eq!((got.stream_id, got.timestamp), (stream_id, sent.timestamp));
        }
        publisher.publish(std::slice::from_ref(&long)).await;
        long.timestamp = player.media().await.timestamp;
    }
    assert_eq!(origin.server.streams()[0].players(), 1);
    player.call(17, "play", vec!["s".into()]).await;
    assert_eq!(player.refusal().await.code, code::PLAY_FAILED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_can_be_published_on_any_message_stream() {
    let origin = TestServer::origin("");
    let mut publisher = origin.publisher("first").await;
    publisher.call(1, "closeStream", vec![]).await;
    publisher.call(16, "publish", vec!["s".into()]).await;
    let mut player = origin.player("s").await;
    let on_16 = |message: Message| Message {
        stream_id: 16,
        ..message
    };
    publisher.send(&keyframe(0)).await;
    publisher.send(&on_16(keyframe(40))).await;
    publisher.send(&on_16(picture(80))).await;
    assert_eq!(
        player.media().await,
        keyframe(40),
        "only that stream counts"
    );
    assert_eq!(player.media().await, picture(80));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_that_waits_can_ask_for_another_stream_on_another_message_stream() {
    let origin = TestServer::origin("play_wait_timeout 600000;");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = origin.player("nowhere").await;
    assert_eq!(player.event().await, Some(ClientEvent::Connected));
    tokio::select! {
        event = player.event() => panic!("not waiting: {event:?}"),
        () = until(|| origin.server.streams().len() == 2) => {}
    }
    player.call(2, "play", vec!["s".into()]).await;
    assert_eq!(after_the_end(&mut player).await.stream_id, 2);
}
