//! Decoders' configurations: whose are given to players that join.

use std::time::{Duration, Instant};

use rtmp_proto::wire::{Message, MessageType};

use super::support::{Server, message, picture, publish, settings, sound};

const AUDIO: MessageType = MessageType::AUDIO;
const VIDEO: MessageType = MessageType::VIDEO;

fn frame(message_type: MessageType, timestamp: u32, payload: &[u8]) -> Message {
    message(message_type, timestamp, payload.to_vec())
}

/// The messages to a player that joins at the last of `messages`, a place to
/// join.
fn joined_after(messages: &[Message]) -> Vec<Message> {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, messages);
    let mut player = server.join(&stream);
    let last = messages.last().expect("there is a keyframe");
    let mut got = Vec::new();
    loop {
        let message = player.message().unwrap();
        if message.payload == last.payload {
            return got;
        }
        got.push(message);
    }
}

const AVC_HEADER: &[u8] = &[0x17, 0, 0, 0, 0, 1];
const AAC_HEADER: &[u8] = &[0xaf, 0, 0x12, 0x10];

#[test]
fn a_codec_that_is_left_takes_its_configuration_with_it() {
    for (kind, header, frame_before, frame_after) in [
        // To G.711 and MP3; to AAC from Opus.
        (AUDIO, AAC_HEADER, &[0xaf, 1, 1][..], &[0x72, 1, 2, 3][..]),
        (AUDIO, AAC_HEADER, &[0xaf, 1, 1], &[0x2f, 0xff, 0xfb]),
        (AUDIO, b"\x90Opus\x01", b"\x91Opus\x02", &[0xaf, 1, 1]),
        (AUDIO, b"\x94Opus\x01\x02", b"\x91Opus\x02", &[0xaf, 1, 1]),
    ] {
        let got = joined_after(&[
            frame(kind, 0, header),
            picture(0, true),
            frame(kind, 20, frame_before),
            frame(kind, 40, frame_after),
            picture(80, true),
        ]);
        assert_eq!(got, [], "{header:x?}");
    }
    for (header, before, after) in [
        // To H.263, VP6, AV1; to HEVC by its unofficial number.
        (AVC_HEADER, &[0x17, 1, 0, 0, 0, 1][..], &[0x12, 0, 0][..]),
        (AVC_HEADER, &[0x17, 1, 0, 0, 0, 1], &[0x14, 0, 0]),
        (AVC_HEADER, &[0x17, 1, 0, 0, 0, 1], b"\x91av01\x01"),
        (b"\x90av01\x81", b"\x91av01\x01", &[0x1c, 1, 0, 0, 0, 1]),
        (b"\x94hvc1\x02", b"\x93hvc1\x01", &[0x17, 1, 0, 0, 0, 1]),
    ] {
        let before = [frame(VIDEO, 0, header), frame(VIDEO, 0, before)];
        let got = joined_after(&[&before[..], &[frame(VIDEO, 40, after)]].concat());
        assert_eq!(got, [], "{header:x?}");
    }
}

#[test]
fn one_codec_may_go_by_two_names() {
    for (header, picture) in [
        (&[0x1c, 0, 0, 0, 0, 1][..], &b"\x93hvc1\x01"[..]),
        (b"\x90avc1\x01", &[0x17, 1, 0, 0, 0, 1]),
    ] {
        let header = frame(VIDEO, 0, header);
        let got = joined_after(&[header.clone(), frame(VIDEO, 0, picture)]);
        assert_eq!(got[0].payload, header.payload);
    }
    let header = frame(AUDIO, 0, b"\x90mp4a\x12\x10");
    let got = joined_after(&[header.clone(), sound(0), picture(40, true)]);
    assert_eq!(got[0].payload, header.payload);
}

#[test]
fn each_track_has_a_codec_of_its_own() {
    // Sound in Opus on track 0 and in AAC on track 1.
    let headers = [&b"\x95\x00Opus\x00\x01"[..], b"\x95\x00mp4a\x01\x12\x10"];
    let headers = headers.map(|header| frame(AUDIO, 0, header));
    let mut messages = headers.to_vec();
    for time in [0, 20, 40] {
        messages.push(frame(AUDIO, time, b"\x95\x01Opus\x00\x02"));
        messages.push(frame(AUDIO, time, b"\x95\x01mp4a\x01\x03"));
    }
    messages.push(picture(40, true));
    let got = joined_after(&messages);
    let payloads = |messages: &[Message]| -> Vec<_> {
        let payloads = messages.iter().map(|message| message.payload.clone());
        payloads.collect()
    };
    assert_eq!(payloads(&got), payloads(&headers));
}

#[test]
fn a_track_that_has_fallen_silent_is_not_announced_until_it_comes_back() {
    let mut server = Server::start(1);
    let mut settings = settings();
    settings.retention.queue_length = Duration::from_secs(60);
    let stream = server.stream(&settings);
    let mut publication = stream.publish(Instant::now()).unwrap();
    let beginning = [frame(AUDIO, 0, AAC_HEADER), picture(0, true), sound(20)];
    publish(&mut publication, &beginning);
    let mut stayed = server.join(&stream);
    stayed.told(3);
    publish(&mut publication, &[picture(10_020, true)]);
    assert_eq!(stayed.told(1), [("keyframe", 10_020)]);
    let mut early = server.join(&stream);
    let announced = [("audio header", 10_020), ("keyframe", 10_020)];
    assert_eq!(early.told(2), announced);
    publish(&mut publication, &[picture(10_060, true)]);
    assert_eq!(stayed.told(1), [("keyframe", 10_060)]);
    let mut late = server.join(&stream);
    assert_eq!(late.told(1), [("keyframe", 10_060)]);
    publish(&mut publication, &[sound(10_080)]);
    let back = [("audio header", 10_080), ("sound", 10_080)];
    for player in [&mut stayed, &mut late] {
        assert_eq!(player.told(2), back);
    }
    publish(&mut publication, &[picture(10_100, true)]);
    let mut joined = server.join(&stream);
    let announced = [("audio header", 10_100), ("keyframe", 10_100)];
    assert_eq!(joined.told(2), announced);
}
