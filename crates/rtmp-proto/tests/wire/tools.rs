//! Bytes by hand, and reading them in every way they can arrive.

use rtmp_proto::wire::chunk::{ChunkError, ChunkReader};
use rtmp_proto::wire::{Limits, Message, MessageType};

/// Bytes from hexadecimal digits; everything else is for the reader's eye.
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    assert!(digits.len().is_multiple_of(2), "half a byte in {digits:?}");
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// Bytes as a sender puts them on the wire: hexadecimal digits, a byte at the
/// least in each word, and pieces of named payloads: `p128` stands for the next
/// 128 bytes of `p`, and `p` for what is left of it. All of them are used up.
pub(crate) fn wire(script: &str, payloads: &[(char, &[u8])]) -> Vec<u8> {
    let mut left = payloads.to_vec();
    let mut bytes = Vec::new();
    for word in script.split_whitespace() {
        match left.iter_mut().find(|(name, _)| word.starts_with(*name)) {
            Some((_, rest)) => {
                let length = word[1..].parse().unwrap_or(rest.len());
                bytes.extend(rest.split_off(..length).expect("a longer payload"));
            }
            None => bytes.extend(hex(word)),
        }
    }
    assert!(left.iter().all(|(_, rest)| rest.is_empty()), "{script}");
    bytes
}

/// A message as the tests write it down.
pub(crate) fn message(timestamp: u32, type_id: u8, stream_id: u32, payload: &[u8]) -> Message {
    Message {
        timestamp,
        message_type: MessageType(type_id),
        stream_id,
        payload: payload.to_vec().into(),
    }
}

/// `length` bytes, of which no two neighbours are alike.
pub(crate) fn counting(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 251) as u8).collect()
}

/// Everything that a reader makes of `bytes` when they come in these pieces.
pub(crate) fn read_pieces<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limits: &Limits,
) -> Result<Vec<Message>, ChunkError> {
    let mut reader = ChunkReader::new(limits);
    let mut messages = Vec::new();
    let mut total = 0;
    for piece in pieces {
        let mut input = piece;
        while let Some(message) = reader.read(&mut input)? {
            messages.push(message);
        }
        assert!(input.is_empty(), "{} bytes were not taken", input.len());
        total += piece.len() as u64;
        assert_eq!(reader.bytes_received(), total);
    }
    Ok(messages)
}

/// Asserts that `bytes` are these messages, whether they come at once, byte by
/// byte, or cut in two anywhere.
#[track_caller]
pub(crate) fn assert_reads(bytes: &[u8], expected: &[Message]) {
    assert_outcome(bytes, &Ok(expected.to_vec()));
}

/// Asserts that `bytes` end in this error, however they come.
#[track_caller]
pub(crate) fn assert_fails(bytes: &[u8], expected: ChunkError) {
    assert_outcome(bytes, &Err(expected));
}

#[track_caller]
fn assert_outcome(bytes: &[u8], expected: &Result<Vec<Message>, ChunkError>) {
    let limits = Limits::default();
    assert_eq!(&read_pieces([bytes], &limits), expected, "all at once");
    assert_eq!(
        &read_pieces(bytes.chunks(1), &limits),
        expected,
        "byte by byte"
    );
    for cut in 0..bytes.len().min(2000) {
        let (first, second) = bytes.split_at(cut);
        assert_eq!(
            &read_pieces([first, second], &limits),
            expected,
            "cut at {cut}"
        );
    }
}
