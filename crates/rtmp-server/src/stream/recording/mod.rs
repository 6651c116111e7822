//! A stream for those that copy it at a pace of their own: a recorder gets its FLV tags, and
//! where they are cut into files; a forward gets its messages.

mod cutter;
mod messages;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

pub(crate) use cutter::{Cutter, Plan, Verdict, tag_message};
pub(crate) use messages::{MessageRead, MessageReader, MessageReaderPart};

use super::Stream;
use super::log::index::EntryKind;
use super::log::tags::{Found, LogTag};
use super::log::{FlvFraming, Log, MESSAGE_STREAM, wire_timestamp};

/// Place of a reader in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Position {
    /// It gets the log from here on.
    At(u64),
    /// It begins at the first join point from here on.
    JoinFrom(u64),
}

/// Reads a stream at the pace of a disk or of another server: its FLV tags, or the messages of
/// its log of chunks.
#[derive(Debug)]
pub(crate) struct TagReader {
    log: Arc<Log>,
    position: Position,
    /// Offset at which the publication that it reads begins.
    publication: u64,
    /// That publication is one which it leaves out: a slate's.
    is_left_out: bool,
    /// It leaves out what a slate publishes.
    skips_slates: bool,
}

/// A reader of FLV tags for the program that the process becomes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct TagReaderPart {
    position: Position,
    publication: u64,
    #[serde(default)]
    is_left_out: bool,
}

/// What a reader gets.
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
    /// A reader of the FLV tags of `stream` that begins with what comes next if `from_now`, and else at the
    /// newest place where a player can begin. What a slate publishes is left out.
    ///
    /// # Errors
    /// No descriptor or no memory left.
    pub(crate) fn new(stream: &Arc<Stream>, from_now: bool) -> io::Result<Self> {
        let log = stream.flv_log(FlvFraming::Bare)?.log;
        let (end, publication, is_left_out) = {
            let index = log.index();
            (index.end(), index.publication(), index.is_of_slate())
        };
        let position = match from_now {
            true => Position::At(end),
            false => Position::JoinFrom(publication),
        };
        Ok(Self {
            log,
            position,
            publication,
            is_left_out,
            skips_slates: true,
        })
    }

    /// The reader for the program that the process becomes; `None` if its log is not written
    /// any more.
    pub(crate) fn part(&self) -> Option<TagReaderPart> {
        (!self.log.is_abandoned()).then_some(TagReaderPart {
            position: self.position,
            publication: self.publication,
            is_left_out: self.is_left_out,
        })
    }

    /// Goes on with a reader of FLV tags of `stream`, whose logs are those of before; `None` if
    /// the one that it has read is not among them.
    pub(crate) fn take_over(stream: &Stream, part: TagReaderPart) -> Option<Self> {
        let bare = FlvFraming::Bare;
        let log = stream.has_flv_log(bare).then(|| stream.flv_log(bare))?;
        Some(Self {
            log: log.ok()?.log,
            position: part.position,
            publication: part.publication,
            is_left_out: part.is_left_out,
            skips_slates: true,
        })
    }

    /// A reader of `log` that begins at the newest place where a player can begin.
    fn joining(log: Arc<Log>) -> Self {
        let publication = log.index().publication();
        Self {
            log,
            position: Position::JoinFrom(publication),
            publication,
            is_left_out: false,
            skips_slates: false,
        }
    }

    /// Time in ms from `now` on at which what comes next came into the log of `stream`: below zero
    /// if it has waited. Zero at the end.
    pub(crate) fn came_ms(&self, stream: &Stream, now: Instant) -> i64 {
        let (Position::At(offset) | Position::JoinFrom(offset)) = self.position;
        let now_ms = stream.logs.milliseconds(now).cast_signed();
        let arrived = self.log.index().arrivals(offset).at(offset);
        arrived.map_or(0, |arrived| arrived.cast_signed() - now_ms)
    }

    /// What comes next, `max_bytes` of it at most, but one tag.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) fn read(&mut self, max_bytes: u64) -> io::Result<TagRead> {
        if self.is_left_out {
            let publication = self.log.index().publication();
            if publication <= self.publication {
                return Ok(self.nothing());
            }
            self.position = Position::At(publication);
            return Ok(self.begin(publication));
        }
        let log = &self.log;
        let offset = match self.position {
            Position::At(offset) => offset,
            Position::JoinFrom(offset) => {
                let Some((join, publication)) = log.join_from(offset) else {
                    return Ok(self.nothing());
                };
                if publication > self.publication {
                    return Ok(self.begin(publication));
                }
                self.position = Position::At(join.offset);
                let headers = join.headers.since(0).map(|header| {
                    let mut message = header.message(MESSAGE_STREAM);
                    message.timestamp = wire_timestamp(header.class, join.timestamp);
                    let mut bytes = Vec::new();
                    log.framing().encode(&message, &mut bytes);
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
            Found::Publication(publication) => self.begin(publication),
            Found::Gone => {
                self.position = Position::JoinFrom(offset);
                TagRead::Lost
            }
        })
    }

    /// It comes to the publication that begins at `publication`, the log's present one or one
    /// that has ended since.
    fn begin(&mut self, publication: u64) -> TagRead {
        self.publication = publication;
        let index = self.log.index();
        let is_present = index.publication() == publication;
        self.is_left_out = self.skips_slates && is_present && index.is_of_slate();
        drop(index);
        TagRead::Publication
    }

    fn nothing(&self) -> TagRead {
        match self.log.is_abandoned() {
            true => TagRead::Abandoned,
            false => TagRead::Nothing,
        }
    }

    /// The reader's owner has taken `tag`.
    pub(crate) fn advance(&mut self, tag: &LogTag) {
        self.position = Position::At(tag.end);
    }
}
