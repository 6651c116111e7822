//! Steps through an FLV stream by its tags' headers: payload is not copied but
//! for the first bytes of each tag.
//!
//! Source: Adobe's *Video File Format Specification* 10.1, Annex E.

use crc32fast::Hasher;

use crate::{chunks::HEAD_BYTES, media::message_type};

/// Bytes of a tag's header.
const TAG_HEADER_BYTES: usize = 11;
/// Bytes of the file's header with the size of the tag before the first (0).
const FILE_HEADER_BYTES: usize = 9 + 4;
const SIZE_BYTES: usize = 4;

/// A tag that has arrived completely.
#[derive(Debug)]
pub(crate) struct Tag<'a> {
    /// 8 audio, 9 video, 18 data.
    pub type_id: u8,
    /// Milliseconds, wrapping at 2³².
    pub timestamp: u32,
    /// The first [`HEAD_BYTES`] of the payload.
    pub head: &'a [u8],
    /// Checksum of the payload behind `head`, where checksums were asked for.
    pub tail: Option<Hasher>,
}

/// A server's bytes that are no FLV.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum FlvError {
    /// The stream does not begin as FLV does.
    #[error("the stream does not begin with an FLV header of version 1")]
    Header,
    /// A tag of an unknown type, or with bits that have to be zero.
    #[error("the server sent an FLV tag of type {0:#04x}")]
    Type(u8),
    /// A stream id, which is always 0.
    #[error("the server sent an FLV tag with stream id {0}, which has to be 0")]
    StreamId(u32),
    /// The size behind a tag is not that of the tag.
    #[error("the server sent an FLV tag of {tag} bytes and said that it had {said}")]
    PreviousTagSize {
        /// Bytes of the tag with its header.
        tag: u32,
        /// The field behind it.
        said: u32,
    },
}

/// The part of the stream that is being read.
///
/// ```text
/// FileHeader ─▶ TagHeader ─▶ Payload ─▶ Size ─▶ TagHeader
/// ```
#[derive(Debug, Clone, Copy)]
enum Part {
    FileHeader,
    TagHeader,
    Payload { remaining: u32 },
    Size,
}

/// Steps through a stream; see the module's description.
#[derive(Debug)]
pub(crate) struct FlvWalker {
    checksums: bool,
    part: Part,
    /// A header or size that is not complete.
    partial: Vec<u8>,
    type_id: u8,
    timestamp: u32,
    length: u32,
    head: Vec<u8>,
    tail: Option<Hasher>,
}

impl FlvWalker {
    /// Begins at the first byte of the stream. `checksums` makes it read (though
    /// not copy) the payload.
    pub(crate) fn new(checksums: bool) -> Self {
        Self {
            checksums,
            part: Part::FileHeader,
            partial: Vec::new(),
            type_id: 0,
            timestamp: 0,
            length: 0,
            head: Vec::new(),
            tail: None,
        }
    }

    /// Takes bytes as they came and calls `sink` for each tag that they
    /// complete.
    ///
    /// # Errors
    /// If they are no FLV.
    pub(crate) fn walk(
        &mut self,
        mut bytes: &[u8],
        mut sink: impl FnMut(Tag<'_>),
    ) -> Result<(), FlvError> {
        while !bytes.is_empty() {
            match self.part {
                Part::FileHeader => {
                    if self.gather(&mut bytes, FILE_HEADER_BYTES) {
                        self.file_header()?;
                        self.part = Part::TagHeader;
                    }
                }
                Part::TagHeader => {
                    if self.gather(&mut bytes, TAG_HEADER_BYTES) {
                        self.tag_header()?;
                        self.part = match self.length {
                            0 => Part::Size,
                            remaining => Part::Payload { remaining },
                        };
                    }
                }
                Part::Payload { remaining } => {
                    let count = bytes.len().min(remaining as usize);
                    let (payload, rest) = bytes.split_at(count);
                    bytes = rest;
                    self.payload(payload);
                    self.part = match remaining - count as u32 {
                        0 => Part::Size,
                        remaining => Part::Payload { remaining },
                    };
                }
                Part::Size => {
                    if self.gather(&mut bytes, SIZE_BYTES) {
                        self.finish(&mut sink)?;
                        self.part = Part::TagHeader;
                    }
                }
            }
        }
        Ok(())
    }

    /// Fills the partial field up; true if it is complete.
    fn gather(&mut self, bytes: &mut &[u8], wanted: usize) -> bool {
        let count = bytes.len().min(wanted - self.partial.len());
        let (taken, rest) = bytes.split_at(count);
        self.partial.extend_from_slice(taken);
        *bytes = rest;
        self.partial.len() == wanted
    }

    fn file_header(&mut self) -> Result<(), FlvError> {
        let is_flv =
            self.partial.starts_with(b"FLV\x01") && self.partial[5..] == [0, 0, 0, 9, 0, 0, 0, 0];
        self.partial.clear();
        is_flv.then_some(()).ok_or(FlvError::Header)
    }

    fn tag_header(&mut self) -> Result<(), FlvError> {
        let field = |at: usize, bytes: usize| {
            self.partial[at..at + bytes]
                .iter()
                .fold(0_u32, |value, byte| value << 8 | u32::from(*byte))
        };
        let (type_id, length, stream_id) = (self.partial[0], field(1, 3), field(8, 3));
        // The fourth byte of the time is its highest (§E.4.1).
        let timestamp = u32::from(self.partial[7]) << 24 | field(4, 3);
        if ![
            message_type::AUDIO,
            message_type::VIDEO,
            message_type::DATA_AMF0,
        ]
        .contains(&type_id)
        {
            return Err(FlvError::Type(type_id));
        }
        if stream_id != 0 {
            return Err(FlvError::StreamId(stream_id));
        }
        (self.type_id, self.timestamp, self.length) = (type_id, timestamp, length);
        self.partial.clear();
        self.head.clear();
        self.tail = self.checksums.then(Hasher::new);
        Ok(())
    }

    fn payload(&mut self, payload: &[u8]) {
        let room = HEAD_BYTES
            .saturating_sub(self.head.len())
            .min(payload.len());
        let (head, tail) = payload.split_at(room);
        self.head.extend_from_slice(head);
        if let Some(hasher) = &mut self.tail {
            hasher.update(tail);
        }
    }

    fn finish(&mut self, sink: &mut impl FnMut(Tag<'_>)) -> Result<(), FlvError> {
        let size = self.partial.first_chunk::<4>();
        let said = size.map_or(0, |size| u32::from_be_bytes(*size));
        self.partial.clear();
        let tag = self.length + TAG_HEADER_BYTES as u32;
        if said != tag {
            return Err(FlvError::PreviousTagSize { tag, said });
        }
        sink(Tag {
            type_id: self.type_id,
            timestamp: self.timestamp,
            head: &self.head,
            tail: self.tail.take(),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(tags: &[(u8, u32, &[u8])]) -> Vec<u8> {
        let mut bytes = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
        for (type_id, timestamp, payload) in tags {
            bytes.push(*type_id);
            bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
            bytes.extend_from_slice(&timestamp.to_be_bytes()[1..]);
            bytes.push((timestamp >> 24) as u8);
            bytes.extend_from_slice(&[0; 3]);
            bytes.extend_from_slice(payload);
            bytes.extend_from_slice(&(payload.len() as u32 + 11).to_be_bytes());
        }
        bytes
    }

    type Read = Vec<(u8, u32, Vec<u8>, u32)>;

    fn read(bytes: &[u8], step: usize) -> Result<Read, FlvError> {
        let mut walker = FlvWalker::new(true);
        let mut tags = Vec::new();
        for bytes in bytes.chunks(step) {
            walker.walk(bytes, |tag| {
                let checksum = tag.tail.expect("asked for").finalize();
                tags.push((tag.type_id, tag.timestamp, tag.head.to_vec(), checksum));
            })?;
        }
        Ok(tags)
    }

    #[test]
    fn tags_are_read_however_they_are_cut() {
        let long: Vec<u8> = (0..=255).collect();
        let bytes = stream(&[(18, 0, b"data"), (9, 0x0100_0002, &long), (8, 7, b"")]);
        for step in 1..bytes.len() {
            let tags = read(&bytes, step).unwrap();
            assert_eq!(tags[0], (18, 0, b"data".to_vec(), crc32fast::hash(b"")));
            let (head, tail) = long.split_at(HEAD_BYTES);
            assert_eq!(
                tags[1],
                (9, 0x0100_0002, head.to_vec(), crc32fast::hash(tail))
            );
            assert_eq!((tags[2].0, tags.len()), (8, 3));
        }
    }

    #[test]
    fn bytes_that_are_no_flv_are_refused() {
        let good = stream(&[(9, 0, b"picture")]);
        for (at, byte, expected) in [
            (0, b'X', FlvError::Header),
            (13, 0x29, FlvError::Type(0x29)),
            (23, 1, FlvError::StreamId(1)),
            (34, 19, FlvError::PreviousTagSize { tag: 18, said: 19 }),
        ] {
            let mut bytes = good.clone();
            bytes[at] = byte;
            assert_eq!(read(&bytes, 1000).unwrap_err(), expected);
        }
    }
}
