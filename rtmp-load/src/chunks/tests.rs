use proptest::prelude::*;

use super::*;

/// One message as a test writes and expects it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    type_id: u8,
    timestamp: u32,
    length: u32,
    head: Vec<u8>,
}

fn seen(type_id: u8, timestamp: u32, payload: &[u8]) -> Seen {
    let keep = if matches!(type_id, 8 | 9) {
        HEAD_BYTES
    } else {
        WHOLE_BYTES
    };
    Seen {
        type_id,
        timestamp,
        length: payload.len() as u32,
        head: payload[..payload.len().min(keep)].to_vec(),
    }
}

fn walk(walker: &mut ChunkWalker, bytes: &[u8]) -> Result<Vec<Seen>, ChunkError> {
    let mut all = Vec::new();
    walker.walk(bytes, |message| {
        all.push(Seen {
            type_id: message.type_id,
            timestamp: message.timestamp,
            length: message.length,
            head: message.head.to_vec(),
        });
        Ok::<(), ChunkError>(())
    })?;
    Ok(all)
}

fn full_header(csid: u8, time: u32, length: usize, type_id: u8) -> Vec<u8> {
    let mut header = vec![csid];
    header.extend_from_slice(&time.min(EXTENDED).to_be_bytes()[1..]);
    header.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
    header.push(type_id);
    header.extend_from_slice(&1_u32.to_le_bytes());
    if time >= EXTENDED {
        header.extend_from_slice(&time.to_be_bytes());
    }
    header
}

/// Chunks of 128 bytes, every one after the first without header.
fn encode(csid: u8, time: u32, type_id: u8, payload: &[u8], repeat_time: bool) -> Vec<u8> {
    let mut bytes = full_header(csid, time, payload.len(), type_id);
    let mut pieces = payload.chunks(128);
    bytes.extend_from_slice(pieces.next().unwrap_or_default());
    for piece in pieces {
        bytes.push(0xc0 | csid);
        if time >= EXTENDED && repeat_time {
            bytes.extend_from_slice(&time.to_be_bytes());
        }
        bytes.extend_from_slice(piece);
    }
    bytes
}

#[test]
fn messages_of_several_chunk_streams_may_be_interleaved() {
    let video = [0x27; 200];
    let mut bytes = full_header(6, 40, 200, 9);
    bytes.extend_from_slice(&video[..128]);
    bytes.extend_from_slice(&encode(4, 41, 8, b"\xaf\x01sound", false));
    bytes.push(0xc6);
    bytes.extend_from_slice(&video[128..]);
    let all = walk(&mut ChunkWalker::new(false), &bytes).unwrap();
    assert_eq!(all, [seen(8, 41, b"\xaf\x01sound"), seen(9, 40, &video)]);
}

#[test]
fn compressed_headers_add_their_time_and_reuse_the_rest() {
    let mut bytes = encode(4, 100, 8, b"abc", false);
    // Type 1: delta 20, length 2; type 2: delta 30; type 3: the delta again.
    bytes.extend_from_slice(b"\x44\0\0\x14\0\0\x02\x08de");
    bytes.extend_from_slice(b"\x84\0\0\x1efg");
    bytes.extend_from_slice(b"\xc4hi");
    let all = walk(&mut ChunkWalker::new(false), &bytes).unwrap();
    let times: Vec<u32> = all.iter().map(|message| message.timestamp).collect();
    assert_eq!(times, [100, 120, 150, 180]);
    assert!(all[1..].iter().all(|message| message.length == 2));
}

#[test]
fn a_chunk_size_applies_from_the_next_chunk_on() {
    let mut bytes = encode(2, 0, 1, &4096_u32.to_be_bytes(), false);
    let payload = [7; 1000];
    bytes.extend_from_slice(&full_header(6, 5, 1000, 9));
    bytes.extend_from_slice(&payload);
    let all = walk(&mut ChunkWalker::new(false), &bytes).unwrap();
    assert_eq!(all[1], seen(9, 5, &payload));
}

#[test]
fn an_aborted_message_is_forgotten() {
    let mut bytes = full_header(6, 5, 300, 9);
    bytes.extend_from_slice(&[1; 128]);
    bytes.extend_from_slice(&encode(2, 0, 2, &6_u32.to_be_bytes(), false));
    bytes.extend_from_slice(&encode(6, 9, 9, b"next", false));
    let all = walk(&mut ChunkWalker::new(false), &bytes).unwrap();
    assert_eq!(all[1], seen(9, 9, b"next"));
}

#[test]
fn a_message_without_payload_is_a_message() {
    let bytes = encode(4, 7, 8, b"", false);
    assert_eq!(
        walk(&mut ChunkWalker::new(false), &bytes).unwrap(),
        [seen(8, 7, b"")]
    );
}

#[test]
fn chunk_stream_ids_come_in_one_two_or_three_bytes() {
    for basic in [&b"\x05"[..], b"\x00\x10", b"\x01\x10\x02"] {
        let mut bytes = basic.to_vec();
        bytes.extend_from_slice(&full_header(0, 3, 2, 8)[1..]);
        bytes.extend_from_slice(b"ok");
        assert_eq!(
            walk(&mut ChunkWalker::new(false), &bytes).unwrap(),
            [seen(8, 3, b"ok")]
        );
    }
}

#[test]
fn what_no_server_may_send_is_named() {
    let mut unfinished = full_header(6, 0, 300, 9);
    unfinished.extend_from_slice(&[0; 128]);
    unfinished.extend_from_slice(&full_header(6, 0, 10, 9));
    let table: &[(&str, Vec<u8>, ChunkError)] = &[
        (
            "type 1 without a full header before it",
            b"\x45\0\0\0\0\0\x01\x08".to_vec(),
            ChunkError::NoPrecedingHeader { format: 1, id: 5 },
        ),
        (
            "chunk size 0",
            encode(2, 0, 1, &[0; 4], false),
            ChunkError::BadChunkSize(0),
        ),
        (
            "a command of 100 kB",
            full_header(3, 0, 100_000, 20),
            ChunkError::CommandTooLong {
                type_id: 20,
                length: 100_000,
            },
        ),
        (
            "a full header amid a message",
            unfinished,
            ChunkError::Unfinished(6),
        ),
    ];
    for (sentence, bytes, error) in table {
        let came = walk(&mut ChunkWalker::new(false), bytes);
        assert_eq!(came.as_ref(), Err(error), "{sentence}");
    }
}

fn message() -> impl Strategy<Value = (u8, u32, Vec<u8>)> {
    let kind = prop_oneof![Just(8_u8), Just(9), Just(18)];
    let time = prop_oneof![
        0..1000_u32,
        EXTENDED - 2..EXTENDED + 2,
        u32::MAX - 2..=u32::MAX
    ];
    (kind, time, proptest::collection::vec(any::<u8>(), 0..600))
}

proptest! {
    #[test]
    fn any_split_of_the_bytes_gives_the_same_messages(
        messages in proptest::collection::vec(message(), 1..8),
        cuts in proptest::collection::vec(1..400_usize, 1..12),
    ) {
        let bytes: Vec<u8> = messages
            .iter()
            .flat_map(|(kind, time, payload)| encode(*kind, *time, *kind, payload, true))
            .collect();
        let expected: Vec<Seen> =
            messages.iter().map(|(kind, time, payload)| seen(*kind, *time, payload)).collect();
        let mut walker = ChunkWalker::new(false);
        let mut came = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at(rest.len().min(*cut));
            came.extend(walk(&mut walker, now).unwrap());
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(came, expected);
    }

    #[test]
    fn the_checksum_covers_what_lies_behind_the_head(
        payload in proptest::collection::vec(any::<u8>(), 0..700),
    ) {
        let bytes = encode(6, 0, 9, &payload, false);
        let mut checksum = None;
        ChunkWalker::new(true).walk(&bytes, |message| {
            checksum = message.tail.map(Hasher::finalize);
            Ok::<(), ChunkError>(())
        }).unwrap();
        let behind = payload.get(HEAD_BYTES..).unwrap_or_default();
        prop_assert_eq!(checksum, Some(crc32fast::hash(behind)));
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let _ = walk(&mut ChunkWalker::new(true), &bytes);
    }
}

#[test]
fn an_extended_time_is_understood_whether_or_not_it_is_repeated() {
    let payload = vec![9; 400];
    for repeated in [true, false] {
        let bytes = encode(6, 0x0100_0000, 9, &payload, repeated);
        for step in 1..20 {
            let mut walker = ChunkWalker::new(false);
            let all: Vec<Seen> = bytes
                .chunks(step)
                .flat_map(|piece| walk(&mut walker, piece).unwrap())
                .collect();
            assert_eq!(
                all,
                [seen(9, 0x0100_0000, &payload)],
                "repeated: {repeated}, {step} at a time"
            );
        }
    }
}
