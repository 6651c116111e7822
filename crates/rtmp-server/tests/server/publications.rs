//! One publication after another under the same name, at origins and edges.

use rtmp_proto::session::ClientEvent;
use rtmp_proto::wire::{Message, MessageType};

use crate::support::{
    Client, TestServer, headers, keep_log, keyframe, log_lines, message, picture, sound, until,
};

/// An origin, an edge of it, and an edge of that.
fn chain() -> [TestServer; 3] {
    let origin = TestServer::origin("");
    let middle = TestServer::edge(&[origin.address], "");
    let edge = TestServer::edge(&[middle.address], "");
    [origin, middle, edge]
}

/// The messages that a new viewer of `server` gets, up to and with the first frame.
async fn beginning(server: &TestServer) -> Vec<Message> {
    let mut player = server.player("s").await;
    let mut got = Vec::new();
    loop {
        let message = player.media().await;
        let header = message.payload.get(1) == Some(&0);
        let is_frame = message.message_type != MessageType::DATA_AMF0 && !header;
        got.push(message);
        if is_frame {
            return got;
        }
    }
}

/// A publisher of `s` at `origin`, once the last one has gone.
async fn next_publisher(origin: &TestServer, last: Client) -> Client {
    drop(last);
    until(|| !origin.server.streams()[0].is_published()).await;
    origin.publisher("s").await
}

fn kinds(messages: &[Message]) -> Vec<(MessageType, u8)> {
    let kind = |message: &Message| (message.message_type, message.payload[0]);
    messages.iter().map(kind).collect()
}

const DATA: (MessageType, u8) = (MessageType::DATA_AMF0, 2);
const PICTURE: (MessageType, u8) = (MessageType::VIDEO, 0x17);

#[tokio::test(flavor = "multi_thread")]
async fn new_viewers_get_the_headers_of_the_present_publication_alone() {
    let mp3 = message(MessageType::AUDIO, 0, &[0x2f, 0xff, 0xfb]);
    let g711 = message(MessageType::AUDIO, 0, &[0x72, 1, 2, 3]);
    let video: Vec<_> = headers().into_iter().take(2).chain([keyframe(0)]).collect();
    for (second, expected) in [
        (video, vec![DATA, PICTURE, PICTURE]),
        (vec![mp3], vec![(MessageType::AUDIO, 0x2f)]),
        (vec![g711], vec![(MessageType::AUDIO, 0x72)]),
    ] {
        let servers = chain();
        let [origin, _, edge] = &servers;
        let mut publisher = origin.publisher("s").await;
        publisher.publish(&headers()).await;
        publisher.publish(&[keyframe(0), sound(10)]).await;
        let mut stays = edge.player("s").await;
        assert_eq!(stays.frame().await, keyframe(0));
        assert_eq!(stays.frame().await, sound(10));
        let mut publisher = next_publisher(origin, publisher).await;
        publisher.publish(&second).await;
        let first = stays.frame().await;
        assert!(first.timestamp > 10, "the time fell: {first:?}");
        for server in &servers {
            let got = beginning(server).await;
            assert_eq!(kinds(&got), expected, "{}", server.address);
            assert_eq!(got.last(), Some(&first));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_pictures_before_a_publications_first_keyframe() {
    let servers = chain();
    let [origin, _, edge] = &servers;
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&headers()).await;
    publisher.publish(&[keyframe(0), picture(40)]).await;
    let mut players = Vec::new();
    for server in &servers {
        let mut player = server.player("s").await;
        assert_eq!(player.frame().await, keyframe(0));
        assert_eq!(player.frame().await, picture(40));
        players.push(player);
    }
    let mut publisher = next_publisher(origin, publisher).await;
    publisher.publish(&headers()).await;
    publisher
        .publish(&[picture(0), sound(10), picture(40), sound(1_100)])
        .await;
    for player in &mut players {
        for _ in 0..2 {
            assert_eq!(player.frame().await.message_type, MessageType::AUDIO);
        }
    }
    let audio_header = (MessageType::AUDIO, 0xaf);
    let heard = [DATA, PICTURE, audio_header, (MessageType::AUDIO, 0xaf)];
    assert_eq!(kinds(&beginning(edge).await), heard);
    publisher.publish(&[keyframe(1_120), picture(1_160)]).await;
    for player in &mut players {
        let (first, second) = (player.frame().await, player.frame().await);
        assert_eq!(
            kinds(&[first, second]),
            [PICTURE, (MessageType::VIDEO, 0x27)]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cue_points_keep_their_time_at_origin_and_edge() {
    let servers = chain();
    let mut publisher = servers[0].publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut players = Vec::new();
    for server in &servers {
        let mut player = server.player("s").await;
        player.frame().await;
        players.push(player);
    }
    let cue = |time| message(MessageType::DATA_AMF0, time, b"\x02\0\x0aonCuePoint\x05");
    let sent = [sound(487), cue(503), picture(520), sound(975), cue(983)];
    publisher.publish(&sent).await;
    for player in &mut players {
        for message in &sent {
            assert_eq!(player.media().await, *message);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_keyframes_is_shown_everywhere_and_complained_of_once() {
    keep_log();
    let origin = TestServer::origin("keyframe_timeout 300;");
    let middle = TestServer::edge(&[origin.address], "");
    let edge = TestServer::edge(&[middle.address], "");
    let mut publisher = origin.publisher("unflagged").await;
    let mut time = 0;
    let mut player = edge.player("unflagged").await;
    // Its sound comes without pictures, then with them.
    let mut heard = Vec::new();
    loop {
        publisher.publish(&[picture(time), sound(time)]).await;
        let frame = player.frame().await;
        heard.push(frame.message_type);
        if frame.message_type == MessageType::VIDEO {
            break;
        }
        time = frame.timestamp.max(time) + 20;
    }
    assert_eq!(heard[0], MessageType::AUDIO);
    for server in [&origin, &middle, &edge] {
        let mut player = server.player("unflagged").await;
        assert_eq!(player.frame().await.message_type, MessageType::VIDEO);
    }
    let complaints = log_lines("no keyframe for");
    let ours = complaints.iter().filter(|line| line.contains("unflagged"));
    assert_eq!(ours.count(), 1, "{complaints:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_hears_of_a_publication_that_follows_and_of_no_end() {
    let origin = TestServer::origin("");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = origin.player("s").await;
    player.frame().await;
    let mut publisher = next_publisher(&origin, publisher).await;
    publisher.publish(&[keyframe(0)]).await;
    assert_eq!(player.event().await, Some(ClientEvent::StreamBegin));
    let media = player.event().await;
    assert!(matches!(media, Some(ClientEvent::Media(_))), "{media:?}");
}
