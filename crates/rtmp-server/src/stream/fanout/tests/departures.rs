//! Departures of players.

use std::io::Write;
use std::time::Instant;

use super::support::{Server, append, picture, publish, settings};
use crate::stream::AppendError;
use crate::stream::fanout::Reason;

#[test]
fn a_player_that_leaves_takes_its_socket_and_dialogue_along() {
    let mut server = Server::start(1);
    let (stream, _publication, mut player) = server.playing();
    player.say(b"l");
    let returned = server.departure();
    assert_eq!((returned.id, &returned.reason), (player.id, &Reason::Asked));
    assert_eq!(stream.players(), 0);
    returned.socket.tcp().write_all(&returned.unsent).unwrap();
    returned.socket.tcp().write_all(b"").unwrap();
    drop(returned);
    assert_eq!(player.message(), None);
}

#[test]
fn a_closed_connection_is_noticed_without_a_message_of_the_stream() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let player = server.join(&stream);
    let id = player.id;
    drop(player);
    let returned = server.departure();
    assert_eq!((returned.id, returned.reason), (id, Reason::Closed));
}

#[test]
fn a_player_that_makes_no_sense_is_let_go_alone() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    let mut mad = server.join(&stream);
    let mut sane = server.join(&stream);
    mad.say(b"?");
    assert_eq!(
        server.departure().reason,
        Reason::Misbehaved("cannot read 63".to_owned())
    );
    publish(&mut publication, &[picture(0, true)]);
    assert_eq!(sane.told(1), [("keyframe", 0)]);
}

#[test]
fn the_players_of_a_stream_that_ends_are_let_go() {
    let mut server = Server::start(2);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    let players = [server.join(&stream), server.join(&stream)];
    while stream.players() < players.len() {
        std::thread::yield_now();
    }
    stream.end();
    for _ in &players {
        assert_eq!(server.departure().reason, Reason::StreamEnded);
    }
    let refused = append(&mut publication, &[picture(0, true)], Instant::now());
    assert!(matches!(refused, Err(AppendError::Ended)));
}

#[test]
fn one_player_can_be_dismissed() {
    let mut server = Server::start(2);
    let stream = server.stream(&settings());
    let _others = [server.join(&stream), server.join(&stream)];
    let player = server.join(&stream);
    server.fanout.dismiss(player.id);
    let returned = server.departure();
    assert_eq!(
        (returned.id, returned.reason),
        (player.id, Reason::Dismissed)
    );
}
