//! A stream's messages for a task that sends them on, such as a forward.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtmp_proto::wire::Message;
use rtmp_proto::wire::chunk::ChunkReader;
use serde::{Deserialize, Serialize};

use super::{LogTag, Position, TagRead, TagReader};
use crate::stream::Stream;
use crate::stream::log::index::EntryKind;

/// What a [`MessageReader`] gets.
#[derive(Debug)]
pub(crate) enum MessageRead {
    /// Nothing new.
    Nothing,
    /// The next messages. They may be none, though more is to come.
    Messages(Vec<Message>),
    /// It was too slow, and goes on at a keyframe.
    Skipped,
}

/// Reads the messages of a stream's log of chunks from the newest keyframe on. Nothing is
/// kept for it: if the log has let go of what comes next, it goes on at a keyframe.
#[derive(Debug)]
pub(crate) struct MessageReader {
    stream: Arc<Stream>,
    tags: TagReader,
    chunks: ChunkReader,
    /// Offset up to which it has had the log.
    offset: u64,
    /// Pictures need a keyframe first.
    awaits_keyframe: bool,
}

/// A [`MessageReader`] for the program that the process becomes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MessageReaderPart {
    position: Position,
    publication: u64,
    offset: u64,
    awaits_keyframe: bool,
}

impl MessageReader {
    /// A reader of `stream`, which counts among the tasks that wait for its news.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) fn new(stream: &Arc<Stream>) -> io::Result<Self> {
        let reader = Self {
            tags: TagReader::joining(stream.log.clone()),
            chunks: stream.log.reader()?,
            stream: stream.clone(),
            offset: 0,
            awaits_keyframe: true,
        };
        stream.log.readers().add_task();
        Ok(reader)
    }

    /// The reader for the program that the process becomes.
    pub(crate) fn part(&self) -> MessageReaderPart {
        MessageReaderPart {
            position: self.tags.position,
            publication: self.tags.publication,
            offset: self.offset,
            awaits_keyframe: self.awaits_keyframe,
        }
    }

    /// Goes on with a reader of `stream`, whose log is the one that it has read before.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) fn take_over(stream: &Arc<Stream>, part: &MessageReaderPart) -> io::Result<Self> {
        let mut reader = Self::new(stream)?;
        reader.tags.position = part.position;
        reader.tags.publication = part.publication;
        reader.offset = part.offset;
        reader.awaits_keyframe = part.awaits_keyframe;
        Ok(reader)
    }

    /// Offset in the log up to which its messages have been read; 0: none has.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// What comes next, of about `max_bytes` at most. Whoever finds nothing waits for news
    /// that it has asked for before.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) fn read(&mut self, max_bytes: u64) -> io::Result<MessageRead> {
        match self.tags.read(max_bytes)? {
            TagRead::Nothing | TagRead::Abandoned => Ok(MessageRead::Nothing),
            TagRead::Lost => Ok(MessageRead::Skipped),
            TagRead::Publication => Ok(MessageRead::Messages(Vec::new())),
            TagRead::Join(headers) => {
                self.awaits_keyframe = true;
                self.messages(&headers)
            }
            TagRead::Tags(tags) => {
                let messages = self.messages(&tags);
                if let Some(last) = tags.last() {
                    self.tags.advance(last);
                    self.offset = last.end;
                }
                messages
            }
        }
    }

    fn messages(&mut self, tags: &[LogTag]) -> io::Result<MessageRead> {
        let mut messages = Vec::with_capacity(tags.len());
        for tag in tags {
            let mut bytes = &*tag.bytes;
            let message = self.chunks.read(&mut bytes).map_err(io::Error::other)?;
            match tag.kind {
                EntryKind::Keyframe | EntryKind::Unflagged => self.awaits_keyframe = false,
                EntryKind::Video if self.awaits_keyframe => continue,
                _ => {}
            }
            messages.extend(message);
        }
        Ok(MessageRead::Messages(messages))
    }
}

impl Drop for MessageReader {
    fn drop(&mut self) {
        self.stream.log.readers().remove_task();
    }
}

impl Stream {
    /// Waits for news. Only what comes while a [`MessageReader`] is there is told of; what
    /// comes once this is called is not missed.
    pub(crate) fn news(&self) -> impl Future<Output = ()> {
        self.log.readers().news()
    }

    /// Time at `now` since the message came that lies at `offset` of the log of chunks; zero
    /// at its end.
    pub(crate) fn lag_at(&self, offset: u64, now: Instant) -> Duration {
        let arrived = self.log.index().arrivals(offset).at(offset);
        let now_ms = self.logs.milliseconds(now);
        let lag_ms = arrived.map_or(0, |arrived| now_ms.saturating_sub(arrived));
        Duration::from_millis(lag_ms)
    }
}
