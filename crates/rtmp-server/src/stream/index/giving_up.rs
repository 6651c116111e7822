//! What a log takes, and what it can do without when memory is short.

use super::{Entry, Index, Part};

/// The oldest group of pictures that a log keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldestGroup {
    /// When its first message came, ms on the server's clock.
    pub arrived: u64,
    /// Whether it is the newest, too: the one that who joins is sent.
    pub is_newest: bool,
}

impl Index {
    /// What is kept at present for players that are not too far behind, and for
    /// the next one that joins, in bytes with what is noted about it.
    #[must_use]
    pub fn kept_bytes(&self) -> u64 {
        self.end - self.keep_from() + self.entry_bytes()
    }

    /// The memory that what is noted about the messages takes, in bytes.
    #[must_use]
    pub fn entry_bytes(&self) -> u64 {
        (self.entries.capacity() * size_of::<Entry>()) as u64
    }

    /// The oldest group that is kept; nothing if nothing is.
    #[must_use]
    pub fn oldest_group(&self) -> Option<OldestGroup> {
        let keep_from = self.keep_from();
        let entry = self.entries.get(self.position(keep_from))?;
        Some(OldestGroup {
            arrived: entry.arrived,
            is_newest: self
                .join
                .as_ref()
                .is_none_or(|join| join.offset <= keep_from),
        })
    }

    /// Keeps no more of the oldest group, or of the newest group its older half
    /// no more; players that are there are moved on.
    pub fn give_up_oldest(&mut self) {
        let keep_from = self.keep_from();
        let next_group = || {
            let after = self.entries.range(self.position(keep_from)..).skip(1);
            let mut keyframes = after.filter(|entry| entry.part == Part::Keyframe);
            keyframes.next().map(|entry| entry.offset)
        };
        let newest = self.join.as_ref().map(|join| join.offset);
        let next = newest
            .filter(|&newest| newest > keep_from)
            .and_then(|newest| next_group().filter(|&next| next <= newest));
        self.given_up =
            next.unwrap_or_else(|| self.boundary(keep_from + (self.end - keep_from).div_ceil(2)));
        self.forget();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Retention;
    use super::*;

    const LENGTH: u64 = 100;

    /// Three groups of ten pictures, one each 40 ms; the last has eleven.
    fn three_groups() -> Index {
        let retention = Retention {
            queue_length: Duration::from_secs(10),
            max_bytes: u64::MAX,
            max_messages: usize::MAX,
            group_messages: 0,
        };
        let mut index = Index::new(retention, 1);
        for number in 0..31 {
            let first = number % 10 == 0 && number < 30;
            let part = if first { Part::Keyframe } else { Part::Video };
            index.set_now(1_000 + number * 40);
            index.push(part, number * 40, LENGTH);
        }
        index
    }

    #[test]
    fn the_oldest_group_goes_first_and_the_newest_by_halves() {
        let mut index = three_groups();
        let mut steps = Vec::new();
        while let Some(oldest) = index.oldest_group() {
            let view = index.look(0, u64::MAX);
            let join = view.join.map(|join| join.offset / LENGTH);
            steps.push((
                view.keep_from / LENGTH,
                oldest.arrived,
                oldest.is_newest,
                join,
            ));
            index.give_up_oldest();
        }
        assert_eq!(
            steps,
            [
                (0, 1_000, false, Some(20)),
                (10, 1_400, false, Some(20)),
                (20, 1_800, true, Some(20)),
                (26, 2_040, true, None),
                (29, 2_160, true, None),
                (30, 2_200, true, None),
            ]
        );
        index.leave(0);
        assert_eq!(index.trim(), index.end(), "all of it can be given back");
    }

    #[test]
    fn a_stream_that_gave_up_its_newest_group_is_joined_at_the_next() {
        let mut index = three_groups();
        for _ in 0..3 {
            index.give_up_oldest();
        }
        assert_eq!(index.join_offset(), None);
        let offset = index.end();
        index.push(Part::Keyframe, 1_240, LENGTH);
        assert_eq!(index.join_offset(), Some(offset));
    }

    #[test]
    fn what_is_kept_counts_with_what_is_noted_about_it() {
        let mut index = three_groups();
        let noted = index.entry_bytes();
        assert!(noted >= 31 * size_of::<Entry>() as u64);
        assert_eq!(index.kept_bytes(), 31 * LENGTH + noted);
        index.give_up_oldest();
        assert_eq!(index.kept_bytes(), 21 * LENGTH + noted);
    }
}
