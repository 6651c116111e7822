//! What real clients said, byte by byte, and what they must hear.
//!
//! The captures are of the clients' side after the handshake, up to the play
//! or the first message of the stream; `tests/real_peers` makes them. (The
//! connections were those of a test on loopback, hence the addresses.)

use rtmp_proto::session::ServerEvent;
use rtmp_proto::wire::Limits;
use rtmp_proto::wire::chunk::ChunkReader;

use crate::tools::{CONNECT_ACCEPTED, PLAY_ACCEPTED, PUBLISH_ACCEPTED, Server, in_words};

fn bytes(capture: &str) -> Vec<u8> {
    let digits: Vec<u8> = capture
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// Asserts what a client says, and what it hears between its `connect` and the
/// acceptance of its request; the same whether it comes at once or in bytes.
#[track_caller]
fn assert_dialogue(capture: &str, says: &[&str], hears: &[&str], accepted: &[&str]) {
    let bytes = bytes(capture);
    let mut reader = ChunkReader::new(&Limits::default());
    let mut input = &bytes[..];
    let mut said = Vec::new();
    while let Some(message) = reader.read(&mut input).unwrap() {
        said.push(in_words(&message));
    }
    assert_eq!(said, says);

    let expected = [&CONNECT_ACCEPTED, hears, accepted].concat();
    let mut at_once = Server::new();
    assert_eq!(at_once.bytes(&bytes).unwrap(), expected);
    let mut in_bytes = Server::new();
    let heard: Vec<_> = bytes
        .chunks(1)
        .flat_map(|byte| in_bytes.bytes(byte).unwrap())
        .collect();
    assert_eq!(heard, expected);
    assert_eq!(at_once.events, in_bytes.events);

    let named = at_once.events.iter().find_map(|event| match event {
        ServerEvent::Publish(request) => Some(request.key.to_string()),
        ServerEvent::Play(request) => Some(request.key.to_string()),
        _ => None,
    });
    assert_eq!(named.as_deref(), Some("127.0.0.1/live/camera"));
    let publishes = accepted == PUBLISH_ACCEPTED;
    let media = matches!(at_once.events.last(), Some(ServerEvent::Media(_)));
    assert_eq!(
        media, publishes,
        "a publisher's capture ends with its metadata"
    );
}

#[test]
fn ffmpeg_publish() {
    assert_dialogue(
        include_str!("../captures/ffmpeg-publish.hex"),
        &[
            "connect 1",
            "SetChunkSize(60000)",
            "releaseStream 2 String(\"camera\")",
            "FCPublish 3 String(\"camera\")",
            "createStream 4",
            "_checkbw 5",
            "publish@1 6 String(\"camera\") String(\"live\")",
            "data@1 @setDataFrame",
        ],
        &[
            "_result 2 undefined",
            "_result 3 undefined",
            "_result 4 1",
            "_result 5 null",
        ],
        &PUBLISH_ACCEPTED,
    );
}

#[test]
fn ffmpeg_play() {
    assert_dialogue(
        include_str!("../captures/ffmpeg-play.hex"),
        &[
            "connect 1",
            "WindowAckSize(2500000)",
            "createStream 2",
            "_checkbw 3",
            "getStreamLength 4 String(\"camera\")",
            "play@1 5 String(\"camera\") -2000",
            "SetBufferLength { stream_id: 1, milliseconds: 3000 }",
        ],
        &["_result 2 1", "_result 3 null", "_result 4 0"],
        &PLAY_ACCEPTED,
    );
}

#[test]
fn rtmpdump_play() {
    assert_dialogue(
        include_str!("../captures/rtmpdump-play.hex"),
        &[
            "connect 1",
            "WindowAckSize(2500000)",
            "SetBufferLength { stream_id: 0, milliseconds: 300 }",
            "createStream 2",
            "FCSubscribe 3 String(\"camera\")",
            "_checkbw 4",
            "play@1 5 String(\"camera\") -1000",
            "SetBufferLength { stream_id: 1, milliseconds: 36000000 }",
        ],
        &[
            "_result 2 1",
            "_result 3 undefined",
            "onFCSubscribe NetStream.Play.Start",
            "_result 4 null",
        ],
        &PLAY_ACCEPTED,
    );
}

#[test]
fn librtmp_publish() {
    assert_dialogue(
        include_str!("../captures/librtmp-publish.hex"),
        &[
            "connect 1",
            "releaseStream 2 String(\"camera\")",
            "FCPublish 3 String(\"camera\")",
            "createStream 4",
            "_checkbw 5",
            "publish@1 6 String(\"camera\") String(\"live\")",
            "data@1 @setDataFrame",
        ],
        &[
            "_result 2 undefined",
            "_result 3 undefined",
            "_result 4 1",
            "_result 5 null",
        ],
        &PUBLISH_ACCEPTED,
    );
}

#[test]
fn gstreamer_publish() {
    assert_dialogue(
        include_str!("../captures/gstreamer-publish.hex"),
        &[
            "connect 1",
            "WindowAckSize(2500000)",
            "releaseStream String(\"camera\")",
            "FCPublish String(\"camera\")",
            "createStream 2",
            "publish@1 String(\"camera\") String(\"live\")",
            "SetChunkSize(128)",
            "data@1 @setDataFrame",
        ],
        &["_result 2 1"],
        &PUBLISH_ACCEPTED,
    );
}

#[test]
fn gstreamer_play() {
    assert_dialogue(
        include_str!("../captures/gstreamer-play.hex"),
        &[
            "connect 1",
            "WindowAckSize(2500000)",
            "WindowAckSize(2500000)",
            "SetBufferLength { stream_id: 0, milliseconds: 300 }",
            "createStream 2",
            "play@1 String(\"camera\") -2",
        ],
        &["_result 2 1"],
        &PLAY_ACCEPTED,
    );
}

#[test]
fn nginx_push() {
    assert_dialogue(
        include_str!("../captures/nginx-push.hex"),
        &[
            "SetChunkSize(4096)",
            "WindowAckSize(5000000)",
            "connect 1",
            "createStream 2",
            "publish@1 String(\"camera\") String(\"live\")",
            "StreamBegin(1)",
            "data@1 onMetaData",
        ],
        &["_result 2 1"],
        &PUBLISH_ACCEPTED,
    );
}

#[test]
fn nginx_pull() {
    assert_dialogue(
        include_str!("../captures/nginx-pull.hex"),
        &[
            "SetChunkSize(4096)",
            "WindowAckSize(5000000)",
            "connect 1",
            "createStream 2",
            "play@1 String(\"camera\") -1000 -1000",
        ],
        &["_result 2 1"],
        &PLAY_ACCEPTED,
    );
}
