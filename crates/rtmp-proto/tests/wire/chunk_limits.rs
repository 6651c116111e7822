//! What a connection may cost: each limit, and the memory behind it.

use rtmp_proto::wire::Limit;
use rtmp_proto::wire::Limits;
use rtmp_proto::wire::chunk::{ChunkError, ChunkReader};

use crate::tools::{assert_fails, counting, hex, message, read_pieces};

fn limit(limit: Limit, allowed: u32) -> ChunkError {
    ChunkError::Limit { limit, allowed }
}

#[test]
fn a_message_longer_than_allowed_is_an_error_at_its_header() {
    let limits = Limits {
        message_bytes: 1000,
        ..Limits::default()
    };
    let header = hex("06  000000 0003e9 09 01000000");
    let expected = Err(limit(Limit::MessageBytes, 1000));
    assert_eq!(read_pieces([&header[..]], &limits), expected);

    let just = [hex("06  000000 0003e8 09 01000000"), counting(128)].concat();
    assert_eq!(read_pieces([&just[..]], &limits), Ok(vec![]));
}

#[test]
fn sixteen_megabytes_are_what_a_header_can_announce_and_are_allowed() {
    let payload = counting(0xff_ffff);
    let bytes = [
        hex("02  000000 000004 01 00000000  7fffffff"),
        hex("06  000000 ffffff 09 01000000"),
        payload.clone(),
    ]
    .concat();
    let messages = read_pieces([&bytes[..]], &Limits::default()).unwrap();
    assert_eq!(messages[1..], [message(0, 9, 1, &payload)]);
}

#[test]
fn unfinished_messages_of_all_chunk_streams_count_together() {
    let limits = Limits {
        unfinished_bytes: 500,
        ..Limits::default()
    };
    let mut bytes = Vec::new();
    for csid in [4, 5, 6] {
        bytes.push(csid);
        bytes.extend(hex("000000 0000c8 09 01000000"));
        bytes.extend(counting(128));
    }
    assert_eq!(
        read_pieces([&bytes[..]], &limits),
        Ok(vec![]),
        "384 bytes are unfinished"
    );

    let fourth = [hex("07  000000 0000c8 09 01000000"), counting(128)].concat();
    let expected = Err(limit(Limit::UnfinishedBytes, 500));
    assert_eq!(read_pieces([&bytes[..], &fourth[..]], &limits), expected);

    // Finished, aborted and restarted ones count no more.
    let rest = counting(72);
    for relief in [
        [hex("c4"), rest].concat(),
        hex("02  000000 000004 02 00000000  00000004"),
        hex("04  000000 000001 09 01000000  61"),
    ] {
        let pieces = [&bytes[..], &relief[..], &fourth[..]];
        let delivered = read_pieces(pieces, &limits).map(|messages| messages.len());
        assert_eq!(delivered, Ok(1));
    }
}

#[test]
fn the_65th_chunk_stream_is_an_error() {
    let mut bytes = Vec::new();
    for id in 0..64 {
        bytes.extend([0, id]);
        bytes.extend(hex("000000 000001 09 01000000  61"));
    }
    assert_eq!(
        read_pieces([&bytes[..]], &Limits::default()).map(|m| m.len()),
        Ok(64)
    );
    bytes.extend(hex("00 40  000000 000001 09 01000000  61"));
    assert_fails(&bytes, limit(Limit::ChunkStreams, 64));
}

#[test]
fn an_announcement_alone_reserves_no_memory_to_speak_of() {
    // 16 MB announced on each of 64 chunk streams, of which one byte comes:
    // with buffers of that size this would be a gigabyte.
    let mut reader = ChunkReader::new(&Limits::default());
    for id in 0..64 {
        let header = [vec![0, id], hex("000000 ffffff 09 01000000"), vec![0]].concat();
        assert_eq!(reader.read(&mut &header[..]), Ok(None), "chunk stream {id}");
        let rest = [0; 127];
        assert_eq!(reader.read(&mut &rest[..]), Ok(None), "chunk stream {id}");
    }
    let held = reader.buffered_capacity();
    assert!(held <= 64 * 1024 + 64 * 128, "{held} bytes");
}

#[test]
fn a_peer_that_has_sent_much_gets_a_buffer_of_the_right_length_at_once() {
    let mut reader = ChunkReader::new(&Limits::default());
    for length in [100_000, 150_000] {
        let header = [
            hex("06  000000"),
            (length as u32).to_be_bytes()[1..].to_vec(),
        ]
        .concat();
        let header = [header, hex("09 01000000"), counting(128)].concat();
        assert_eq!(reader.read(&mut &header[..]), Ok(None));
        match length {
            100_000 => assert!(reader.buffered_capacity() < 1000, "not yet earned"),
            _ => assert_eq!(reader.buffered_capacity(), length),
        }
        for at in (128..length).step_by(128) {
            let chunk = [hex("c6"), counting(128.min(length - at))].concat();
            reader.read(&mut &chunk[..]).unwrap();
        }
        assert_eq!(reader.buffered_capacity(), 0);
    }
}

#[test]
fn between_messages_a_reader_holds_no_buffer() {
    let mut reader = ChunkReader::new(&Limits::default());
    let bytes = [hex("06  000000 0000c8 09 01000000"), counting(128)].concat();
    assert_eq!(reader.read(&mut &bytes[..]), Ok(None));
    assert_eq!(reader.buffered_capacity(), 200);
    let bytes = [hex("c6"), counting(72)].concat();
    assert!(reader.read(&mut &bytes[..]).unwrap().is_some());
    assert_eq!(reader.buffered_capacity(), 0);
}
