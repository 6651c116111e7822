//! The messages of a log, in its framing, for those that copy them: recorders from a log of
//! FLV tags, forwards from the log of chunks.

use std::io;
use std::ops::Range;

use bytes::Bytes;

use super::Log;
use super::index::{EntryKind, JoinPoint};
use crate::stream::sync::lock;

/// A message of a log, an FLV tag or chunks, with its place there.
#[derive(Debug, Clone)]
pub(crate) struct LogTag {
    pub(crate) kind: EntryKind,
    /// Its time on the stream's timeline, ms.
    pub(crate) time_ms: u64,
    /// Its bytes; those of a tag with the length behind it.
    pub(crate) bytes: Bytes,
    /// Offset in the log at which it ends.
    pub(crate) end: u64,
}

/// What a reader finds that has had the log up to an offset.
#[derive(Debug)]
pub(in crate::stream) enum Found {
    /// Nothing new.
    Nothing,
    /// The next messages.
    Tags(Vec<LogTag>),
    /// Another publication begins with the next message.
    Publication(u64),
    /// The log has let go of what comes next.
    Gone,
}

impl Log {
    /// The messages from `offset` on, as many as fit into `max_bytes`, but one if there is one.
    /// They are of one publication; `publication` is the offset at which that begins.
    ///
    /// Nothing is kept for the reader once this has returned: a disk, or another server, may
    /// keep it waiting for any time.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(in crate::stream) fn tags(
        &self,
        offset: u64,
        publication: u64,
        max_bytes: u64,
    ) -> io::Result<Found> {
        let reader = self.readers.recorder();
        let _copying = lock(&self.copying);
        let mut index = self.index();
        let view = index.view(reader, offset);
        let mut end = view.end;
        let mut found = None;
        if offset < view.keep_from {
            found = Some(Found::Gone);
        } else if view.publication > publication && offset >= view.publication {
            found = Some(Found::Publication(view.publication));
        } else if view.publication > publication {
            end = view.publication;
        }
        if found.is_some() || offset >= end {
            index.remove_reader(reader);
            return Ok(found.unwrap_or(Found::Nothing));
        }
        let places = index.tags_in(offset..end, max_bytes);
        drop(index);
        // The index is not locked meanwhile: the publisher and the fan-out go on.
        let last = places.last().map_or(offset, |place| place.range.end);
        let bytes = self.file.copy(offset, last);
        self.index().remove_reader(reader);
        let bytes = Bytes::from(bytes?);
        let tags = places.into_iter().map(
            |TagPlace {
                 kind,
                 time_ms,
                 range,
             }| {
                let at = |position: u64| usize::try_from(position - offset).unwrap_or(usize::MAX);
                LogTag {
                    kind,
                    time_ms,
                    bytes: bytes.slice(at(range.start)..at(range.end)),
                    end: range.end,
                }
            },
        );
        Ok(Found::Tags(tags.collect()))
    }

    /// The first place to begin at for a reader that has had the log up to `offset`.
    pub(in crate::stream) fn join_from(&self, offset: u64) -> Option<(JoinPoint, u64)> {
        let reader = self.readers.recorder();
        let _copying = lock(&self.copying);
        let mut index = self.index();
        let view = index.view(reader, u64::MAX);
        index.remove_reader(reader);
        let join = view.join_from(offset)?;
        Some((join.clone(), view.publication))
    }
}

/// The place of a message in the log.
#[derive(Debug)]
pub(super) struct TagPlace {
    pub(super) kind: EntryKind,
    pub(super) time_ms: u64,
    pub(super) range: Range<u64>,
}
