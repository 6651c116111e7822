//! A stream that is pulled from an origin again: what is new in it is told from
//! what was sent before.

use std::time::{Duration, Instant};

use rtmp_proto::wire::{Message, MessageType};

use super::support::{Server, append, headers, message, picture, settings, sound};
use crate::stream::{Publication, Source};

/// A stream that an origin sends: headers, and a picture each 40 ms from
/// `group` up to `end`, with a keyframe every second.
fn from_origin(group: u32, end: u32) -> Vec<Message> {
    let mut messages = headers();
    for timestamp in (group..end).step_by(40) {
        messages.push(picture(timestamp, timestamp % 1_000 == 0));
        messages.push(sound(timestamp + 7));
    }
    messages
}

#[test]
fn an_origin_that_is_pulled_from_again_brings_only_what_is_new() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let now = Instant::now();
    let mut publication = stream
        .relay(Source::OriginWithoutPublicationMarks, now)
        .unwrap();
    append(&mut publication, &from_origin(7_000, 8_520), now).unwrap();
    let mut player = server.join(&stream);
    let seen = player.told(3 + 26).last().copied();
    assert_eq!(seen, Some(("sound", 8_487)));
    drop(publication);
    let later = now + Duration::from_secs(1);
    let mut publication = stream
        .relay(Source::OriginWithoutPublicationMarks, later)
        .unwrap();
    // Its newest group, and what it has got meanwhile.
    for message in from_origin(8_000, 9_520) {
        append(&mut publication, &[message], later).unwrap();
    }
    let mut expected = Vec::new();
    for timestamp in (8_520..9_520).step_by(40) {
        let keyframe = timestamp % 1_000 == 0;
        expected.push((if keyframe { "keyframe" } else { "picture" }, timestamp));
        expected.push(("sound", timestamp + 7));
    }
    assert_eq!(player.told(expected.len()), expected);
}

#[test]
fn a_pull_that_brings_only_what_the_log_has_makes_the_stream_live_again() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let now = Instant::now();
    let mut publication = stream
        .relay(Source::OriginWithPublicationMarks, now)
        .unwrap();
    append(&mut publication, &from_origin(0, 80), now).unwrap();
    drop(publication);
    assert!(!stream.state().borrow().live);
    let mut publication = stream
        .relay(Source::OriginWithPublicationMarks, now)
        .unwrap();
    append(&mut publication, &headers(), now).unwrap();
    assert!(!stream.state().borrow().live, "headers are nothing yet");
    append(&mut publication, &from_origin(0, 80), now).unwrap();
    assert!(stream.state().borrow().live);
    assert_eq!(
        server.join(&stream).told(3 + 4).last(),
        Some(&("sound", 47))
    );
}

#[test]
fn new_headers_after_a_repeated_group_are_not_lost() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let now = Instant::now();
    let mut publication = stream
        .relay(Source::OriginWithoutPublicationMarks, now)
        .unwrap();
    append(&mut publication, &from_origin(0, 80), now).unwrap();
    let mut player = server.join(&stream);
    player.told(3 + 4);
    drop(publication);
    let mut publication = stream
        .relay(Source::OriginWithoutPublicationMarks, now)
        .unwrap();
    let mut messages = from_origin(0, 80);
    let cue = message(MessageType::DATA_AMF0, 0, b"\x02\0\x01a".to_vec());
    messages.insert(6, cue.clone());
    let renewed = message(MessageType::VIDEO, 0, vec![0x17, 0, 0, 0, 0, 9, 9, 9]);
    messages.extend([renewed.clone(), picture(1_000, true), cue.clone()]);
    append(&mut publication, &messages, now).unwrap();
    let header = player.message().unwrap();
    assert_eq!((header.timestamp, header.payload), (1_000, renewed.payload));
    assert_eq!(player.told(1), [("keyframe", 1_000)]);
    assert_eq!(player.message().unwrap().payload, cue.payload);
}

#[test]
fn another_stream_from_an_origin_is_not_taken_for_the_one_before() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let now = Instant::now();
    let mut publication = stream
        .relay(Source::OriginWithoutPublicationMarks, now)
        .unwrap();
    append(&mut publication, &from_origin(0, 1_080), now).unwrap();
    let mut player = server.join(&stream);
    player.told(3 + 4);
    drop(publication);
    // Its time lies within what is known, its pictures are others.
    let mut publication = stream
        .relay(Source::OriginWithoutPublicationMarks, now)
        .unwrap();
    let mut other = picture(1_000, true);
    other.payload = [other.payload.as_ref(), &[1]].concat().into();
    append(&mut publication, &[other.clone()], now).unwrap();
    let got = player.message().unwrap();
    assert_eq!((got.timestamp, got.payload), (1_087, other.payload));
}

#[test]
fn a_file_that_is_played_again_is_not_taken_for_the_stream_that_goes_on() {
    let mut server = Server::start(1);
    let mut settings = settings();
    settings.retention.queue_length = Duration::from_secs(30);
    let stream = server.stream(&settings);
    let now = Instant::now();
    let mut publication = stream
        .relay(Source::OriginWithoutPublicationMarks, now)
        .unwrap();
    append(&mut publication, &from_origin(0, 9_000), now).unwrap();
    let mut player = server.join(&stream);
    player.told(3 + 50);
    drop(publication);
    // The log has its first pictures, but not where an origin would begin.
    let mut publication = stream
        .relay(Source::OriginWithoutPublicationMarks, now)
        .unwrap();
    append(&mut publication, &from_origin(0, 80), now).unwrap();
    let time = 8_967 + 40;
    let expected = [
        ("data", 0),
        ("video header", time),
        ("audio header", time),
        ("keyframe", time),
        ("sound", time + 7),
        ("picture", time + 40),
        ("sound", time + 47),
    ];
    assert_eq!(player.told(expected.len()), expected);
}

/// Appends each of `messages` when its time has come, from `now` on.
fn append_in_real_time(publication: &mut Publication, now: Instant, messages: &[Message]) {
    for message in messages {
        let later = now + Duration::from_millis(message.timestamp.into());
        append(publication, std::slice::from_ref(message), later).unwrap();
    }
}

#[test]
fn another_stream_that_begins_alike_is_not_left_out_for_long() {
    let mut server = Server::start(1);
    let mut settings = settings();
    settings.retention.queue_length = Duration::from_secs(30);
    let stream = server.stream(&settings);
    let now = Instant::now();
    let pictures = |end: u32| (0..end).step_by(40).map(|time| picture(time, time == 0));
    let mut publication = stream
        .relay(Source::OriginWithoutPublicationMarks, now)
        .unwrap();
    let first: Vec<_> = pictures(9_000).collect();
    append(&mut publication, &first, now).unwrap();
    let mut player = server.join(&stream);
    player.told(first.len());
    drop(publication);
    let mut publication = stream
        .relay(Source::OriginWithoutPublicationMarks, now)
        .unwrap();
    let mut other: Vec<_> = pictures(3_000).collect();
    other.push(picture(3_000, true));
    append_in_real_time(&mut publication, now, &other);
    assert_eq!(player.told(1), [("keyframe", 8_960 + 3_000)]);
}

#[test]
fn nor_is_sound_alone_whose_clock_falls_back() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let now = Instant::now();
    let sounds = |end: u32| (0..end).step_by(20).map(sound).collect::<Vec<_>>();
    let mut publication = stream
        .relay(Source::OriginWithoutPublicationMarks, now)
        .unwrap();
    append(&mut publication, &sounds(9_000), now).unwrap();
    let mut player = server.join(&stream);
    assert_eq!(player.told(1), [("sound", 8_980)]);
    drop(publication);
    let mut publication = stream
        .relay(Source::OriginWithoutPublicationMarks, now)
        .unwrap();
    append(&mut publication, &[sound(8_980)], now).unwrap();
    append_in_real_time(&mut publication, now, &sounds(4_000));
    let first = player.told(1)[0];
    assert!(
        first.1 > 8_980 && first.1 < 8_980 + 3_000,
        "goes on at {first:?}"
    );
}

/// A picture of the second track (Enhanced RTMP v2, one track per message).
fn second_track(timestamp: u32) -> Message {
    // Enhanced, a keyframe, multitrack; one track of coded frames, H.264, 1.
    let mut payload = b"\x96\x01avc1\x01\0\0\0".to_vec();
    payload.extend(timestamp.to_be_bytes());
    message(MessageType::VIDEO, timestamp, payload)
}

#[test]
fn tracks_of_one_time_are_whole_where_the_connection_broke_between_them() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let now = Instant::now();
    let tracks = |time: u32| [picture(time, time == 0), second_track(time)];
    let group: Vec<_> = [0, 40, 80].into_iter().flat_map(tracks).collect();
    let mut publication = stream
        .relay(Source::OriginWithoutPublicationMarks, now)
        .unwrap();
    // All but the second track's last picture.
    append(&mut publication, &group[..5], now).unwrap();
    let mut player = server.join(&stream);
    player.told(5);
    drop(publication);
    let mut publication = stream
        .relay(Source::OriginWithoutPublicationMarks, now)
        .unwrap();
    append(&mut publication, &group, now).unwrap();
    append(&mut publication, &tracks(120), now).unwrap();
    for expected in [&group[5], &tracks(120)[0], &tracks(120)[1]] {
        let got = player.message().unwrap();
        assert_eq!(
            (got.timestamp, &got.payload),
            (expected.timestamp, &expected.payload)
        );
    }
}

#[test]
fn nor_are_pictures_alone_of_which_none_is_flagged() {
    let mut server = Server::start(1);
    let mut settings = settings();
    settings.keyframe_timeout = Duration::ZERO;
    let stream = server.stream(&settings);
    let now = Instant::now();
    let pictures = |end: u32| -> Vec<_> {
        let times = (0..end).step_by(40);
        times.map(|time| picture(time, false)).collect()
    };
    let mut publication = stream
        .relay(Source::OriginWithoutPublicationMarks, now)
        .unwrap();
    append(&mut publication, &pictures(9_000), now).unwrap();
    let mut player = server.join(&stream);
    assert_eq!(player.told(1), [("picture", 8_960)]);
    drop(publication);
    let mut publication = stream
        .relay(Source::OriginWithoutPublicationMarks, now)
        .unwrap();
    let last = picture(8_960, false);
    append(&mut publication, &[last], now).unwrap();
    append_in_real_time(&mut publication, now, &pictures(4_000));
    let first = player.told(1)[0];
    assert!(
        first.1 > 8_960 && first.1 < 8_960 + 3_000,
        "goes on at {first:?}"
    );
}
