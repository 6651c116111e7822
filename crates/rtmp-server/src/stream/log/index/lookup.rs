//! Look-ups by offset and by time.

use std::ops::Range;
use std::time::Duration;

use super::{EntryKind, Index};
use crate::stream::log::tags::TagPlace;

/// Times of arrival of the newest messages of a log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrivals {
    /// By offset, in ms on the server's clock.
    messages: Vec<(u64, u64)>,
    /// Offset at which the newest message ends.
    end: u64,
}

impl Arrivals {
    /// Time of arrival, in ms on the server's clock, of the message that `offset` lies in;
    /// `None` at the end. Of one that is not among them, it is that of the oldest.
    pub(crate) fn at(&self, offset: u64) -> Option<u64> {
        if offset >= self.end {
            return None;
        }
        let after = self.messages.partition_point(|(from, _)| *from <= offset);
        let message = self.messages.get(after.saturating_sub(1));
        message.map(|(_, arrived)| *arrived)
    }
}

impl Index {
    /// Offset of the message at this position of `entries`, or else the end.
    pub(super) fn offset_at(&self, position: usize) -> u64 {
        self.entries
            .get(position)
            .map_or(self.end, |entry| entry.offset)
    }

    /// Position in `entries` of the first message at or after `offset`.
    pub(super) fn position(&self, offset: u64) -> usize {
        self.entries.partition_point(|entry| entry.offset < offset)
    }

    /// The first offset at or after `offset` where a message begins.
    #[must_use]
    pub(crate) fn boundary(&self, offset: u64) -> u64 {
        self.offset_at(self.position(offset))
    }

    /// The pauses of `least` and more between messages that have come since `since`, ms on
    /// the server's clock.
    #[must_use]
    pub(in crate::stream) fn pauses(&self, since: u64, least: Duration) -> Vec<Duration> {
        let recent = self.entries.partition_point(|entry| entry.arrived < since);
        let messages = self.entries.range(recent..);
        let next = messages.clone().skip(1);
        let pauses = messages
            .zip(next)
            .map(|(one, next)| next.arrived.saturating_sub(one.arrived));
        let pauses = pauses.map(Duration::from_millis);
        pauses.filter(|&pause| pause >= least).collect()
    }

    /// The times of arrival of the messages from `offset` on.
    #[must_use]
    pub(crate) fn arrivals(&self, offset: u64) -> Arrivals {
        let after = self.entries.partition_point(|entry| entry.offset <= offset);
        let entries = self.entries.range(after.saturating_sub(1)..);
        Arrivals {
            messages: entries.map(|entry| (entry.offset, entry.arrived)).collect(),
            end: self.end,
        }
    }

    /// Number of pictures in the log so far.
    #[must_use]
    pub(crate) fn pictures(&self) -> u64 {
        self.pictures
    }

    /// Offset of the first message of `timestamp` or later, data left out, or
    /// else the end.
    #[must_use]
    pub(crate) fn first_at(&self, timestamp: u64) -> u64 {
        let mut entries = self.entries.iter();
        entries
            .find(|entry| entry.kind != EntryKind::Data && entry.timestamp >= timestamp)
            .map_or(self.end, |entry| entry.offset)
    }

    /// Number of pictures that begin in the log before `offset`.
    #[must_use]
    pub(crate) fn pictures_before(&self, offset: u64) -> u64 {
        let next = self.entries.get(self.position(offset));
        next.map_or(self.pictures, |entry| entry.pictures_before)
    }

    /// The places of the frames of the time `timestamp`, as far as they are
    /// known.
    pub(crate) fn frames_at(&self, timestamp: u64) -> impl Iterator<Item = Range<u64>> {
        let ends = self.entries.iter().skip(1).map(|entry| entry.offset);
        self.entries
            .iter()
            .zip(ends.chain([self.end]))
            .filter(move |(entry, _)| entry.kind.is_frame() && entry.timestamp == timestamp)
            .map(|(entry, end)| entry.offset..end)
    }

    /// Length of the present publication's last whole group of pictures on the
    /// stream's timeline; zero if there was none.
    #[must_use]
    pub(crate) fn group(&self) -> Duration {
        let keyframes = self.entries.iter().rev();
        let mut keyframes = keyframes
            .take_while(|entry| entry.offset >= self.publication)
            .filter(|entry| entry.kind == EntryKind::Keyframe);
        match (keyframes.next(), keyframes.next()) {
            (Some(last), Some(before)) => {
                Duration::from_millis(last.timestamp.saturating_sub(before.timestamp))
            }
            _ => Duration::ZERO,
        }
    }

    /// The places of the messages in `range`, which must begin and end where messages do:
    /// as many as have `max_bytes` together, but one at least.
    pub(in crate::stream::log) fn tags_in(
        &self,
        range: Range<u64>,
        max_bytes: u64,
    ) -> Vec<TagPlace> {
        let entries = self.entries.range(self.position(range.start)..);
        let places = self.messages_in(range.start, range.end);
        let limit = range.start.saturating_add(max_bytes);
        places
            .zip(entries)
            .take_while(|(place, _)| place.start == range.start || place.end <= limit)
            .map(|(range, entry)| TagPlace {
                kind: entry.kind,
                time_ms: entry.timestamp,
                range,
            })
            .collect()
    }

    /// The place of each message from `offset` up to `end`, both of which must
    /// be ends or beginnings of messages.
    pub(crate) fn messages_in(&self, offset: u64, end: u64) -> impl Iterator<Item = Range<u64>> {
        let beginnings = self
            .entries
            .range(self.position(offset)..)
            .map(|entry| entry.offset);
        let ends = beginnings.clone().skip(1).chain([self.end]);
        beginnings
            .zip(ends)
            .map(|(beginning, end)| beginning..end)
            .take_while(move |message| message.start < end)
    }
}
