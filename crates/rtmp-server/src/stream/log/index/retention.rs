//! The past that a log keeps, and what it can do without when memory is short.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Entry, EntryKind, Index};

/// Messages that there is always room for.
pub(super) const ENTRIES_KEPT: usize = 1_024;

/// The past that a log keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// A player further behind than this skips to a keyframe.
    pub queue_length: Duration,
    /// The most bytes that are kept, whatever the publisher's timestamps say.
    pub max_bytes: u64,
    /// The most messages that are known, however small they are: each takes
    /// some room here, too.
    pub max_messages: usize,
    /// A group of more messages than this is not sent to who joins; 0: any is.
    pub gop_cache_max_frames: usize,
}

/// The oldest group of pictures that a log keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OldestGroup {
    /// Time of arrival of its first message, ms on the server's clock.
    pub arrived: u64,
    /// True if it is the newest, too: the one that who joins is sent.
    pub is_newest: bool,
}

impl Index {
    /// What is kept.
    pub(in crate::stream) fn retention(&self) -> Retention {
        self.retention
    }

    /// Changes what is kept, from the next message on.
    pub(crate) fn set_retention(&mut self, retention: Retention) {
        self.retention = retention;
    }

    /// Moves `recent` on, and gives up a join point that lies too far back.
    pub(super) fn forget(&mut self) {
        let queue = u64::try_from(self.retention.queue_length.as_millis()).unwrap_or(u64::MAX);
        let oldest = self.timestamp.saturating_sub(queue);
        let oldest_arrival = self.now.saturating_sub(queue);
        let excess = self.entries.len().checked_sub(self.retention.max_messages);
        let first = excess.map_or(0, |excess| self.offset_at(excess));
        let floor = first
            .max(self.end.saturating_sub(self.retention.max_bytes))
            .max(self.given_up);
        while let Some(entry) = self.entries.get(self.recent)
            && (entry.came_at() < oldest || entry.arrived < oldest_arrival || entry.offset < floor)
        {
            self.recent += 1;
        }
        self.joins
            .give_up(floor, self.retention.gop_cache_max_frames);
    }

    /// Offset from which on the log is kept for players that are not too far
    /// behind, and for the next one that joins.
    pub(super) fn keep_from(&self) -> u64 {
        let recent = self.offset_at(self.recent);
        self.joins
            .newest()
            .map_or(recent, |join| join.offset.min(recent))
    }

    /// Forgets the messages that nobody can need, and returns the offset
    /// before which the log's bytes may be given back.
    pub(crate) fn trim(&mut self) -> u64 {
        let keep_from = self
            .low_water
            .iter()
            .copied()
            .fold(self.keep_from(), u64::min);
        while let Some(second) = self.entries.get(1)
            && second.offset <= keep_from
            && self.recent > 0
        {
            self.entries.pop_front();
            self.recent -= 1;
        }
        // Room that a burst has taken is given back.
        let needed = 2 * self.entries.len().max(ENTRIES_KEPT);
        if self.entries.capacity() > 2 * needed {
            self.entries.shrink_to(needed);
        }
        keep_from
    }

    /// Bytes that are kept at present for players that are not too far behind,
    /// and for the next one that joins, with the entries of their messages.
    #[must_use]
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.end - self.keep_from() + self.entry_bytes()
    }

    /// Bytes of memory that the entries of the messages take.
    #[must_use]
    pub(crate) fn entry_bytes(&self) -> u64 {
        (self.entries.capacity() * size_of::<Entry>()) as u64
    }

    /// The oldest group that is kept; nothing if nothing is.
    #[must_use]
    pub(crate) fn oldest_group(&self) -> Option<OldestGroup> {
        let keep_from = self.keep_from();
        let entry = self.entries.get(self.position(keep_from))?;
        Some(OldestGroup {
            arrived: entry.arrived,
            is_newest: self
                .joins
                .newest()
                .is_none_or(|join| join.offset <= keep_from),
        })
    }

    /// Keeps no more of the oldest group, or of the newest group its older half
    /// no more; players that read there skip to a keyframe.
    pub(crate) fn give_up_oldest(&mut self) {
        let keep_from = self.keep_from();
        let next_group = || {
            let after = self.entries.range(self.position(keep_from)..).skip(1);
            let mut keyframes = after.filter(|entry| entry.kind == EntryKind::Keyframe);
            keyframes.next().map(|entry| entry.offset)
        };
        let newest = self.joins.newest().map(|join| join.offset);
        let next = newest
            .filter(|&newest| newest > keep_from)
            .and_then(|newest| next_group().filter(|&next| next <= newest));
        self.given_up =
            next.unwrap_or_else(|| self.boundary(keep_from + (self.end - keep_from).div_ceil(2)));
        self.forget();
    }
}
