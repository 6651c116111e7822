//! Every player gets every message, in packets as large as was asked for.

use std::time::{Duration, Instant};

use rtmp_proto::wire::Message;

use super::support::{Client, Server, picture, publish, settings};
use crate::stream::StreamSettings;

#[test]
fn every_player_of_every_worker_gets_every_message_whole() {
    let mut server = Server::start(2);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &[picture(0, true)]);
    let mut players: Vec<Client> = (0..10).map(|_| server.join(&stream)).collect();
    for player in &mut players {
        assert_eq!(player.told(1), [("keyframe", 0)]);
    }
    assert_eq!(server.fanout.players(), [5, 5]);
    let pictures: Vec<Message> = (1..50).map(|number| picture(number * 40, false)).collect();
    for picture in &pictures {
        publish(&mut publication, std::slice::from_ref(picture));
    }
    for player in &mut players {
        for (got, sent) in player.messages(pictures.len()).iter().zip(&pictures) {
            assert_eq!(
                (got.timestamp, &got.payload),
                (sent.timestamp, &sent.payload)
            );
        }
    }
}

#[test]
fn a_flush_of_many_players_leaves_nobody_out_while_others_come_and_go() {
    const PICTURES: u32 = 40;
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &[picture(0, true)]);
    let mut players: Vec<Client> = (0..300).map(|_| server.join(&stream)).collect();
    for number in 1..PICTURES {
        publish(&mut publication, &[picture(number * 40, false)]);
        // One from the middle leaves, one joins, in every flush.
        players.remove(players.len() / 2);
        players.push(server.join(&stream));
    }
    let all: Vec<u32> = (0..PICTURES).map(|number| number * 40).collect();
    for player in &mut players {
        let times: Vec<u32> = player.told(all.len()).iter().map(|told| told.1).collect();
        assert_eq!(times, all);
    }
}

#[test]
fn small_packets_wait_only_where_messages_are_gathered_and_nobody_asked_otherwise() {
    let gathering = Duration::from_millis(5);
    for (mw_latency, asked, expected) in [
        (gathering, false, false),
        (gathering, true, true),
        (Duration::ZERO, false, true),
    ] {
        let mut server = Server::start(1);
        let settings = StreamSettings {
            mw_latency,
            nodelay: asked,
            ..settings()
        };
        let stream = server.stream(&settings);
        let mut publication = stream.publish(Instant::now()).unwrap();
        publish(&mut publication, &[picture(0, true)]);
        let mut player = server.join(&stream);
        player.message().unwrap();
        player.say(b"l");
        let nodelay = server.departure().socket.tcp().nodelay().unwrap();
        assert_eq!(
            nodelay, expected,
            "gathering for {mw_latency:?}, tcp_nodelay {asked}"
        );
    }
}

#[test]
fn players_that_are_there_follow_a_change_of_how_small_packets_are_sent() {
    let mut server = Server::start(1);
    let gathering = StreamSettings {
        mw_latency: Duration::from_millis(5),
        ..settings()
    };
    for (before, after) in [(gathering, settings()), (settings(), gathering)] {
        let stream = server.stream(&before);
        stream.apply(&before);
        let mut publication = stream.publish(Instant::now()).unwrap();
        publish(&mut publication, &[picture(0, true)]);
        let mut player = server.join(&stream);
        player.message().unwrap();
        stream.apply(&after);
        publish(&mut publication, &[picture(40, false)]);
        player.message().unwrap();
        player.say(b"l");
        let nodelay = server.departure().socket.tcp().nodelay().unwrap();
        assert_eq!(nodelay, after.mw_latency.is_zero(), "then {after:?}");
    }
}
