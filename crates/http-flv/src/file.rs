//! Reading of FLV files.

use crate::tag::{FILE_HEADER_BYTES, TAG_HEADER_BYTES, TagKind};

/// A tag of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag<'a> {
    /// Its kind.
    pub kind: TagKind,
    /// Its time, ms.
    pub timestamp: u32,
    /// What it holds.
    pub payload: &'a [u8],
}

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It does not begin as FLV files do.
    #[error("it is no FLV file: it does not begin with `FLV` and version 1")]
    NotFlv,
    /// It ends within a tag.
    #[error("it ends within the tag at byte {0}")]
    Truncated(usize),
    /// A tag is of no known kind, or encrypted.
    #[error("there is no tag of sound, video or data at byte {0}")]
    UnknownTag(usize),
}

/// What stands before a tag's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TagHeader {
    /// Its kind.
    pub kind: TagKind,
    /// Its time, ms.
    pub timestamp: u32,
    /// Length of the payload in bytes, which is at most 2²⁴-1. Behind it stand four more: the
    /// length of the tag.
    pub length: usize,
}

impl TagHeader {
    /// Reads it (FLV E.4.1); `None` if the tag is of no known kind, or encrypted.
    #[must_use]
    pub fn parse(header: &[u8; TAG_HEADER_BYTES]) -> Option<Self> {
        let &[kind, l0, l1, l2, t0, t1, t2, extension, ..] = header;
        let kind = match kind {
            8 => TagKind::Audio,
            9 => TagKind::Video,
            18 => TagKind::Script,
            _ => return None,
        };
        Some(Self {
            kind,
            timestamp: u32::from_be_bytes([extension, t0, t1, t2]),
            length: u32::from_be_bytes([0, l0, l1, l2]) as usize,
        })
    }
}

/// The place of the first tag in a file that begins with these bytes; `None` if it is no FLV
/// file.
#[must_use]
pub fn first_tag(header: &[u8; FILE_HEADER_BYTES]) -> Option<usize> {
    let &[.., l0, l1, l2, l3] = header.first_chunk::<9>()?;
    let length = u32::from_be_bytes([l0, l1, l2, l3]);
    let length = usize::try_from(length)
        .ok()
        .filter(|_| header.starts_with(b"FLV\x01"));
    // Behind the header stands the length of a tag before the first: 0.
    let offset = length.and_then(|length| length.checked_add(4));
    offset.filter(|&offset| offset >= FILE_HEADER_BYTES)
}

/// The tags of a file, in order; after an error there are no more.
#[derive(Debug)]
pub struct Tags<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Tags<'a> {
    /// The tags of the file that holds `bytes`.
    ///
    /// # Errors
    /// It is no FLV file.
    pub fn new(bytes: &'a [u8]) -> Result<Self, FileError> {
        let offset = bytes.first_chunk().and_then(first_tag);
        offset
            .filter(|&offset| offset <= bytes.len())
            .map(|offset| Self { bytes, offset })
            .ok_or(FileError::NotFlv)
    }

    fn read(&mut self) -> Result<Option<Tag<'a>>, FileError> {
        let offset = self.offset;
        let rest = self.bytes.get(offset..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let truncated = FileError::Truncated(offset);
        let (header, rest) = rest
            .split_first_chunk::<TAG_HEADER_BYTES>()
            .ok_or(truncated)?;
        let TagHeader {
            kind,
            timestamp,
            length,
        } = TagHeader::parse(header).ok_or(FileError::UnknownTag(offset))?;
        let payload = rest.get(..length).ok_or(truncated)?;
        // The last tag's own length may be missing.
        self.offset = offset + TAG_HEADER_BYTES + length + 4;
        Ok(Some(Tag {
            kind,
            timestamp,
            payload,
        }))
    }
}

impl<'a> Iterator for Tags<'a> {
    type Item = Result<Tag<'a>, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read();
        if read.is_err() {
            self.offset = self.bytes.len();
        }
        read.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tag::{file_header, write_tag};

    fn file(tags: &[(TagKind, u32, &[u8])]) -> Vec<u8> {
        let mut file = file_header(true, true).to_vec();
        for &(kind, timestamp, payload) in tags {
            write_tag(kind, timestamp, payload, &mut file);
        }
        file
    }

    #[test]
    fn the_tags_that_were_written_are_read() {
        let written: [(TagKind, u32, &[u8]); 3] = [
            (TagKind::Script, 0, b"\x02"),
            (TagKind::Video, 0x0102_0304, &[0x17, 1]),
            (TagKind::Audio, 5, &[]),
        ];
        let file = file(&written);
        let read: Vec<_> = Tags::new(&file)
            .unwrap()
            .map(|tag| tag.map(|tag| (tag.kind, tag.timestamp, tag.payload)))
            .collect();
        assert_eq!(read, written.map(Ok));
    }

    #[test]
    fn a_wrong_file_is_refused_with_the_place() {
        assert_eq!(Tags::new(b"RIFF").unwrap_err(), FileError::NotFlv);
        assert_eq!(Tags::new(&[0; 100]).unwrap_err(), FileError::NotFlv);
        let whole = file(&[(TagKind::Video, 0, &[0x17, 1, 2, 3])]);
        let short = &whole[..whole.len() - 5];
        let read: Vec<_> = Tags::new(short).unwrap().collect();
        assert_eq!(read, [Err(FileError::Truncated(13))]);
        let mut other = whole.clone();
        other[13] = 77;
        let read: Vec<_> = Tags::new(&other).unwrap().collect();
        assert_eq!(read, [Err(FileError::UnknownTag(13))]);
    }
}
