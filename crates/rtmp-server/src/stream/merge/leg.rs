//! One of the connections that bring the same stream.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::MergeSettings;
use super::mark::{Kind, Mark, Marks, Taken, written};
use crate::stream::MediaMessage;
use crate::stream::log::headers::Headers;
use crate::stream::publishers::Pauses;
use crate::stream::standby::{Parts, StandbyGroup};

/// A leg that is further behind what is on air is of no use beside the others: should these
/// end, viewers would wait for as long.
const MAX_LAG: Duration = Duration::from_secs(2);
/// The limit for a leg that is merged: larger, so that it does not come and go.
const MAX_LAG_MERGED: Duration = Duration::from_secs(3);

/// The place of a leg within what has gone on air.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Position {
    /// Its clock is ahead of the one on air by this, ms.
    pub(super) ahead: u32,
    /// Of each kind the number of the message that it brings next; `None` until one is
    /// recognised.
    next: [Option<u64>; Kind::COUNT],
    /// It has been too far behind what is on air since then.
    #[serde(default, with = "crate::hand_over::monotonic")]
    late_since: Option<Instant>,
}

/// What a leg's message is to those that have gone on air.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// The leg is the first that brings it.
    New,
    /// It has gone on air.
    Known,
    /// It is none of what has gone on air, and of before its end.
    Strange,
}

impl Position {
    /// That of a leg whose messages were all taken, on the clock on air.
    pub(super) fn at_end(taken: &Taken) -> Self {
        let end = |kind| Some(taken.of(kind).end());
        Self {
            ahead: 0,
            next: [end(Kind::Video), end(Kind::Audio), end(Kind::Data)],
            late_since: None,
        }
    }

    /// That of a leg which has just brought the message of `kind` with this number.
    pub(super) fn behind(kind: Kind, number: u64, ahead: u32) -> Self {
        let mut next = [None; Kind::COUNT];
        next[kind as usize] = Some(number + 1);
        Self {
            ahead,
            next,
            late_since: None,
        }
    }

    /// Notes that the leg, which waits, has brought `mark`, which is on the clock on air and
    /// tells streams apart. Returns true if the leg is too far behind.
    pub(super) fn is_late(&mut self, mark: &Mark, taken: &Taken, now: Instant) -> bool {
        self.lags_by(MAX_LAG, mark, taken, now)
    }

    /// The same of a leg that is merged.
    pub(super) fn falls_behind(&mut self, mark: &Mark, taken: &Taken, now: Instant) -> bool {
        self.lags_by(MAX_LAG_MERGED, mark, taken, now)
    }

    fn lags_by(&mut self, limit: Duration, mark: &Mark, taken: &Taken, now: Instant) -> bool {
        let is_late = taken.of(mark.kind).distance(mark.timestamp) > limit;
        self.late_since = match is_late {
            true => self.late_since.or(Some(now)),
            false => None,
        };
        is_late
    }

    /// True if the leg has been too far behind for `limit`: it is not just catching up, after
    /// a stall or from the group that it began with.
    pub(super) fn stays_late(&self, now: Instant, limit: Duration) -> bool {
        let late_since = self.late_since;
        late_since.is_some_and(|since| now.saturating_duration_since(since) >= limit)
    }

    /// From now on the leg gets time again to catch up.
    pub(super) fn excuse_lag(&mut self) {
        self.late_since = None;
    }

    /// Sorts the leg's next message, which is on the clock on air.
    pub(super) fn sort(&mut self, mark: &Mark, taken: &Taken) -> Sort {
        let marks = taken.of(mark.kind);
        let next = self.next[mark.kind as usize];
        if next.is_some_and(|next| next == marks.end()) {
            return self.set_next(mark.kind, marks.end() + 1, Sort::New);
        }
        // In most cases it is the very next one.
        let from = next.unwrap_or_default();
        match marks.find(mark, from) {
            Some(number) => self.set_next(mark.kind, number + 1, Sort::Known),
            None => self.sort_unknown(mark, marks),
        }
    }

    /// Sorts a message that has not gone on air, while others have that the leg has not
    /// brought.
    fn sort_unknown(&mut self, mark: &Mark, marks: &Marks) -> Sort {
        let next = &mut self.next[mark.kind as usize];
        match (mark.kind, *next) {
            // They may come between any frames, and stand for themselves.
            (Kind::Data, _) => Sort::New,
            (_, None) if marks.are_before(mark.timestamp) => {
                *next = Some(marks.end() + 1);
                Sort::New
            }
            // Of before the place at which the leg was recognised.
            (_, None) => Sort::Known,
            (_, Some(_)) => Sort::Strange,
        }
    }

    fn set_next(&mut self, kind: Kind, number: u64, sort: Sort) -> Sort {
        self.next[kind as usize] = Some(number);
        sort
    }
}

/// A leg whose messages do not go on air: its newest group of pictures, and what the
/// messages of that are known by.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Waiting {
    group: StandbyGroup,
    /// One for each message of the group.
    #[serde(with = "written")]
    marks: Vec<Mark>,
    pub(super) pauses: Pauses,
    /// Its place, if it brings what has gone on air, but too late.
    #[serde(default)]
    pub(super) behind: Option<Position>,
    /// It has been told of as a late one.
    #[serde(default)]
    pub(super) is_told_late: bool,
}

impl Waiting {
    /// That of a leg which has `headers` in force, and has made these `pauses`.
    pub(super) fn new(headers: Headers, pauses: Pauses) -> Self {
        Self {
            group: StandbyGroup::new(headers),
            marks: Vec::new(),
            pauses,
            behind: None,
            is_told_late: false,
        }
    }

    /// True if it can go on air: it has something to begin with, and is not about to catch
    /// up with what is on air.
    pub(super) fn is_ready(&self, now: Instant, settings: &MergeSettings) -> bool {
        let behind = self.behind.as_ref();
        self.group.is_ready()
            && behind.is_none_or(|place| place.stays_late(now, settings.standby_after))
    }

    pub(super) fn marks(&self) -> &[Mark] {
        &self.marks
    }

    pub(super) fn keep(
        &mut self,
        message: &MediaMessage,
        mark: Mark,
        now: Instant,
        settings: &MergeSettings,
    ) {
        self.pauses.note(now, settings.standby_after);
        let message = std::slice::from_ref(message);
        let brought = self.group.take(message, now, settings.keyframe_timeout);
        if brought.begins || !self.group.is_ready() {
            self.marks.clear();
        }
        if self.group.is_ready() {
            self.marks.push(mark);
        }
    }

    /// The place of `mark`, which is on the clock on air, in the group, and by how much the
    /// leg's clock is ahead, ms.
    pub(super) fn find(&self, mark: &Mark) -> Option<(usize, u32)> {
        let marks = self.marks.iter().enumerate();
        let place = recognise(mark, marks)?;
        Some((
            place,
            self.marks[place].timestamp.wrapping_sub(mark.timestamp),
        ))
    }

    /// Its group and the marks of that.
    pub(super) fn into_parts(self) -> (Parts, Vec<Mark>) {
        (self.group.into_parts(), self.marks)
    }
}

/// The place of `mark` among `known`, which may be on another clock: where one is of the
/// same bytes and time, or where a keyframe's bytes are those of a single one.
pub(super) fn recognise<'a, P: Copy>(
    mark: &Mark,
    known: impl Iterator<Item = (P, &'a Mark)>,
) -> Option<P> {
    let (mut alike, mut count) = (None, 0);
    for (place, known) in known.filter(|(_, known)| mark.has_bytes_of(known)) {
        if known.timestamp == mark.timestamp {
            return Some(place);
        }
        (alike, count) = (Some(place), count + 1);
    }
    alike.filter(|_| mark.is_keyframe && count == 1)
}
