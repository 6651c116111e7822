//! Reads an FLV file over and over as one stream whose time never falls.
//!
//! Source: Adobe's *Video File Format Specification* 10.1, annex E.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use super::{MediaMessage, Source, SourceError, metadata};
use crate::media::message_type;

const HEADER_BYTES: usize = 9;
const TAG_HEADER_BYTES: usize = 11;
/// `PreviousTagSize` behind the header and each tag.
const TRAILER_BYTES: usize = 4;
const ENCRYPTED: u8 = 0x20;
const TYPE_MASK: u8 = 0x1f;
/// Between the last message of one round and the first of the next, where the
/// file does not say how long its pictures last.
const DEFAULT_STEP_MS: u64 = 33;
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// See the module's description.
#[derive(Debug)]
pub(crate) struct FlvFile {
    path: PathBuf,
    reader: BufReader<File>,
    /// Offset of the first tag.
    first_tag: u64,
    /// Time of the file's first message, by its own count.
    first_ms: Option<u64>,
    /// Added to the file's time; grows with each round.
    offset_ms: u64,
    /// Time of the last message handed out.
    last_ms: u64,
    /// Time of the last picture, and the step to it from the one before.
    last_picture_ms: Option<u64>,
    step_ms: u64,
    /// Messages handed out in this round.
    in_round: u64,
    /// Metadata is sent once per connection, not once per round.
    metadata_due: bool,
}

impl FlvFile {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// If it cannot be read, is no FLV file, or holds no audio or video.
    pub(crate) fn open(path: &Path) -> Result<Self, SourceError> {
        let unreadable = |error| SourceError::Unreadable {
            path: path.display().to_string(),
            error,
        };
        let file = File::open(path).map_err(unreadable)?;
        let mut reader = BufReader::with_capacity(READ_BUFFER_BYTES, file);
        let mut header = [0; HEADER_BYTES];
        let not_flv = |what| SourceError::NotFlv {
            path: path.display().to_string(),
            what,
        };
        match reader.read_exact(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(not_flv("it is shorter than an FLV header"));
            }
            result => result.map_err(unreadable)?,
        }
        if &header[..3] != b"FLV" {
            return Err(not_flv("it does not begin with the letters FLV"));
        }
        let data_offset = u32::from_be_bytes(header[5..9].try_into().expect("four bytes"));
        let mut flv = Self {
            path: path.to_owned(),
            reader,
            first_tag: u64::from(data_offset) + TRAILER_BYTES as u64,
            first_ms: None,
            offset_ms: 0,
            last_ms: 0,
            last_picture_ms: None,
            step_ms: DEFAULT_STEP_MS,
            in_round: 0,
            metadata_due: true,
        };
        flv.rewind()?;
        // Fails here, at the start, rather than in the middle of a run.
        while flv.in_round == 0 {
            flv.next_message()?;
        }
        flv.first_ms = None;
        flv.last_ms = 0;
        flv.last_picture_ms = None;
        flv.metadata_due = true;
        flv.rewind()?;
        Ok(flv)
    }

    fn rewind(&mut self) -> Result<(), SourceError> {
        self.in_round = 0;
        self.reader
            .seek(SeekFrom::Start(self.first_tag))
            .map(drop)
            .map_err(|e| self.failed(e))
    }

    fn failed(&self, error: io::Error) -> SourceError {
        SourceError::Unreadable {
            path: self.path.display().to_string(),
            error,
        }
    }

    /// The next tag by the file's own time; `None` at the end, which a tag cut
    /// short is too.
    fn next_tag(&mut self) -> Result<Option<MediaMessage>, SourceError> {
        loop {
            let mut header = [0; TAG_HEADER_BYTES];
            if !read_whole(&mut self.reader, &mut header).map_err(|e| self.failed(e))? {
                return Ok(None);
            }
            let length =
                usize::from(header[1]) << 16 | usize::from(header[2]) << 8 | usize::from(header[3]);
            let at_ms = u64::from(u32::from_be_bytes([
                header[7], header[4], header[5], header[6],
            ]));
            let mut payload = vec![0; length + TRAILER_BYTES];
            if !read_whole(&mut self.reader, &mut payload).map_err(|e| self.failed(e))? {
                return Ok(None);
            }
            payload.truncate(length);
            if header[0] & ENCRYPTED != 0 {
                let path = self.path.display().to_string();
                return Err(SourceError::NotFlv {
                    path,
                    what: "its tags are encrypted",
                });
            }
            let type_id = header[0] & TYPE_MASK;
            if matches!(
                type_id,
                message_type::AUDIO | message_type::VIDEO | message_type::DATA_AMF0
            ) {
                return Ok(Some(MediaMessage {
                    type_id,
                    at_ms,
                    payload,
                }));
            }
        }
    }

    /// Continues at the start of the file with the time that comes next.
    fn begin_round(&mut self) -> Result<(), SourceError> {
        self.rewind()?;
        self.offset_ms = self.last_ms + self.step_ms;
        self.last_picture_ms = None;
        Ok(())
    }
}

impl Source for FlvFile {
    fn next_message(&mut self) -> Result<MediaMessage, SourceError> {
        loop {
            let Some(mut message) = self.next_tag()? else {
                if self.in_round == 0 {
                    return Err(SourceError::Empty {
                        path: self.path.display().to_string(),
                    });
                }
                self.begin_round()?;
                continue;
            };
            let is_metadata = message.type_id == message_type::DATA_AMF0;
            if is_metadata && !std::mem::take(&mut self.metadata_due) {
                continue;
            }
            if is_metadata {
                message.payload = metadata::to_server(message.payload);
            } else {
                self.in_round += 1;
            }
            // Metadata often carries time 0 in front of a stream that begins
            // later: it does not decide where the file's time begins.
            let first_ms = match self.first_ms {
                None if is_metadata => message.at_ms,
                None => *self.first_ms.insert(message.at_ms),
                Some(first_ms) => first_ms,
            };
            let at_ms = message.at_ms.saturating_sub(first_ms) + self.offset_ms;
            if message.type_id == message_type::VIDEO
                && let Some(before) = self.last_picture_ms.replace(at_ms)
                && at_ms > before
            {
                self.step_ms = at_ms - before;
            }
            self.last_ms = self.last_ms.max(at_ms);
            message.at_ms = self.last_ms;
            return Ok(message);
        }
    }

    fn restart(&mut self) -> Result<(), SourceError> {
        self.metadata_due = true;
        if self.in_round > 0 && self.first_ms.is_some() {
            self.begin_round()
        } else {
            self.rewind()
        }
    }
}

/// Fills `buffer`; `false` if the file ended before.
fn read_whole(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
