//! The place where a player begins, and the headers that it gets.

use std::time::{Duration, Instant};

use rtmp_proto::wire::MessageType;

use super::support::{Server, headers, kind, message, picture, publish, settings, sound};
use crate::stream::Retention;
use crate::stream::StreamSettings;

#[test]
fn a_joining_player_gets_headers_and_the_newest_group_then_all_that_follows() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &headers());
    publish(&mut publication, &[picture(0, true), picture(40, false)]);
    publish(
        &mut publication,
        &[picture(80, true), sound(85), picture(120, false)],
    );
    let mut player = server.join(&stream);
    let beginning = player.told(6);
    assert_eq!(
        beginning,
        [
            ("data", 0),
            ("video header", 80),
            ("audio header", 80),
            ("keyframe", 80),
            ("sound", 85),
            ("picture", 120),
        ]
    );
    publish(&mut publication, &[picture(160, false)]);
    assert_eq!(
        player.message().unwrap().payload,
        picture(160, false).payload
    );
}

#[test]
fn a_header_too_large_to_keep_reaches_whoever_plays_and_nobody_who_joins() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    let large = |first: &[u8], message_type| {
        let payload = [first, &vec![0; 1 << 20]].concat();
        message(message_type, 0, payload)
    };
    let metadata = large(b"\x02\0\x0aonMetaData\x08", MessageType::DATA_AMF0);
    publish(&mut publication, &headers()[1..]);
    publish(&mut publication, &[metadata, picture(0, true)]);
    let mut player = server.join(&stream);
    let beginning = [("video header", 0), ("audio header", 0), ("keyframe", 0)];
    assert_eq!(player.told(3), beginning);
    let video = large(&[0x17, 0, 0, 0, 0], MessageType::VIDEO);
    publish(&mut publication, &[video, picture(40, true)]);
    assert_eq!(player.told(2), [("video header", 0), ("keyframe", 40)]);
    let mut player = server.join(&stream);
    assert_eq!(player.told(2), [("audio header", 40), ("keyframe", 40)]);
}

#[test]
fn times_past_what_a_header_holds_reach_a_joining_player() {
    // Past 4.66 hours the time takes four more bytes in every chunk; past
    // 2³¹ and 2³² ms it still rises, modulo 2³².
    for start in [0x00ff_fff0, 0x7fff_fff0, 0xffff_fff0_u32] {
        let mut server = Server::start(1);
        let stream = server.stream(&settings());
        let mut publication = stream.publish(Instant::now()).unwrap();
        let sent = [picture(start, true), picture(start.wrapping_add(40), false)];
        publish(&mut publication, &headers());
        publish(&mut publication, &sent);
        let mut player = server.join(&stream);
        for _ in headers() {
            player.message().unwrap();
        }
        for picture in &sent {
            let got = player.message().unwrap();
            assert_eq!(
                (got.timestamp, &got.payload),
                (picture.timestamp, &picture.payload)
            );
        }
    }
}

#[test]
fn a_new_publishers_players_get_no_headers_of_the_last_one() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &headers());
    publish(&mut publication, &[picture(0, true)]);
    drop(publication);
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &[picture(0, true)]);
    let mut player = server.join(&stream);
    assert_eq!(kind(&player.message().unwrap()), "keyframe");
}

#[test]
fn without_gop_cache_a_player_begins_at_the_next_keyframe() {
    let mut server = Server::start(1);
    let stream = server.stream(&StreamSettings {
        gop_cache: false,
        ..settings()
    });
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &headers());
    publish(&mut publication, &[picture(0, true), picture(40, false)]);
    let mut player = server.join(&stream);
    assert_eq!(player.told(3).last(), Some(&("audio header", 40)));
    publish(
        &mut publication,
        &[
            picture(80, false),
            sound(90),
            picture(120, true),
            sound(130),
        ],
    );
    assert_eq!(player.told(2), [("keyframe", 120), ("sound", 130)]);
}

#[test]
fn a_player_that_comes_before_the_publisher_gets_all_from_the_first_keyframe() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut player = server.join(&stream);
    while stream.players() == 0 {
        std::thread::yield_now();
    }
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &headers());
    publish(&mut publication, &[picture(0, true)]);
    let told: Vec<_> = player.told(4).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(told, ["data", "video header", "audio header", "keyframe"]);
}

#[test]
fn who_joins_at_sound_gets_no_picture_before_a_keyframe() {
    let mut server = Server::start(1);
    let long = StreamSettings {
        retention: Retention {
            queue_length: Duration::from_secs(60),
            ..settings().retention
        },
        ..settings()
    };
    let stream = server.stream(&long);
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &[picture(0, true), sound(5_000)]);
    publish(&mut publication, &[sound(10_020)]);
    let mut player = server.join(&stream);
    assert_eq!(player.told(1), [("sound", 10_020)]);
    let after = [picture(10_040, false), sound(10_060), picture(10_080, true)];
    publish(&mut publication, &after);
    let told = [("sound", 10_060), ("keyframe", 10_080)];
    assert_eq!(player.told(2), told);
    publish(&mut publication, &[picture(10_120, false)]);
    assert_eq!(player.told(1), [("picture", 10_120)]);
}

#[test]
fn nor_where_the_pictures_begin_later_than_the_sound_and_within_a_group() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &[sound(0)]);
    let mut early = server.join(&stream);
    assert_eq!(early.told(1), [("sound", 0)]);
    for time in [3, 6] {
        publish(&mut publication, &[sound(time)]);
        assert_eq!(early.told(1), [("sound", time)]);
    }
    let video_header = headers().swap_remove(1);
    publish(&mut publication, &[video_header, picture(10, false)]);
    publish(&mut publication, &[sound(20)]);
    let told = [("video header", 6), ("sound", 20)];
    assert_eq!(early.told(2), told);
    let mut late = server.join(&stream);
    let beginning = [("video header", 20), ("sound", 20)];
    assert_eq!(late.told(2), beginning, "the newest sound");
    publish(&mut publication, &[picture(50, true), picture(90, false)]);
    for player in [&mut early, &mut late] {
        assert_eq!(player.told(2), [("keyframe", 50), ("picture", 90)]);
    }
}

#[test]
fn a_player_that_waits_for_a_keyframe_is_sent_it_at_once() {
    let mut server = Server::start(1);
    for gop_cache in [true, false] {
        let gathering = StreamSettings {
            mw_latency: Duration::from_secs(86_400),
            gop_cache,
            ..settings()
        };
        let stream = server.stream(&gathering);
        stream.apply(&gathering);
        let mut player = server.join(&stream);
        while stream.players() == 0 {
            std::thread::yield_now();
        }
        let mut publication = stream.publish(Instant::now()).unwrap();
        // The worker is told of each batch by itself.
        publish(&mut publication, &headers());
        publish(&mut publication, &[sound(5_980)]);
        publish(&mut publication, &[picture(5_990, false)]);
        publish(&mut publication, &[picture(6_000, true)]);
        let told = player.told(4);
        assert_eq!(
            told.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
            ["data", "video header", "audio header", "keyframe"]
        );
        stream.end();
        drop(publication);
        server.departure();
    }
}

#[test]
fn headers_that_come_before_the_first_frame_are_of_its_time() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &headers());
    let mut player = server.join(&stream);
    while stream.players() == 0 {
        std::thread::yield_now();
    }
    publish(&mut publication, &[picture(6_000, true)]);
    let expected = [
        ("data", 0),
        ("video header", 6_000),
        ("audio header", 6_000),
        ("keyframe", 6_000),
    ];
    assert_eq!(player.told(4), expected);
}

#[test]
fn a_player_that_was_on_its_way_when_the_drain_was_announced_is_told_too() {
    let mut server = Server::start(1);
    let (stream, _publication, mut present) = server.playing();
    server.fanout.announce_drain();
    assert_eq!(kind(&present.message().unwrap()), "reply");
    let mut late = server.join(&stream);
    let mut kinds = late.messages(2).iter().map(kind).collect::<Vec<_>>();
    kinds.sort_unstable();
    assert_eq!(kinds, ["keyframe", "reply"]);
}
