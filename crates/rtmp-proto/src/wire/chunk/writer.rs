//! Messages to chunks.

use bytes::BufMut;
use serde::{Deserialize, Serialize};

use super::header::{DEFAULT_CHUNK_SIZE, EXTENDED, MAX_MESSAGE_LEN};
use crate::wire::message::{Message, MessageType};

/// Appends `message` as chunks that can be read by whoever joins here: a
/// format 0 header with the absolute timestamp, then format 3 continuations.
///
/// `chunk_size` is that of the connection(s) it will travel on; `csid` is the
/// chunk stream, 2 to 65,599 (see [`super::csid::for_message`]).
///
/// # Panics
/// If the payload is longer than [`MAX_MESSAGE_LEN`], or `chunk_size` is 0: no
/// message that was read is, and no configuration may.
pub fn encode_message(message: &Message, chunk_size: u32, csid: u32, out: &mut impl BufMut) {
    put_basic_header(0, csid, out);
    put_message_header(0, message.timestamp, message, out);
    put_payload(message.timestamp, message, chunk_size, csid, out);
}

/// The number of bytes that [`encode_message`] appends.
pub fn encoded_len(message: &Message, chunk_size: u32, csid: u32) -> usize {
    let basic = if csid < 64 {
        1
    } else if csid < 320 {
        2
    } else {
        3
    };
    let extended = if message.timestamp >= EXTENDED { 4 } else { 0 };
    let chunks = message.payload.len().div_ceil(chunk_size as usize).max(1);
    11 + chunks * (basic + extended) + message.payload.len()
}

/// Gives a message that [`encode_message`] wrote, at the beginning of
/// `encoded`, another message stream. What a user control message says of a
/// message stream, it says of that one.
///
/// # Panics
/// If `encoded` is shorter than such a message's header.
pub fn readdress(encoded: &mut [u8], stream_id: u32) {
    let basic = match encoded[0] & 0x3f {
        0 => 2,
        1 => 3,
        _ => 1,
    };
    // Behind timestamp, length and type (RTMP 1.0 §5.3.1.2.1).
    let field = basic + 3 + 3 + 1;
    if encoded[field - 1] == MessageType::USER_CONTROL.0 {
        // Without an extended timestamp, which those of a log never have; the
        // event's type comes first (RTMP 1.0 §7.1.7).
        let event = field + 4 + 2;
        encoded[event..event + 4].copy_from_slice(&stream_id.to_be_bytes());
        return;
    }
    encoded[field..field + 4].copy_from_slice(&stream_id.to_le_bytes());
}

/// Writes messages as chunks whose headers leave out what has not changed
/// since the last message of their chunk stream.
///
/// For the one receiver that gets every message from the first on.
#[derive(Debug, Serialize, Deserialize)]
pub struct ChunkWriter {
    chunk_size: u32,
    last: Vec<(u32, LastHeader)>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct LastHeader {
    timestamp: u32,
    stream_id: u32,
    length: usize,
    type_id: u8,
}

impl Default for ChunkWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkWriter {
    /// A writer of chunks of [`DEFAULT_CHUNK_SIZE`].
    pub fn new() -> ChunkWriter {
        ChunkWriter {
            chunk_size: DEFAULT_CHUNK_SIZE,
            last: Vec::new(),
        }
    }

    /// Writes longer or shorter chunks from now on; the peer has to be told
    /// first, by Set Chunk Size.
    pub fn set_chunk_size(&mut self, bytes: u32) {
        self.chunk_size = bytes;
    }

    /// The present chunk size, in bytes.
    pub fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    /// Appends `message` on chunk stream `csid`.
    ///
    /// # Panics
    /// As [`encode_message`] does.
    pub fn write(&mut self, message: &Message, csid: u32, out: &mut impl BufMut) {
        let header = LastHeader {
            timestamp: message.timestamp,
            stream_id: message.stream_id,
            length: message.payload.len(),
            type_id: message.message_type.0,
        };
        let last = match self.last.iter_mut().find(|(id, _)| *id == csid) {
            Some((_, last)) => Some(std::mem::replace(last, header)),
            None => {
                self.last.push((csid, header));
                None
            }
        };
        // A message never begins with format 3: its meaning after format 0 is
        // read differently by different peers.
        let (format, time_field) = match last {
            Some(last)
                if last.stream_id == header.stream_id && last.timestamp <= header.timestamp =>
            {
                let same = last.length == header.length && last.type_id == header.type_id;
                (if same { 2 } else { 1 }, header.timestamp - last.timestamp)
            }
            _ => (0, header.timestamp),
        };
        put_basic_header(format, csid, out);
        put_message_header(format, time_field, message, out);
        put_payload(time_field, message, self.chunk_size, csid, out);
    }
}

fn put_basic_header(format: u8, csid: u32, out: &mut impl BufMut) {
    let format = format << 6;
    match csid {
        0..64 => out.put_u8(format | csid as u8),
        64..320 => {
            out.put_u8(format);
            out.put_u8((csid - 64) as u8);
        }
        _ => {
            out.put_u8(format | 1);
            out.put_u16_le((csid - 64) as u16);
        }
    }
}

fn put_message_header(format: u8, time_field: u32, message: &Message, out: &mut impl BufMut) {
    assert!(
        message.payload.len() <= MAX_MESSAGE_LEN,
        "a message of 16 MB or more"
    );
    put_u24(time_field.min(EXTENDED), out);
    if format < 2 {
        put_u24(message.payload.len() as u32, out);
        out.put_u8(message.message_type.0);
    }
    if format < 1 {
        out.put_u32_le(message.stream_id);
    }
    if time_field >= EXTENDED {
        out.put_u32(time_field);
    }
}

fn put_payload(
    time_field: u32,
    message: &Message,
    chunk_size: u32,
    csid: u32,
    out: &mut impl BufMut,
) {
    for (index, chunk) in message.payload.chunks(chunk_size as usize).enumerate() {
        if index > 0 {
            put_basic_header(3, csid, out);
            if time_field >= EXTENDED {
                out.put_u32(time_field);
            }
        }
        out.put_slice(chunk);
    }
}

fn put_u24(value: u32, out: &mut impl BufMut) {
    out.put_slice(&value.to_be_bytes()[1..]);
}
