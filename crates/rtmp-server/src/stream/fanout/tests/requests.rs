//! Requests about delivery: pause, no pictures, a duration.

use std::time::{Duration, Instant};

use super::support::{Server, picture, publish, settings, sound};
use crate::stream::StreamSettings;
use crate::stream::fanout::Reason;

#[test]
fn a_paused_player_gets_nothing_and_goes_on_where_it_was() {
    let mut server = Server::start(1);
    let (_stream, mut publication, mut player) = server.playing();
    player.say(b"pr");
    assert_eq!(player.told(1), [("reply", 0)]);
    publish(&mut publication, &[picture(40, false)]);
    player.say(b"r");
    assert_eq!(player.told(1), [("reply", 0)]);
    player.say(b"P");
    assert_eq!(player.told(1), [("picture", 40)]);
}

#[test]
fn a_player_that_pauses_while_it_waits_gets_nothing_before_it_goes_on() {
    let mut server = Server::start(1);
    let waiting = StreamSettings {
        gop_cache: false,
        ..settings()
    };
    let stream = server.stream(&waiting);
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &[picture(0, true)]);
    let mut player = server.join(&stream);
    player.say(b"pr");
    assert_eq!(player.told(1), [("reply", 0)]);
    publish(&mut publication, &[picture(40, true), picture(80, false)]);
    player.say(b"r");
    assert_eq!(player.told(1), [("reply", 0)], "it has paused");
    player.say(b"P");
    assert_eq!(player.told(2), [("keyframe", 40), ("picture", 80)]);
}

#[test]
fn a_player_paused_for_longer_than_the_queue_goes_on_at_a_keyframe() {
    let mut server = Server::start(1);
    let (stream, mut publication, mut player) = server.playing();
    player.say(b"pr");
    assert_eq!(player.told(1), [("reply", 0)]);
    let mut witness = server.join(&stream);
    for number in 1..=150 {
        publish(&mut publication, &[picture(number * 40, number % 25 == 0)]);
    }
    // The worker has looked at all of it once the witness has it.
    while witness.message().unwrap().timestamp != 6_000 {}
    player.say(b"P");
    assert_eq!(player.told(1), [("keyframe", 6_000)]);
}

#[test]
fn pictures_can_be_turned_off_and_come_back_with_a_keyframe() {
    let mut server = Server::start(1);
    let (_stream, mut publication, mut player) = server.playing();
    player.say(b"vr");
    assert_eq!(player.told(1), [("reply", 0)]);
    publish(
        &mut publication,
        &[picture(40, false), sound(50), sound(60), picture(80, true)],
    );
    publish(&mut publication, &[sound(90)]);
    assert_eq!(
        player.told(3),
        [("sound", 50), ("sound", 60), ("sound", 90)]
    );
    player.say(b"Vr");
    assert_eq!(player.told(1), [("reply", 0)]);
    publish(
        &mut publication,
        &[picture(120, false), sound(130), picture(160, true)],
    );
    publish(&mut publication, &[picture(200, false)]);
    assert_eq!(
        player.told(3),
        [("sound", 130), ("keyframe", 160), ("picture", 200)]
    );
}

#[test]
fn a_player_with_a_duration_gets_that_much() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &[picture(1_000, true)]);
    let mut player = server.join_with(&stream, |joining| {
        joining.duration = Some(Duration::from_millis(80));
    });
    publish(
        &mut publication,
        &[picture(1_040, false), picture(1_080, false)],
    );
    assert_eq!(player.told(2), [("keyframe", 1_000), ("picture", 1_040)]);
    assert_eq!(server.departure().reason, Reason::Complete);
}
