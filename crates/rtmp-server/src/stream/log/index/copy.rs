//! The index of another log of the same messages.

use std::sync::Arc;

use super::{Entry, EntryKind, Index};
use crate::stream::log::headers::Header;
use crate::stream::track::{PerTrack, Track};

impl Index {
    /// A copy that has the messages from `from` on alone, which lie where they lie.
    #[must_use]
    pub(crate) fn copy_since(&self, from: u64) -> Self {
        let entries = self.entries.range(self.position(from)..);
        let offsets: Vec<_> = entries.map(|entry| entry.offset).collect();
        self.copy_from(from, &offsets, self.end)
    }

    /// The index of another log, which has copies of the messages from `from` on at
    /// `offsets` and ends at `end`. `from` must be the beginning of a message, or the
    /// end. Headers and whatever else lies before have the offset 0 there.
    #[must_use]
    pub(crate) fn copy_from(&self, from: u64, offsets: &[u64], end: u64) -> Self {
        let first = self.position(from);
        let place = |offset: u64| match offset.checked_sub(from) {
            None => 0,
            Some(_) => {
                let position = self.position(offset) - first;
                offsets.get(position).copied().unwrap_or(end)
            }
        };
        let entries = self.entries.range(first..).zip(offsets);
        Self {
            retention: self.retention,
            entries: entries
                .map(|(entry, &offset)| Entry { offset, ..*entry })
                .collect(),
            recent: self.recent.saturating_sub(first),
            end,
            timestamp: self.timestamp,
            now: self.now,
            given_up: place(self.given_up),
            pictures: self.pictures,
            publication: place(self.publication),
            of_slate: self.of_slate,
            headers: Arc::new(self.headers.placed(|header| place(header.offset))),
            joins: self.joins.placed(place),
            low_water: vec![u64::MAX; self.low_water.len()].into(),
        }
    }

    /// The kinds of media that a player gets which joins now, as far as the headers in
    /// force and the messages since the newest join point tell.
    #[must_use]
    pub(crate) fn media(&self) -> PerTrack<bool> {
        let of = |track| {
            self.headers
                .since(0)
                .any(|header: &Header| header.track() == Some(track))
        };
        let join = self.join_offset().unwrap_or(self.end);
        let mut group = self.entries.range(self.position(join)..);
        let mut sounds = group.clone();
        PerTrack {
            audio: of(Track::Audio) || sounds.any(|entry| entry.kind == EntryKind::Audio),
            video: of(Track::Video) || group.any(|entry| entry.kind.is_video()),
        }
    }
}
