//! The answer to a request for a stream over HTTP-FLV (`FLV_CHECK`).

use rtmp_proto::wire::{Message, MessageType};

use crate::http::{Chunks, Head};
use crate::media;

/// Length of the longest body in which media is looked for.
const MAX_BODY_BYTES: usize = 4 << 20;

/// An answer, as far as it has come.
///
/// ```text
/// Head ── status 200 ──▶ Body ── first picture or sound ──▶ (the check is over)
/// ```
#[derive(Debug)]
pub enum Answer {
    /// The head is not whole.
    Head(Vec<u8>),
    /// The body comes.
    Body {
        /// Where it is chunked.
        chunks: Option<Chunks>,
        /// The file that it is.
        flv: Flv,
    },
}

impl Answer {
    /// Takes what has come.
    ///
    /// # Errors
    /// It is no stream.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        match self {
            Self::Head(head) => {
                head.extend(bytes);
                let Some((parsed, length)) = Head::parse(head)? else {
                    return Ok(());
                };
                if parsed.status != 200 {
                    return Err(format!("status {}", parsed.status));
                }
                let rest = head.split_off(length);
                *self = Self::Body {
                    chunks: parsed.is_chunked.then(Chunks::default),
                    flv: Flv::default(),
                };
                self.take(&rest)
            }
            Self::Body { chunks: None, flv } => flv.take(bytes),
            Self::Body {
                chunks: Some(chunks),
                flv,
            } => {
                let taken = chunks.take(bytes, |data| flv.take(data));
                // What comes behind the first picture does not matter, however it is cut.
                if flv.has_media { Ok(()) } else { taken }
            }
        }
    }

    /// True if a picture or sound has come.
    pub fn has_media(&self) -> bool {
        matches!(self, Self::Body { flv, .. } if flv.has_media)
    }
}

/// An FLV file (Adobe Flash Video File Format Specification 10.1, annex E) as far as it has
/// come; of each tag the beginning is kept.
///
/// ```text
/// header ──▶ skipped ──▶ tag ──▶ skipped ──▶ tag ──▶ …
/// ```
#[derive(Debug, Default)]
pub struct Flv {
    /// The beginning of the header or tag that comes.
    bytes: Vec<u8>,
    /// Bytes to pass over before it.
    skip: usize,
    has_header: bool,
    /// True if a picture or sound has come.
    has_media: bool,
    /// Length of all that has come.
    length: usize,
}

/// Length of the file header (E.2), of the `PreviousTagSize` behind it and behind each
/// tag (E.3), and of a tag's header (E.4.1), in bytes.
const FILE_HEADER_BYTES: usize = 9;
const PREVIOUS_TAG_SIZE_BYTES: usize = 4;
const TAG_HEADER_BYTES: usize = 11;

/// Length of the beginning of a payload that shows what it is, in bytes.
const PAYLOAD_HEAD_BYTES: usize = 64;

impl Flv {
    /// # Errors
    /// It is none, or has no media for long.
    fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.length += bytes.len();
        self.bytes.extend(bytes);
        while !self.has_media && self.next()? {}
        if !self.has_media && self.length > MAX_BODY_BYTES {
            return Err(format!("no media in the first {} bytes", self.length));
        }
        Ok(())
    }

    /// Reads a header or a tag; false if its beginning is not there.
    fn next(&mut self) -> Result<bool, String> {
        let skipped = self.skip.min(self.bytes.len());
        self.bytes.drain(..skipped);
        self.skip -= skipped;
        if self.skip > 0 {
            return Ok(false);
        }
        if !self.has_header {
            return self.read_file_header();
        }
        let Some((header, payload)) = self.bytes.split_first_chunk::<TAG_HEADER_BYTES>() else {
            return Ok(false);
        };
        let [kind, length @ ..] = header.first_chunk::<4>().expect("a tag's header is longer");
        let [high, middle, low] = *length;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        let Some(beginning) = payload.get(..length.min(PAYLOAD_HEAD_BYTES)) else {
            return Ok(false);
        };
        self.has_media = media::is_picture_or_sound(&Message {
            timestamp: 0,
            // FLV's numbers are RTMP's; the bits above are for encryption.
            message_type: MessageType(kind & 0x1f),
            stream_id: 0,
            payload: beginning.to_vec().into(),
        });
        self.skip = TAG_HEADER_BYTES + length + PREVIOUS_TAG_SIZE_BYTES;
        Ok(true)
    }

    fn read_file_header(&mut self) -> Result<bool, String> {
        const SIGNATURE: &[u8] = b"FLV";
        let begun = self.bytes.len().min(SIGNATURE.len());
        if self.bytes[..begun] != SIGNATURE[..begun] {
            return Err("the body is not FLV".to_owned());
        }
        let Some((_, length)) = self
            .bytes
            .first_chunk::<FILE_HEADER_BYTES>()
            .and_then(|header| header.split_last_chunk::<4>())
        else {
            return Ok(false);
        };
        let length = u32::from_be_bytes(*length) as usize;
        self.skip = length.max(FILE_HEADER_BYTES) + PREVIOUS_TAG_SIZE_BYTES;
        self.has_header = true;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE_HEADER: &[u8] = b"FLV\x01\x05\0\0\0\x09\0\0\0\0";
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\n\r\n";

    /// A tag with a payload of this length that begins so.
    fn tag(kind: u8, beginning: &[u8], length: u8) -> Vec<u8> {
        let mut tag = vec![kind, 0, 0, length, 0, 0, 0, 0, 0, 0, 0];
        tag.extend(beginning);
        tag.resize(TAG_HEADER_BYTES + usize::from(length), 0);
        tag.extend([0, 0, 0, 11 + length]);
        tag
    }

    fn metadata() -> Vec<u8> {
        tag(18, b"\x02\0\x0aonMetaData", 200)
    }

    /// The parts of an answer in one piece.
    fn joined(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    /// True if media is found in an answer of which `piece` bytes come at a time.
    fn found(answer: &[u8], piece: usize) -> Result<bool, String> {
        let mut taken = Answer::Head(Vec::new());
        for bytes in answer.chunks(piece) {
            taken.take(bytes)?;
        }
        Ok(taken.has_media())
    }

    #[test]
    fn a_picture_or_sound_is_media_and_what_comes_before_is_not() {
        let table: [(&str, Vec<u8>, bool); 9] = [
            ("nothing", Vec::new(), false),
            ("metadata", metadata(), false),
            ("an AVC sequence header", tag(9, &[0x17, 0], 40), false),
            ("an AAC sequence header", tag(8, &[0xaf, 0], 4), false),
            ("an empty tag", tag(8, &[], 0), false),
            ("a keyframe", tag(9, &[0x17, 1], 240), true),
            ("another picture", tag(9, &[0x27, 1], 5), true),
            ("sound", tag(8, &[0xaf, 1], 7), true),
            ("a picture of HEVC", tag(9, b"\x93hvc1", 100), true),
        ];
        for (what, tag, expected) in table {
            let answer = joined(&[OK, FILE_HEADER, &metadata(), &tag]);
            for piece in [1, 7, 100, answer.len()] {
                assert_eq!(
                    found(&answer, piece),
                    Ok(expected),
                    "{what}, {piece} a time"
                );
            }
        }
    }

    #[test]
    fn a_chunked_body_is_read() {
        let body = joined(&[FILE_HEADER, &metadata(), &tag(9, &[0x17, 1], 30)]);
        let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for chunk in body.chunks(50) {
            answer.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
            answer.extend(chunk);
            answer.extend(b"\r\n");
        }
        answer.extend(b"no chunk");
        for piece in [1, 13, 100, answer.len()] {
            assert_eq!(found(&answer, piece), Ok(true), "{piece} a time");
        }
    }

    #[test]
    fn another_status_and_another_body_are_failures() {
        let status = found(b"HTTP/1.1 404 Not Found\r\n\r\n", 100);
        assert_eq!(status, Err("status 404".to_owned()));
        let page = found(&joined(&[OK, b"<html>"]), 100);
        assert_eq!(page, Err("the body is not FLV".to_owned()));
    }

    #[test]
    fn no_answer_takes_much_memory() {
        let mut answer = Answer::Head(Vec::new());
        let first = answer.take(&joined(&[OK, FILE_HEADER]));
        first.expect("it is right");
        let metadata = metadata();
        let end = loop {
            if let Err(reason) = answer.take(&metadata) {
                break reason;
            }
            let Answer::Body { flv, .. } = &answer else {
                panic!("the head is whole")
            };
            assert!(flv.bytes.len() < 2 * metadata.len());
        };
        assert!(end.starts_with("no media in the first 4194"), "{end}");
    }
}
