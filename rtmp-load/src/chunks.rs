//! Reads a server's chunk stream by its headers alone: payload is stepped over,
//! not copied, but for the first bytes of a media message and the whole of a
//! small control message or command.
//!
//! This is deliberately not the chunk reader of the servers under test. Source:
//! *RTMP 1.0* §5.3.

use crc32fast::Hasher;

/// Number of bytes at the start of a media message that are kept: the FLV tag
/// header and a stamp fit, also behind an access unit delimiter.
pub(crate) const HEAD_BYTES: usize = 96;
/// The longest control message or command that is kept whole.
const WHOLE_BYTES: usize = 64 * 1024;
/// The longest message that is believed.
const MESSAGE_BYTES: u32 = 16 * 1024 * 1024;
/// The most chunk streams that a server may use.
const CHUNK_STREAMS: usize = 64;
/// The chunk size before anyone sets another (§5.4.1).
const DEFAULT_CHUNK_BYTES: u32 = 128;
/// Three bytes of basic header, eleven of message header, four of time.
const MAX_HEADER: usize = 18;
/// Stands in the 24-bit time field when the time follows in 32 bits.
const EXTENDED: u32 = 0x00ff_ffff;

const SET_CHUNK_SIZE: u8 = 1;
const ABORT: u8 = 2;

/// A message that has arrived completely.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    /// The message type, RTMP 1.0 §6.1.1 and §5.4.
    pub type_id: u8,
    /// The message stream that it belongs to; 0 is the connection itself.
    pub stream_id: u32,
    /// Milliseconds, wrapping at 2³².
    pub timestamp: u32,
    /// Bytes of the whole payload.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "tests compare it with what was sent")
    )]
    pub length: u32,
    /// The first [`HEAD_BYTES`] of audio and video, everything of the rest.
    pub head: &'a [u8],
    /// Checksum of the payload behind `head`, where checksums were asked for.
    pub tail: Option<Hasher>,
}

/// A server's bytes that are not a chunk stream.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ChunkError {
    /// A compressed header on a chunk stream that never had a full one.
    #[error(
        "the server sent a type {format} chunk header on chunk stream {id}, which never had a full one"
    )]
    NoPrecedingHeader {
        /// The header's format, 1 to 3.
        format: u8,
        /// The chunk stream id.
        id: u32,
    },
    /// A length that no message has.
    #[error("the server announced a message of {0} bytes; 16 MB is the most that is believed")]
    MessageTooLong(u32),
    /// A control message or command that is too long to be kept.
    #[error(
        "the server sent a message of type {type_id} with {length} bytes; 64 kB is the most that is kept"
    )]
    CommandTooLong {
        /// The message type.
        type_id: u8,
        /// Its announced length.
        length: u32,
    },
    /// More chunk streams than anyone uses.
    #[error("the server uses more than {CHUNK_STREAMS} chunk streams")]
    TooManyChunkStreams,
    /// A chunk size that the protocol does not allow.
    #[error("the server set a chunk size of {0}")]
    BadChunkSize(u32),
    /// A new message began on a chunk stream before the old one had ended.
    #[error("the server began a message on chunk stream {0} before the one before it was complete")]
    Unfinished(u32),
}

/// Steps through a chunk stream; see the module's description.
#[derive(Debug)]
pub(crate) struct ChunkWalker {
    chunk_bytes: u32,
    checksums: bool,
    streams: Vec<ChunkStream>,
    /// Header bytes of the chunk that is being opened.
    header: [u8; MAX_HEADER],
    header_len: usize,
    /// Index of the chunk stream whose payload is being read, and how much of
    /// its chunk is still to come.
    open: Option<(usize, u32)>,
}

#[derive(Debug)]
struct ChunkStream {
    id: u32,
    timestamp: u32,
    /// The last time field: an absolute time after a full header, a delta after
    /// a compressed one. A message without header adds it (§5.3.1.2.4).
    time_field: u32,
    extended: bool,
    length: u32,
    type_id: u8,
    stream_id: u32,
    /// Payload bytes of the unfinished message; 0 between messages.
    received: u32,
    head: Vec<u8>,
    tail: Option<Hasher>,
}

impl ChunkStream {
    fn keeps(&self) -> usize {
        match self.type_id {
            8 | 9 => HEAD_BYTES,
            _ => WHOLE_BYTES,
        }
    }
}

impl ChunkWalker {
    /// Begins at the first byte behind the handshake. `checksums` makes it
    /// read (though not copy) the payload of media messages.
    pub(crate) fn new(checksums: bool) -> Self {
        Self {
            chunk_bytes: DEFAULT_CHUNK_BYTES,
            checksums,
            streams: Vec::new(),
            header: [0; MAX_HEADER],
            header_len: 0,
            open: None,
        }
    }

    /// Takes bytes as they came and calls `sink` for each message that they
    /// complete. An error of the walker or the sink ends the connection.
    pub(crate) fn walk<E: From<ChunkError>>(
        &mut self,
        bytes: &[u8],
        mut sink: impl FnMut(Message<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.step(bytes, &mut sink)
    }

    fn step<E, S>(&mut self, mut bytes: &[u8], sink: &mut S) -> Result<(), E>
    where
        E: From<ChunkError>,
        S: FnMut(Message<'_>) -> Result<(), E>,
    {
        loop {
            match self.open {
                Some((index, remaining)) => {
                    let take = bytes.len().min(remaining as usize);
                    let (payload, rest) = bytes.split_at(take);
                    bytes = rest;
                    self.payload(index, payload);
                    if take < remaining as usize {
                        self.open = Some((index, remaining - take as u32));
                        return Ok(());
                    }
                    self.open = None;
                    self.finish(index, sink)?;
                }
                None => {
                    let held = self.header_len;
                    let Some(length) = self.open_chunk(bytes)? else {
                        return Ok(());
                    };
                    // A message without payload ends with its header.
                    if let Some((index, 0)) = self.open {
                        self.open = None;
                        self.finish(index, sink)?;
                    }
                    if length >= held {
                        bytes = &bytes[length - held..];
                    } else {
                        // Bytes were held back in case they were a repeated
                        // time, and proved to be payload.
                        let header = self.header;
                        self.step(&header[length..held], sink)?;
                    }
                }
            }
        }
    }

    /// Opens the next chunk once its whole header is there, and says how long
    /// that was; `None` holds the bytes until the next call.
    fn open_chunk(&mut self, bytes: &[u8]) -> Result<Option<usize>, ChunkError> {
        let held = self.header_len;
        let take = bytes.len().min(MAX_HEADER - held);
        self.header[held..held + take].copy_from_slice(&bytes[..take]);
        let length = self.parse_header(held + take)?;
        self.header_len = if length.is_some() { 0 } else { held + take };
        Ok(length)
    }

    /// Reads a chunk header from the first `known` bytes of `self.header`;
    /// `None` if it needs more.
    fn parse_header(&mut self, known: usize) -> Result<Option<usize>, ChunkError> {
        let header = self.header;
        let field = |at: usize, bytes: usize| {
            header[at..at + bytes]
                .iter()
                .fold(0_u32, |value, &byte| value << 8 | u32::from(byte))
        };
        if known == 0 {
            return Ok(None);
        }
        let format = header[0] >> 6;
        let basic = match header[0] & 0x3f {
            0 => 2,
            1 => 3,
            _ => 1,
        };
        let message = [11, 7, 3, 0][usize::from(format)];
        let mut length = basic + message;
        if known < length {
            return Ok(None);
        }
        let id = match basic {
            1 => u32::from(header[0] & 0x3f),
            2 => 64 + u32::from(header[1]),
            _ => 64 + u32::from(header[1]) + 256 * u32::from(header[2]),
        };
        let index = self.streams.iter().position(|stream| stream.id == id);
        if format != 0 && index.is_none() {
            return Err(ChunkError::NoPrecedingHeader { format, id });
        }
        let continues = index.is_some_and(|index| self.streams[index].received > 0);
        if continues && format != 3 {
            return Err(ChunkError::Unfinished(id));
        }

        let extended = match index {
            Some(index) if format == 3 => self.streams[index].extended,
            _ => field(basic, 3) == EXTENDED,
        };
        let mut time_field = match index {
            Some(index) if format == 3 => self.streams[index].time_field,
            _ => field(basic, 3),
        };
        if extended {
            // Some senders repeat the extended time on chunks without header,
            // some do not: it was repeated if the same value stands there.
            if known < length + 4 {
                return Ok(None);
            }
            let value = field(length, 4);
            if format != 3 || value == time_field {
                time_field = value;
                length += 4;
            }
        }

        let index = match index {
            Some(index) => index,
            None if self.streams.len() == CHUNK_STREAMS => {
                return Err(ChunkError::TooManyChunkStreams);
            }
            None => {
                self.streams.push(ChunkStream {
                    id,
                    timestamp: 0,
                    time_field: 0,
                    extended: false,
                    length: 0,
                    type_id: 0,
                    stream_id: 0,
                    received: 0,
                    head: Vec::new(),
                    tail: None,
                });
                self.streams.len() - 1
            }
        };
        let stream = &mut self.streams[index];
        if !continues {
            stream.extended = extended;
            stream.time_field = time_field;
            stream.timestamp = match format {
                0 => time_field,
                _ => stream.timestamp.wrapping_add(time_field),
            };
            if format <= 1 {
                stream.length = field(basic + 3, 3);
                stream.type_id = header[basic + 6];
            }
            if format == 0 {
                let id = &header[basic + 7..basic + 11];
                stream.stream_id = u32::from_le_bytes(id.try_into().expect("four bytes"));
            }
            if stream.length > MESSAGE_BYTES {
                return Err(ChunkError::MessageTooLong(stream.length));
            }
            if stream.keeps() == WHOLE_BYTES && stream.length as usize > WHOLE_BYTES {
                let (type_id, length) = (stream.type_id, stream.length);
                return Err(ChunkError::CommandTooLong { type_id, length });
            }
            stream.head.clear();
            stream.tail = (self.checksums && stream.keeps() == HEAD_BYTES).then(Hasher::new);
        }
        self.open = Some((
            index,
            (stream.length - stream.received).min(self.chunk_bytes),
        ));
        Ok(Some(length))
    }

    fn payload(&mut self, index: usize, payload: &[u8]) {
        let stream = &mut self.streams[index];
        stream.received += payload.len() as u32;
        let room = stream
            .keeps()
            .saturating_sub(stream.head.len())
            .min(payload.len());
        let (head, tail) = payload.split_at(room);
        stream.head.extend_from_slice(head);
        if let Some(hasher) = &mut stream.tail {
            hasher.update(tail);
        }
    }

    /// A chunk has ended; if its message has too, hands it on.
    fn finish<E: From<ChunkError>>(
        &mut self,
        index: usize,
        sink: &mut impl FnMut(Message<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let stream = &mut self.streams[index];
        if stream.received < stream.length {
            return Ok(());
        }
        stream.received = 0;
        let (type_id, head) = (stream.type_id, std::mem::take(&mut stream.head));
        let message = Message {
            type_id,
            stream_id: stream.stream_id,
            timestamp: stream.timestamp,
            length: stream.length,
            head: &head,
            tail: stream.tail.take(),
        };
        sink(message)?;
        match (type_id, head.first_chunk::<4>()) {
            (SET_CHUNK_SIZE, Some(size)) => match u32::from_be_bytes(*size) {
                size @ 1..=0x7fff_ffff => self.chunk_bytes = size,
                size => return Err(ChunkError::BadChunkSize(size).into()),
            },
            (ABORT, Some(id)) => self.abort(u32::from_be_bytes(*id)),
            _ => {}
        }
        // The buffer is kept for the next message of the chunk stream.
        self.streams[index].head = head;
        Ok(())
    }

    fn abort(&mut self, id: u32) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id) {
            stream.received = 0;
        }
    }
}

#[cfg(test)]
mod tests;
