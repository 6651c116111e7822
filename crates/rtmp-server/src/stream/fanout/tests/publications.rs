//! One publication after another: what of the former may reach a player.

use std::time::{Duration, Instant};

use rtmp_proto::wire::{Message, MessageType};

use super::support::{Client, Server, append, headers, message, picture, publish, settings, sound};
use crate::stream::{Publication, Source, StreamSettings};

/// The kind of each of the next messages.
fn kinds(player: &mut Client, count: usize) -> Vec<&'static str> {
    let told = player.told(count);
    told.into_iter().map(|(kind, _)| kind).collect()
}

/// Sound and pictures, up to an inter frame.
fn former() -> Vec<Message> {
    let frames = [picture(0, true), sound(20), picture(40, false)];
    headers().into_iter().chain(frames).collect()
}

/// The metadata and the video's configuration of [`headers`].
fn video_headers() -> Vec<Message> {
    headers().into_iter().take(2).collect()
}

#[test]
fn who_joins_a_publication_of_sound_gets_nothing_of_the_one_before() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    publish(&mut stream.publish(Instant::now()).unwrap(), &former());
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &[sound(0), sound(20)]);
    let mut player = server.join(&stream);
    assert_eq!(kinds(&mut player, 1), ["sound"]);
    publish(&mut publication, &[picture(40, false), sound(45)]);
    publish(&mut publication, &[picture(80, true)]);
    assert_eq!(kinds(&mut player, 2), ["sound", "keyframe"]);
}

#[test]
fn pictures_before_a_publications_first_keyframe_go_to_nobody() {
    let mut server = Server::start(1);
    let (stream, publication, mut stayed) = server.playing();
    drop(publication);
    let mut publication = stream.publish(Instant::now()).unwrap();
    let beginning = [picture(40, false), sound(60), picture(80, false)];
    publish(&mut publication, &[&headers()[..], &beginning].concat());
    let mut joined = server.join(&stream);
    let told = ["data", "video header", "audio header", "sound"];
    for player in [&mut stayed, &mut joined] {
        assert_eq!(kinds(player, 4), told);
    }
    let group = [picture(120, true), picture(160, false)];
    publish(&mut publication, &group);
    for player in [&mut stayed, &mut joined] {
        for picture in &group {
            assert_eq!(player.message().unwrap().payload, picture.payload);
        }
    }
    assert_eq!((stayed.begun, joined.begun), (1, 0));
}

#[test]
fn players_that_wait_for_a_keyframe_hear_of_the_publication_that_it_is_of() {
    let mut server = Server::start(1);
    let stream = server.stream(&StreamSettings {
        gop_cache: false,
        ..settings()
    });
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &former());
    let mut waiting = server.join(&stream);
    let mut elsewhere = server.join_with(&stream, |joining| joining.stream_id = 5);
    for player in [&mut waiting, &mut elsewhere] {
        assert_eq!(kinds(player, 3), ["data", "video header", "audio header"]);
    }
    drop(publication);
    for beginning in [1, 2] {
        let mut publication = stream.publish(Instant::now()).unwrap();
        publish(&mut publication, &[picture(0, true)]);
        for player in [&mut waiting, &mut elsewhere] {
            assert_eq!(kinds(player, 1), ["keyframe"]);
            assert_eq!(player.begun, beginning);
        }
    }
}

/// A stream whose origin has sent [`former`]; a player that has got it.
fn relayed(server: &mut Server, source: Source) -> (Publication, Client) {
    let stream = server.stream(&settings());
    let mut publication = stream.relay(source, Instant::now()).unwrap();
    publish(&mut publication, &former());
    let mut player = server.join(&stream);
    player.told(former().len());
    (publication, player)
}

#[test]
fn an_origins_word_that_another_publication_begins_is_enough() {
    let mut server = Server::start(1);
    let (mut publication, mut stayed) = relayed(&mut server, Source::OriginWithPublicationMarks);
    publication.start_new_publication();
    // The same encoder, without sound.
    publish(&mut publication, &video_headers());
    publish(&mut publication, &[picture(80, true)]);
    let mut joined = server.join(publication.stream());
    for player in [&mut stayed, &mut joined] {
        assert_eq!(
            player.told(3),
            [("data", 0), ("video header", 80), ("keyframe", 80),]
        );
    }
    assert_eq!(stayed.begun, 1, "edges of this one listen, too");
}

#[test]
fn an_origin_that_has_waited_for_a_keyframe_is_believed() {
    let mut server = Server::start(1);
    let (mut publication, mut stayed) = relayed(&mut server, Source::OriginWithPublicationMarks);
    publication.start_new_publication();
    publish(&mut publication, &[picture(80, false), picture(120, false)]);
    assert_eq!(stayed.told(2), [("picture", 80), ("picture", 120)]);
    let mut joined = server.join(publication.stream());
    assert_eq!(joined.told(1), [("picture", 120)]);
}

/// Another configuration of the same codec.
fn other_video_header() -> Message {
    message(MessageType::VIDEO, 0, vec![0x17, 0, 0, 0, 0, 9, 9, 9])
}

#[test]
fn an_origin_that_says_nothing_is_known_by_what_its_publishers_begin_with() {
    let mut server = Server::start(1);
    let (mut publication, mut stayed) = relayed(&mut server, Source::OriginWithoutPublicationMarks);
    let metadata = headers().swap_remove(0);
    let beginning = [metadata, other_video_header(), picture(60, false)];
    publish(&mut publication, &beginning);
    publish(&mut publication, &[picture(80, true)]);
    let mut joined = server.join(publication.stream());
    for player in [&mut stayed, &mut joined] {
        assert_eq!(kinds(player, 3), ["data", "video header", "keyframe"]);
    }
    assert_eq!(stayed.begun, 1);
}

#[test]
fn so_it_is_where_the_next_one_has_the_same_sound_and_no_pictures() {
    let mut server = Server::start(1);
    let (mut publication, mut stayed) = relayed(&mut server, Source::OriginWithoutPublicationMarks);
    let metadata = message(
        MessageType::DATA_AMF0,
        0,
        b"\x02\0\x0aonMetaData\x06".to_vec(),
    );
    let audio_header = headers().swap_remove(2);
    publish(
        &mut publication,
        &[metadata.clone(), audio_header, sound(60)],
    );
    let mut joined = server.join(publication.stream());
    for player in [&mut stayed, &mut joined] {
        assert_eq!(player.message().unwrap().payload, metadata.payload);
        assert_eq!(kinds(player, 2), ["audio header", "sound"]);
    }
    assert_eq!(stayed.begun, 1);
}

#[test]
fn its_new_metadata_alone_changes_nothing_else() {
    let mut server = Server::start(1);
    let (mut publication, mut stayed) = relayed(&mut server, Source::OriginWithoutPublicationMarks);
    let title = message(
        MessageType::DATA_AMF0,
        0,
        b"\x02\0\x0aonMetaData\x06".to_vec(),
    );
    publish(
        &mut publication,
        &[title.clone(), picture(80, false), sound(85)],
    );
    assert_eq!(stayed.message().unwrap().payload, title.payload);
    assert_eq!(stayed.told(2), [("picture", 80), ("sound", 85)]);
    let mut joined = server.join(publication.stream());
    assert_eq!(kinds(&mut joined, 4).last(), Some(&"keyframe"));
    assert_eq!(stayed.begun, 0);
}

#[test]
fn a_picture_of_another_size_from_such_an_origin_does_not_cost_the_sound() {
    let mut server = Server::start(1);
    let (mut publication, mut stayed) = relayed(&mut server, Source::OriginWithoutPublicationMarks);
    let metadata = headers().swap_remove(0);
    let beginning = [metadata, other_video_header(), picture(80, true), sound(85)];
    publish(&mut publication, &beginning);
    let mut joined = server.join(publication.stream());
    let told = ["data", "video header", "keyframe", "audio header", "sound"];
    for player in [&mut stayed, &mut joined] {
        assert_eq!(kinds(player, 5), told);
    }
}

#[test]
fn data_keeps_its_own_time() {
    let mut server = Server::start(1);
    let (_stream, mut publication, mut player) = server.playing();
    let cue = |time| {
        message(
            MessageType::DATA_AMF0,
            time,
            b"\x02\0\x0aonCuePoint".to_vec(),
        )
    };
    publish(
        &mut publication,
        &[sound(487), cue(503), picture(520, false)],
    );
    publish(&mut publication, &[sound(975), cue(983), cue(640)]);
    let told = [("sound", 487), ("data", 503), ("picture", 520)];
    assert_eq!(player.told(3), told);
    assert_eq!(
        player.told(3),
        [("sound", 975), ("data", 983), ("data", 640)]
    );
    let metadata = headers().swap_remove(0);
    publish(
        &mut publication,
        &[Message {
            timestamp: 990,
            ..metadata
        }],
    );
    assert_eq!(player.told(1), [("data", 0)]);
}

#[test]
fn data_before_a_publications_first_frame_is_of_its_clock() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let now = Instant::now();
    let mut publication = stream.publish(now).unwrap();
    append(&mut publication, &[picture(60_000, true)], now).unwrap();
    let mut player = server.join(&stream);
    player.told(1);
    drop(publication);
    let later = now + Duration::from_secs(1);
    let mut publication = stream.publish(later).unwrap();
    let cue = message(MessageType::DATA_AMF0, 7, b"\x02\0\x0aonCuePoint".to_vec());
    append(&mut publication, &[cue, picture(0, true)], later).unwrap();
    assert_eq!(player.told(2), [("data", 61_007), ("keyframe", 61_000)]);
}

#[test]
fn a_stream_without_keyframes_is_heard_at_once_and_seen_after_a_while() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let now = Instant::now();
    let mut publication = stream.publish(now).unwrap();
    append(&mut publication, &headers(), now).unwrap();
    let send = |publication: &mut Publication, time: u32| {
        let at = now + Duration::from_millis(time.into());
        let frames = [picture(time, false), sound(time + 5)];
        append(publication, &frames, at).unwrap();
    };
    send(&mut publication, 0);
    let mut player = server.join(&stream);
    let told = ["data", "video header", "audio header", "sound"];
    assert_eq!(kinds(&mut player, 4), told);
    send(&mut publication, 7_960);
    assert_eq!(player.told(1), [("sound", 7_965)]);
    for time in [8_000, 8_040] {
        send(&mut publication, time);
        assert_eq!(player.told(2), [("picture", time), ("sound", time + 5)]);
    }
    // Who comes now does not wait, nor gets what is long past.
    let mut late = server.join(&stream);
    assert_eq!(
        late.told(5).split_off(3),
        [("picture", 8_040), ("sound", 8_045)]
    );
}

#[test]
fn nobody_waits_for_long_where_the_only_keyframe_is_the_first() {
    let mut server = Server::start(1);
    let mut settings = settings();
    settings.gop_cache = false;
    let stream = server.stream(&settings);
    let now = Instant::now();
    let mut publication = stream.publish(now).unwrap();
    append(&mut publication, &headers(), now).unwrap();
    append(&mut publication, &[picture(0, true)], now).unwrap();
    let mut player = server.join(&stream);
    // They are sent where it stands and waits.
    player.told(headers().len());
    for time in [29_960, 30_000, 30_040] {
        let at = now + Duration::from_millis(time.into());
        append(&mut publication, &[picture(time, false)], at).unwrap();
    }
    let first = player.told(1);
    assert!(
        [("picture", 30_000), ("picture", 30_040)].contains(&first[0]),
        "{first:?}"
    );
    // With `gop_cache` the whole group is there.
    settings.gop_cache = true;
    stream.apply(&settings);
    let beginning = kinds(&mut server.join(&stream), 4);
    assert_eq!(beginning.last(), Some(&"keyframe"));
}

/// A picture of track number `track` (Enhanced RTMP v2, one track per message).
fn of_track(track: u8, timestamp: u32, keyframe: bool) -> Message {
    let first = if keyframe { 0x96 } else { 0xa6 };
    let mut payload = [&[first, 0x01], &b"avc1"[..], &[track, 0, 0, 0]].concat();
    payload.extend(timestamp.to_be_bytes());
    message(MessageType::VIDEO, timestamp, payload)
}

#[test]
fn tracks_need_not_be_counted_from_nought() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    let tracks = |time: u32| [1, 2].map(|track| of_track(track, time, time.is_multiple_of(80)));
    for time in [0, 40, 80, 120] {
        publish(&mut publication, &tracks(time));
    }
    let mut player = server.join(&stream);
    for expected in tracks(80).into_iter().chain(tracks(120)) {
        assert_eq!(player.message().unwrap().payload, expected.payload);
    }
}
