//! The places of the messages in a stream's log. No bytes, no I/O, no clock.

mod copy;
mod entry;
mod filter;
mod history;
mod join;
mod lookup;
mod retention;
mod view;

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::headers::Headers;
use entry::Entry;
pub(crate) use entry::EntryKind;
pub(crate) use filter::{Filter, VideoFilter};
pub(in crate::stream) use history::History;
pub(crate) use join::JoinPoint;
use join::JoinPoints;
pub(in crate::stream) use retention::OldestGroup;
pub(crate) use retention::Retention;
pub(crate) use view::View;

/// The messages of a log, oldest first.
///
/// Whoever writes the log calls, under one lock, for each batch that is in the
/// file already:
///
/// 1. [`Index::set_now`], once;
/// 2. in the order of the log, [`Index::push`] for each message, and before it
///    [`Index::begin_publication`], [`Index::set_headers`],
///    [`Index::announce_video`] and [`Index::withhold_picture`] for what holds
///    from that message on;
/// 3. [`Index::trim`], which says what may be given back of the file.
///
/// Whoever reads it calls [`Index::view`] with the lowest offset that it may
/// still read. That is kept until its next call, or until
/// [`Index::remove_reader`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Index {
    retention: Retention,
    entries: VecDeque<Entry>,
    /// Position in `entries` of the first message within `queue_length`.
    recent: usize,
    end: u64,
    /// The newest message's time, ms; data does not count.
    timestamp: u64,
    /// The server's clock, ms, as of the newest message.
    now: u64,
    /// Nothing before this offset is kept: its memory was needed elsewhere.
    given_up: u64,
    pictures: u64,
    /// Offset at which the present publication begins.
    publication: u64,
    /// The present publication is a slate's.
    #[serde(default)]
    of_slate: bool,
    headers: Arc<Headers>,
    joins: JoinPoints,
    /// Per reader the lowest offset that it may still read; `u64::MAX` while it
    /// has no player of this stream.
    #[serde(skip)]
    low_water: Box<[u64]>,
}

impl Index {
    /// The index of an empty log that `readers` will read: two for each fan-out
    /// worker.
    #[must_use]
    pub(crate) fn new(retention: Retention, readers: usize) -> Self {
        Self {
            retention,
            entries: VecDeque::new(),
            recent: 0,
            end: 0,
            timestamp: 0,
            now: 0,
            given_up: 0,
            pictures: 0,
            publication: 0,
            of_slate: false,
            headers: Arc::default(),
            joins: JoinPoints::default(),
            low_water: vec![u64::MAX; readers].into(),
        }
    }

    /// Sets the time of arrival of what is entered from here on, ms on the
    /// server's clock.
    pub(crate) fn set_now(&mut self, now: u64) {
        self.now = now;
    }

    /// Enters a message of `length` bytes that lies at the end of the log.
    /// Timestamps may fall from one track to another, by as much as those are
    /// apart.
    pub(crate) fn push(&mut self, kind: EntryKind, timestamp: u64, length: u64) {
        let offset = self.end;
        if kind != EntryKind::Data {
            self.timestamp = self.timestamp.max(timestamp);
        }
        let late = self.timestamp.cast_signed() - timestamp.cast_signed();
        self.entries.push_back(Entry {
            offset,
            timestamp,
            pictures_before: self.pictures,
            arrived: self.now,
            late: i32::try_from(late).unwrap_or(i32::MAX),
            kind,
        });
        self.end += length;
        // Before it is counted: a picture does not keep itself from being joined
        // at, and sound is judged by the pictures before it.
        let joinable = self.joins.can_join_at(kind, self.timestamp);
        self.pictures += u64::from(kind.is_video());
        self.joins.count(kind, self.timestamp);
        if joinable {
            let join = JoinPoint {
                offset,
                timestamp,
                kind,
                headers: self.headers.clone(),
            };
            self.joins.set(join, self.timestamp);
        }
        self.forget();
    }

    /// True if a player can join at a message of `kind` that comes next, with
    /// this time.
    #[must_use]
    pub(crate) fn can_join_at(&self, kind: EntryKind, timestamp: u64) -> bool {
        self.joins.can_join_at(kind, timestamp)
    }

    /// Another publication begins here: nobody joins in the one before, and
    /// its headers are void. `of_slate`: it is a slate's.
    pub(crate) fn begin_publication(&mut self, of_slate: bool) {
        self.publication = self.end;
        self.of_slate = of_slate;
        self.headers = Arc::default();
        self.joins.restart();
    }

    /// A picture has come that nobody gets: there was no keyframe before it.
    pub(crate) fn withhold_picture(&mut self) {
        self.joins.withhold_picture();
    }

    /// A video decoder's configuration of the time `timestamp` has come:
    /// pictures will.
    pub(crate) fn announce_video(&mut self, timestamp: u64) {
        self.joins.announce_video(self.timestamp.max(timestamp));
    }

    /// Offset at which a player can join at present.
    #[must_use]
    pub(crate) fn join_offset(&self) -> Option<u64> {
        self.joins.newest().map(|join| join.offset)
    }

    /// True if a join point has been given up since the last call because its
    /// group had more messages than who joins is sent.
    pub(crate) fn take_long_group(&mut self) -> bool {
        self.joins.take_long_group()
    }

    /// Puts `headers` in force.
    pub(crate) fn set_headers(&mut self, headers: Arc<Headers>) {
        self.headers = headers;
    }

    /// The headers in force.
    #[must_use]
    pub(crate) fn headers(&self) -> Arc<Headers> {
        self.headers.clone()
    }

    /// Offset at which the present publication begins.
    #[must_use]
    pub(in crate::stream) fn publication(&self) -> u64 {
        self.publication
    }

    /// True if the present publication is a slate's.
    #[must_use]
    pub(in crate::stream) fn is_of_slate(&self) -> bool {
        self.of_slate
    }

    /// As many readers as this log has now will read it, in place of those that have: it is
    /// another program that goes on with it.
    pub(in crate::stream) fn set_readers(&mut self, readers: usize) {
        self.low_water = vec![u64::MAX; readers].into();
    }

    /// Time of arrival of the newest message, ms on the server's clock.
    #[must_use]
    pub(in crate::stream) fn newest_arrival(&self) -> u64 {
        self.now
    }

    /// Offset at which the newest message ends.
    #[must_use]
    pub(crate) fn end(&self) -> u64 {
        self.end
    }
}

#[cfg(test)]
mod tests;
