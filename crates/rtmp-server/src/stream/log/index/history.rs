//! The past that a log still has, for a consumer that begins with it.

use super::{EntryKind, Index};
use crate::stream::log::headers::Header;

/// A stretch of a log, from a message at which a player could have joined to the end.
#[derive(Debug)]
pub(in crate::stream) struct History {
    /// Offset of its first message.
    pub(in crate::stream) from: u64,
    /// Offset at which it ends.
    pub(in crate::stream) end: u64,
    /// The time at which it begins, ms; without messages the newest one of the log.
    pub(in crate::stream) begin_ms: u64,
    /// The time of each of its messages, ms.
    pub(in crate::stream) times: Vec<u64>,
    /// The headers in force at its first message.
    pub(in crate::stream) headers: Vec<Header>,
}

impl Index {
    /// [`Index::history`], which is kept for the reader number `reader` until
    /// [`Index::remove_reader`].
    pub(in crate::stream) fn keep_history(&mut self, reader: usize, length_ms: u64) -> History {
        let history = self.history(length_ms);
        self.low_water[reader] = history.from;
        history
    }

    /// The present publication's past `length_ms` milliseconds, as far as they are kept and
    /// the headers have not changed. It begins with a keyframe, or with sound where there
    /// are no pictures; it is empty where nobody could join.
    #[must_use]
    pub(super) fn history(&self, length_ms: u64) -> History {
        let headers: Vec<Header> = self.headers.since(0).cloned().collect();
        let changed = headers.iter().map(|header| header.offset).max();
        let least = self.publication.max(changed.unwrap_or(0));
        let oldest = self.timestamp.saturating_sub(length_ms);
        let join = self.joins.newest();
        let kind = join.map(|join| join.kind);
        let begins = |kind| matches!(kind, Some(EntryKind::Keyframe | EntryKind::Audio));
        let first = self.entries.iter().find(|entry| {
            let suits = begins(kind) && Some(entry.kind) == kind;
            suits && entry.offset >= least && entry.timestamp >= oldest
        });
        let first = first.map(|entry| entry.offset);
        let newest = join.map(|join| join.offset);
        // Whatever is asked for, the newest group is there.
        let from = first.into_iter().chain(newest).min().unwrap_or(self.end);
        let entries = self.entries.range(self.position(from)..);
        let times: Vec<_> = entries.map(|entry| entry.timestamp).collect();
        History {
            from,
            end: self.end,
            begin_ms: times.first().copied().unwrap_or(self.timestamp),
            times,
            headers,
        }
    }
}
