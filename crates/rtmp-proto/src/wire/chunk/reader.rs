//! Chunks to messages.

use bytes::BytesMut;
use serde::{Deserialize, Serialize};

use super::header::DEFAULT_CHUNK_SIZE;
use super::header::{BasicHeader, MAX_HEADER_LEN, MessageHeader};
use crate::wire::limits::{Limit, Limits};
use crate::wire::message::{Control, Message, MessageType};

/// The reason for which a connection's chunks cannot be read any further.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChunkError {
    /// A chunk of format 2 or 3 on a chunk stream that has not yet had a
    /// message whose length and type it could take over.
    #[error("chunk stream {chunk_stream_id} begins with a format {format} header")]
    NoHeaderToContinue {
        /// The chunk stream.
        chunk_stream_id: u32,
        /// The header's format, 2 or 3.
        format: u8,
    },
    /// Set Chunk Size with 0, or with the first bit set (RTMP 1.0 §5.4.1).
    #[error("the peer set its chunk size to {0}; expected 1 to 2147483647")]
    ChunkSize(u32),
    /// More than the connection may have.
    #[error("limit exceeded: more than {allowed} {limit}")]
    Limit {
        /// The limit.
        limit: Limit,
        /// Its value.
        allowed: u32,
    },
}

/// Turns the bytes of one direction of a connection into messages.
///
/// Bytes go in as they come, cut anywhere; each payload byte is copied once,
/// into its message. Between messages the reader holds some 60 bytes per chunk
/// stream that was used, and no buffer.
///
/// Messages that govern the chunk layer itself (Set Chunk Size, Abort, Window
/// Acknowledgement Size) take effect here and are delivered like all others.
#[derive(Debug, Serialize, Deserialize)]
pub struct ChunkReader {
    streams: Vec<ChunkStream>,
    /// The chunk stream whose chunk is being read, by index.
    current: usize,
    /// Payload of the current chunk that is yet to come, in bytes.
    chunk_left: u32,
    /// True if a header has been read whose payload is not complete.
    in_chunk: bool,
    /// Bytes of a header that came in pieces.
    held: [u8; MAX_HEADER_LEN],
    held_len: u8,
    chunk_size: u32,
    /// Payload bytes of all unfinished messages.
    unfinished: u32,
    max_message_bytes: u32,
    max_unfinished_bytes: u32,
    max_chunk_streams: u32,
    bytes_received: u64,
    acknowledged: u64,
    ack_window: u32,
}

/// The values that later headers of a chunk stream may refer to, and its
/// unfinished message.
#[derive(Debug, Serialize, Deserialize)]
struct ChunkStream {
    id: u32,
    timestamp: u32,
    /// The last timestamp field, which a format 3 header that begins a message
    /// adds once more (RTMP 1.0 §5.3.1.2.4).
    time_field: u32,
    length: u32,
    stream_id: u32,
    message_type: MessageType,
    /// True if the last timestamp field was extended.
    extended: bool,
    /// True if a message has begun that is not complete.
    unfinished: bool,
    #[serde(with = "crate::wire::bytes_format")]
    payload: BytesMut,
}

/// Buffers may be this much larger than all that the peer has sent so far.
const UNEARNED_BYTES: u64 = 64 << 10;

impl ChunkReader {
    /// A reader that expects chunks of [`DEFAULT_CHUNK_SIZE`].
    pub fn new(limits: &Limits) -> ChunkReader {
        ChunkReader {
            streams: Vec::new(),
            current: 0,
            chunk_left: 0,
            in_chunk: false,
            held: [0; MAX_HEADER_LEN],
            held_len: 0,
            chunk_size: DEFAULT_CHUNK_SIZE,
            unfinished: 0,
            max_message_bytes: limits.message_bytes,
            max_unfinished_bytes: limits.unfinished_bytes,
            max_chunk_streams: limits.chunk_streams,
            bytes_received: 0,
            acknowledged: 0,
            ack_window: 0,
        }
    }

    /// Takes bytes off the front of `input` up to the end of the next message,
    /// and returns that message; `None` when all of `input` has been taken and
    /// no further message is complete.
    ///
    /// # Errors
    /// After an error the place in the byte stream is lost: the connection has
    /// to end.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Message>, ChunkError> {
        let before = input.len();
        let result = self.read_message(input);
        self.bytes_received += (before - input.len()) as u64;
        result
    }

    fn read_message(&mut self, input: &mut &[u8]) -> Result<Option<Message>, ChunkError> {
        loop {
            if !self.in_chunk && !self.read_header(input)? {
                return Ok(None);
            }
            if !self.read_payload(input)? {
                return Ok(None);
            }
            let stream = &mut self.streams[self.current];
            if stream.payload.len() < stream.length as usize {
                continue;
            }
            self.unfinished -= stream.payload.len() as u32;
            stream.unfinished = false;
            let message = Message {
                timestamp: stream.timestamp,
                message_type: stream.message_type,
                stream_id: stream.stream_id,
                payload: std::mem::take(&mut stream.payload).freeze(),
            };
            self.obey(&message)?;
            return Ok(Some(message));
        }
    }

    /// Bytes taken so far.
    pub fn bytes_received(&self) -> u64 {
        self.bytes_received
    }

    /// Bytes of memory held for messages that are not complete.
    pub fn buffered_capacity(&self) -> usize {
        self.streams
            .iter()
            .map(|stream| stream.payload.capacity())
            .sum()
    }

    /// Bytes of memory held beside the reader itself.
    pub fn heap_bytes(&self) -> usize {
        self.streams.capacity() * size_of::<ChunkStream>() + self.buffered_capacity()
    }

    /// Asks for an acknowledgement every `bytes`, as a peer's Window
    /// Acknowledgement Size does; 0: none.
    pub fn set_ack_window(&mut self, bytes: u32) {
        self.ack_window = bytes;
    }

    /// The sequence number to acknowledge, if it is time to. Half a window is
    /// time enough, so that the peer never has to wait for it.
    pub fn take_acknowledgement(&mut self) -> Option<u32> {
        let unacknowledged = self.bytes_received - self.acknowledged;
        if self.ack_window == 0 || unacknowledged < u64::from(self.ack_window.div_ceil(2)) {
            return None;
        }
        self.acknowledged = self.bytes_received;
        // The sequence number wraps (RTMP 1.0 §5.4.3 says nothing; all peers
        // do it).
        Some(self.bytes_received as u32)
    }

    /// Reads a chunk header and makes its chunk stream the current one;
    /// `false`: more bytes are needed.
    fn read_header(&mut self, input: &mut &[u8]) -> Result<bool, ChunkError> {
        if self.held_len == 0
            && let Some(len) = self.begin_chunk(input)?
        {
            *input = &input[len..];
            return Ok(true);
        }
        // The header came, or may have come, in pieces: gather it.
        loop {
            let held_len = usize::from(self.held_len);
            let held = self.held;
            if let Some(len) = self.begin_chunk(&held[..held_len])? {
                self.held.copy_within(len..held_len, 0);
                self.held_len = (held_len - len) as u8;
                return Ok(true);
            }
            let Some((&byte, rest)) = input.split_first() else {
                return Ok(false);
            };
            *input = rest;
            self.held[held_len] = byte;
            self.held_len += 1;
        }
    }

    /// Begins a chunk with the header at the front of `bytes`, and returns the
    /// header's length; `None`: more bytes are needed.
    fn begin_chunk(&mut self, bytes: &[u8]) -> Result<Option<usize>, ChunkError> {
        let Some(basic) = BasicHeader::parse(bytes) else {
            return Ok(None);
        };
        let rest = &bytes[basic.len..];
        let known = self.position(basic.chunk_stream_id);
        let header_len = if basic.format == 3 {
            let Some(index) = known else {
                return Err(no_header(basic));
            };
            let Some(len) = self.streams[index].repeated_timestamp_len(rest) else {
                return Ok(None);
            };
            self.current = index;
            let stream = &mut self.streams[index];
            if !stream.unfinished {
                stream.timestamp = stream.timestamp.wrapping_add(stream.time_field);
            }
            len
        } else {
            if basic.format == 2 && known.is_none() {
                return Err(no_header(basic));
            }
            let Some(header) = MessageHeader::parse(basic.format, rest) else {
                return Ok(None);
            };
            self.current = match known {
                Some(index) => index,
                None => self.add_stream(basic.chunk_stream_id)?,
            };
            let stream = &mut self.streams[self.current];
            // A message that was under way here will never be finished.
            self.unfinished -= stream.payload.len() as u32;
            stream.payload = BytesMut::new();
            stream.unfinished = false;
            stream.apply(basic.format, &header);
            header.len
        };
        self.begin_payload()?;
        Ok(Some(basic.len + header_len))
    }

    fn begin_payload(&mut self) -> Result<(), ChunkError> {
        let stream = &mut self.streams[self.current];
        if stream.length > self.max_message_bytes {
            return Err(limit(Limit::MessageBytes, self.max_message_bytes));
        }
        stream.unfinished = true;
        let missing = stream.length - stream.payload.len() as u32;
        self.chunk_left = missing.min(self.chunk_size);
        self.in_chunk = true;
        Ok(())
    }

    /// Reads of the current chunk what there is; `false`: more bytes are
    /// needed.
    fn read_payload(&mut self, input: &mut &[u8]) -> Result<bool, ChunkError> {
        // What was gathered for a header and turned out not to belong to it.
        let held_len = usize::from(self.held_len);
        if held_len > 0 {
            let held = self.held;
            let taken = held_len.min(self.chunk_left as usize);
            self.append(&held[..taken])?;
            self.held.copy_within(taken..held_len, 0);
            self.held_len -= taken as u8;
        }
        let (payload, rest) = input.split_at(input.len().min(self.chunk_left as usize));
        *input = rest;
        self.append(payload)?;
        self.in_chunk = self.chunk_left > 0;
        Ok(!self.in_chunk)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), ChunkError> {
        let stream = &self.streams[self.current];
        let length = stream.length as usize;
        if self.unfinished as usize + bytes.len() > self.max_unfinished_bytes as usize {
            return Err(limit(Limit::UnfinishedBytes, self.max_unfinished_bytes));
        }
        let needed = stream.payload.len() + bytes.len();
        if stream.payload.capacity() < needed {
            // A buffer of the announced length, so that nothing is moved
            // later; but only for a peer that has sent as much before. For
            // others it grows with what arrives.
            let earned = self.bytes_received + UNEARNED_BYTES;
            let capacity = if (self.buffered_capacity() + length) as u64 <= earned {
                length
            } else {
                needed.max(2 * (needed - bytes.len())).min(length)
            };
            grow(&mut self.streams[self.current].payload, capacity);
        }
        let stream = &mut self.streams[self.current];
        stream.payload.extend_from_slice(bytes);
        self.unfinished += bytes.len() as u32;
        self.chunk_left -= bytes.len() as u32;
        Ok(())
    }

    fn obey(&mut self, message: &Message) -> Result<(), ChunkError> {
        match Control::parse(message) {
            Some(Control::SetChunkSize(size)) => {
                if size == 0 || size > i32::MAX as u32 {
                    return Err(ChunkError::ChunkSize(size));
                }
                self.chunk_size = size;
            }
            Some(Control::Abort(chunk_stream_id)) => {
                if let Some(index) = self.position(chunk_stream_id) {
                    let stream = &mut self.streams[index];
                    self.unfinished -= stream.payload.len() as u32;
                    stream.payload = BytesMut::new();
                    stream.unfinished = false;
                }
            }
            Some(Control::WindowAckSize(bytes)) => self.ack_window = bytes,
            _ => {}
        }
        Ok(())
    }

    fn position(&self, chunk_stream_id: u32) -> Option<usize> {
        self.streams
            .iter()
            .position(|stream| stream.id == chunk_stream_id)
    }

    fn add_stream(&mut self, id: u32) -> Result<usize, ChunkError> {
        if self.streams.len() >= self.max_chunk_streams as usize {
            return Err(limit(Limit::ChunkStreams, self.max_chunk_streams));
        }
        self.streams.reserve_exact(1);
        self.streams.push(ChunkStream {
            id,
            timestamp: 0,
            time_field: 0,
            length: 0,
            stream_id: 0,
            message_type: MessageType(0),
            extended: false,
            unfinished: false,
            payload: BytesMut::new(),
        });
        Ok(self.streams.len() - 1)
    }
}

impl ChunkStream {
    fn apply(&mut self, format: u8, header: &MessageHeader) {
        self.time_field = header.time_field;
        self.extended = header.extended;
        self.timestamp = match format {
            0 => header.time_field,
            _ => self.timestamp.wrapping_add(header.time_field),
        };
        if let Some((length, message_type)) = header.length_and_type {
            self.length = length;
            self.message_type = MessageType(message_type);
        }
        if let Some(stream_id) = header.stream_id {
            self.stream_id = stream_id;
        }
    }

    /// Number of bytes of extended timestamp that stand after a format 3 basic
    /// header, 0 or 4; `None`: more bytes are needed to tell.
    ///
    /// The specification wants it repeated (§5.3.1.3), ffmpeg and others do so,
    /// older librtmp and others do not. If the bytes are those of the
    /// timestamp, it is one; some peers repeat the field, some the message's
    /// own timestamp where the field was a difference.
    fn repeated_timestamp_len(&self, rest: &[u8]) -> Option<usize> {
        if !self.extended {
            return Some(0);
        }
        let timestamp = match self.unfinished {
            true => self.timestamp,
            false => self.timestamp.wrapping_add(self.time_field),
        };
        let seen = &rest[..rest.len().min(4)];
        let may_be = |value: u32| value.to_be_bytes().starts_with(seen);
        if !may_be(self.time_field) && !may_be(timestamp) {
            Some(0)
        } else if seen.len() == 4 {
            Some(4)
        } else {
            None
        }
    }
}

/// Makes room for `capacity` bytes in all, in one step.
fn grow(payload: &mut BytesMut, capacity: usize) {
    let mut grown = BytesMut::with_capacity(capacity);
    grown.extend_from_slice(payload);
    *payload = grown;
}

fn no_header(basic: BasicHeader) -> ChunkError {
    ChunkError::NoHeaderToContinue {
        chunk_stream_id: basic.chunk_stream_id,
        format: basic.format,
    }
}

fn limit(limit: Limit, allowed: u32) -> ChunkError {
    ChunkError::Limit { limit, allowed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_acknowledged_number_wraps_at_two_to_the_32() {
        let mut reader = ChunkReader::new(&Limits::default());
        reader.set_ack_window(2_000);
        // As after 4 GB less 1500 bytes, all of it acknowledged.
        reader.bytes_received = (1 << 32) - 1_500;
        reader.acknowledged = reader.bytes_received;
        let message = [&[6, 0, 0, 0, 0, 0, 128, 9, 1, 0, 0, 0][..], &[0; 128]].concat();
        let mut acknowledged = Vec::new();
        for _ in 0..25 {
            reader.read(&mut &message[..]).unwrap().unwrap();
            acknowledged.extend(reader.take_acknowledgement());
        }
        // Every eighth message of 140 bytes passes half the window.
        let expected = [u32::MAX - 1_499 + 1_120, 740, 1_860];
        assert_eq!(acknowledged, expected);
        assert_eq!(reader.bytes_received(), (1 << 32) + 2_000);
    }
}
