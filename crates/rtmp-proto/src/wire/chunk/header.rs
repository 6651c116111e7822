//! One chunk's header (RTMP 1.0 §5.3.1).

/// Chunk size of either side until it says otherwise, in bytes (RTMP 1.0
/// §5.4.1).
pub const DEFAULT_CHUNK_SIZE: u32 = 128;

/// The largest payload that a message header can announce, in bytes.
pub const MAX_MESSAGE_LEN: usize = 0xff_ffff;

/// A header's timestamp field when the real value follows in four more bytes.
pub(super) const EXTENDED: u32 = 0xff_ffff;

/// Basic header, message header, extended timestamp.
pub(super) const MAX_HEADER_LEN: usize = 3 + 11 + 4;

/// The basic header: which chunk stream, and how much of a message header
/// follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BasicHeader {
    /// 0 (all eleven bytes) to 3 (none).
    pub(super) format: u8,
    pub(super) chunk_stream_id: u32,
    pub(super) len: usize,
}

impl BasicHeader {
    /// `None`: more bytes are needed.
    pub(super) fn parse(bytes: &[u8]) -> Option<BasicHeader> {
        let first = *bytes.first()?;
        let (chunk_stream_id, len) = match first & 0x3f {
            0 => (64 + u32::from(*bytes.get(1)?), 2),
            // The third byte is the high one.
            1 => (
                64 + u32::from(*bytes.get(1)?) + 256 * u32::from(*bytes.get(2)?),
                3,
            ),
            id => (u32::from(id), 1),
        };
        Some(BasicHeader {
            format: first >> 6,
            chunk_stream_id,
            len,
        })
    }
}

/// The message header: the part of formats 0, 1 and 2 after the basic header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct MessageHeader {
    /// The timestamp (format 0) or its difference from the last one.
    pub(super) time_field: u32,
    /// True if `time_field` came in four extra bytes.
    pub(super) extended: bool,
    /// Formats 0 and 1: message length and type.
    pub(super) length_and_type: Option<(u32, u8)>,
    /// Format 0: message stream.
    pub(super) stream_id: Option<u32>,
    pub(super) len: usize,
}

impl MessageHeader {
    /// Reads the message header of a chunk of format 0, 1 or 2; `None`: more
    /// bytes are needed.
    pub(super) fn parse(format: u8, bytes: &[u8]) -> Option<MessageHeader> {
        let (fields, mut len) = match format {
            0 => (bytes.get(..11)?, 11),
            1 => (bytes.get(..7)?, 7),
            _ => (bytes.get(..3)?, 3),
        };
        let mut time_field = u24(&fields[..3]);
        let extended = time_field == EXTENDED;
        if extended {
            time_field = u32::from_be_bytes(*bytes[len..].first_chunk()?);
            len += 4;
        }
        let length_and_type = fields.get(3..7).map(|bytes| (u24(bytes), bytes[3]));
        // The message stream id is the one little-endian number of RTMP.
        let stream_id = fields
            .get(7..)
            .and_then(|bytes| bytes.first_chunk())
            .map(|bytes| u32::from_le_bytes(*bytes));
        Some(MessageHeader {
            time_field,
            extended,
            length_and_type,
            stream_id,
            len,
        })
    }
}

fn u24(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]])
}
