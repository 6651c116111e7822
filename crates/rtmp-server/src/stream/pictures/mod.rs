//! Decides which pictures of a publication go into the log, and at which of
//! them a player can join. No bytes, no I/O, no clock.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::log::index::EntryKind;

/// A group of pictures is no longer than this: without a keyframe for longer,
/// the encoder flags none.
const MAX_GROUP: Duration = Duration::from_secs(30);

/// A track without a picture for this long is none of the stream's any more.
const TRACK_GONE: Duration = Duration::from_secs(10);

/// The kind of a video message within its track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Picture {
    Keyframe,
    InterFrame,
    /// Nothing to decode: the end of a sequence, a seek's begin or end.
    Nothing,
}

/// The decision about a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes into the log, as this.
    Logged(EntryKind),
    /// So it does, and is the publication's first to do so for want of a
    /// keyframe, which has not come for this long.
    LoggedAtLast(EntryKind, Duration),
    /// Nobody gets it: its publication's first keyframe has not come.
    Withheld,
}

/// The state of a publication's keyframes.
///
/// ```text
/// Expected ─ picture ─▶ Withheld ─ timeout ─▶ Unflagged ◀─┐
///     │                     │                     │       │ MAX_GROUP without
///     │ keyframe            │ keyframe            │       │ a keyframe
///     └─────────────────────┴────────▶ Flagged ◀──┘       │
///                                         └───────────────┘
/// ```
///
/// Without a time-out, Expected turns into Unflagged at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// No picture has come.
    Expected,
    /// Pictures come since then, and no keyframe has.
    Withheld(#[serde(with = "crate::hand_over::monotonic")] Instant),
    /// The newest keyframe came then.
    Flagged(#[serde(with = "crate::hand_over::monotonic")] Instant),
    /// There are no keyframes: pictures are as good a place to join as any.
    Unflagged,
}

/// The pictures of one publication: [`Pictures::take`] is called for each video
/// message that is not a header, in the order of arrival.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Pictures {
    state: State,
    /// The want of keyframes has been reported.
    warned: bool,
    /// The lowest track that has pictures, and when its newest came. Groups
    /// of pictures begin at its keyframes.
    #[serde(with = "crate::hand_over::monotonic")]
    first_track: Option<(u8, Instant)>,
}

impl Pictures {
    pub(super) fn new() -> Self {
        Self {
            state: State::Expected,
            warned: false,
            first_track: None,
        }
    }

    /// Decides about a picture of `track` that came at `now`, where a first
    /// keyframe is waited for during `timeout`.
    pub(super) fn take(
        &mut self,
        picture: Picture,
        track: u8,
        now: Instant,
        timeout: Duration,
    ) -> Verdict {
        let first = picture != Picture::Nothing && self.is_first_track(track, now);
        if first && picture == Picture::Keyframe {
            self.state = State::Flagged(now);
            return Verdict::Logged(EntryKind::Keyframe);
        }
        let kind = match first {
            true => EntryKind::Unflagged,
            false => EntryKind::Video,
        };
        let since = |then: Instant| now.saturating_duration_since(then);
        match self.state {
            State::Expected if picture == Picture::Nothing => Verdict::Withheld,
            // A keyframe that nobody waits for is not missed: no warning.
            State::Expected if timeout.is_zero() => {
                self.state = State::Unflagged;
                Verdict::Logged(kind)
            }
            State::Expected => {
                self.state = State::Withheld(now);
                Verdict::Withheld
            }
            State::Withheld(then) if since(then) < timeout => Verdict::Withheld,
            State::Flagged(then) if since(then) < MAX_GROUP => Verdict::Logged(EntryKind::Video),
            State::Withheld(then) | State::Flagged(then) => {
                self.state = State::Unflagged;
                if std::mem::replace(&mut self.warned, true) {
                    Verdict::Logged(kind)
                } else {
                    Verdict::LoggedAtLast(kind, since(then))
                }
            }
            State::Unflagged => Verdict::Logged(kind),
        }
    }

    /// True if the encoder flags no keyframes, as it seems.
    pub(super) fn are_unflagged(&self) -> bool {
        self.state == State::Unflagged
    }

    /// True if `track` is the first of those that have pictures; one of its own
    /// has come at `now`.
    fn is_first_track(&mut self, track: u8, now: Instant) -> bool {
        let lower = self.first_track.is_some_and(|(first, seen)| {
            first < track && now.saturating_duration_since(seen) < TRACK_GONE
        });
        if !lower {
            self.first_track = Some((track, now));
        }
        !lower
    }
}

#[cfg(test)]
mod tests;
