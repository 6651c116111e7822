//! A stream for a recorder: its FLV tags, and where they are cut into files.

mod cutter;

use std::io;
use std::sync::Arc;

pub(crate) use cutter::{Cutter, Plan, Verdict};

use super::log::index::EntryKind;
use super::log::tags::{Found, LogTag};
use super::log::{FlvFraming, Framing, MESSAGE_STREAM, wire_timestamp};
use super::{FlvLog, Stream};

/// Place of a recorder in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    /// It gets the log from here on.
    At(u64),
    /// It begins at the first join point from here on.
    JoinFrom(u64),
}

/// Reads a stream's FLV tags at the pace of a disk.
#[derive(Debug)]
pub(crate) struct TagReader {
    log: FlvLog,
    position: Position,
    /// Offset at which the publication that it reads begins.
    publication: u64,
}

/// What a recorder gets.
#[derive(Debug)]
pub(crate) enum TagRead {
    /// Nothing new.
    Nothing,
    /// The next tags. They are read again until [`TagReader::advance`] says that one has
    /// been taken.
    Tags(Vec<LogTag>),
    /// Another publication begins with the next tag.
    Publication,
    /// It goes on at a place that does not follow what it has had. These headers are in
    /// force there.
    Join(Vec<LogTag>),
    /// The log has let go of what comes next.
    Lost,
    /// The log is not written any more, though the stream may go on.
    Abandoned,
}

impl TagReader {
    /// A reader of `stream` that begins with what comes next if `from_now`, and else at the
    /// newest place where a player can begin.
    ///
    /// # Errors
    /// No descriptor or no memory left.
    pub(crate) fn new(stream: &Arc<Stream>, from_now: bool) -> io::Result<Self> {
        let log = stream.flv_log(FlvFraming::Bare)?;
        let index = log.log.index();
        let (end, publication) = (index.end(), index.publication());
        drop(index);
        let position = match from_now {
            true => Position::At(end),
            false => Position::JoinFrom(publication),
        };
        Ok(Self {
            log,
            position,
            publication,
        })
    }

    /// What comes next, `max_bytes` of it at most, but one tag.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) fn read(&mut self, max_bytes: u64) -> io::Result<TagRead> {
        let log = &self.log.log;
        let offset = match self.position {
            Position::At(offset) => offset,
            Position::JoinFrom(offset) => {
                let Some((join, publication)) = log.join_from(offset) else {
                    return Ok(self.nothing());
                };
                if publication > self.publication {
                    self.publication = publication;
                    return Ok(TagRead::Publication);
                }
                self.position = Position::At(join.offset);
                let headers = join.headers.since(0).map(|header| {
                    let mut message = header.message(MESSAGE_STREAM);
                    message.timestamp = wire_timestamp(header.class, join.timestamp);
                    let mut bytes = Vec::new();
                    Framing::Flv(FlvFraming::Bare).encode(&message, &mut bytes);
                    LogTag {
                        kind: header.track().map_or(EntryKind::Always, EntryKind::Header),
                        time_ms: join.timestamp,
                        bytes: bytes.into(),
                        end: join.offset,
                    }
                });
                return Ok(TagRead::Join(headers.collect()));
            }
        };
        Ok(match log.tags(offset, self.publication, max_bytes)? {
            Found::Nothing => self.nothing(),
            Found::Tags(tags) => TagRead::Tags(tags),
            Found::Publication(publication) => {
                self.publication = publication;
                TagRead::Publication
            }
            Found::Gone => {
                self.position = Position::JoinFrom(offset);
                TagRead::Lost
            }
        })
    }

    fn nothing(&self) -> TagRead {
        match self.log.log.is_abandoned() {
            true => TagRead::Abandoned,
            false => TagRead::Nothing,
        }
    }

    /// The recorder has taken `tag`.
    pub(crate) fn advance(&mut self, tag: &LogTag) {
        self.position = Position::At(tag.end);
    }
}
