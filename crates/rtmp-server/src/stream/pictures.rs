//! Which pictures of a publication go into the log, and at which of them a
//! player can join. No bytes, no I/O, no clock.
//!
//! ```text
//!             ┌─────────────── keyframe ──────────────┐
//!             │                                       ▼
//! Expected ─ other ─▶ Withheld ─── keyframe ───▶ Flagged ◀─ keyframe ─ Unflagged
//!                        │                            │                    ▲
//!                        └── after the patience ──────┴─ MAX_GROUP ────────┘
//! ```

use std::time::{Duration, Instant};

use super::index::Part;

/// A group of pictures is no longer than this: without a keyframe for longer,
/// the encoder flags none.
const MAX_GROUP: Duration = Duration::from_secs(30);

/// A track without a picture for this long is none of the stream's any more.
const TRACK_GONE: Duration = Duration::from_secs(10);

/// What a video message is to its track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Picture {
    Keyframe,
    InterFrame,
    /// Nothing to decode: the end of a sequence, a seek's begin or end.
    Nothing,
}

/// What becomes of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes into the log, as this.
    Logged(Part),
    /// So it does, and is the publication's first to do so for want of a
    /// keyframe, which has not come for this long.
    LoggedAtLast(Part, Duration),
    /// Nobody gets it: its publication's first keyframe has not come.
    Withheld,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No picture has come.
    Expected,
    /// Pictures come since then, and no keyframe has.
    Withheld(Instant),
    /// The newest keyframe came then.
    Flagged(Instant),
    /// There are no keyframes: pictures are as good a place to join as any.
    Unflagged,
}

/// The pictures of one publication.
#[derive(Debug)]
pub(super) struct Pictures {
    state: State,
    /// Whether the want of keyframes has been told.
    is_told: bool,
    /// The lowest track that has pictures, and when its newest came. Groups
    /// of pictures begin at its keyframes.
    first_track: Option<(u8, Instant)>,
}

impl Pictures {
    pub(super) fn new() -> Self {
        Self {
            state: State::Expected,
            is_told: false,
            first_track: None,
        }
    }

    /// What becomes of a picture of `track` that came at `now`, where a first
    /// keyframe is waited for with `patience`.
    pub(super) fn take(
        &mut self,
        picture: Picture,
        track: u8,
        now: Instant,
        patience: Duration,
    ) -> Verdict {
        let first = picture != Picture::Nothing && self.is_first_track(track, now);
        if first && picture == Picture::Keyframe {
            self.state = State::Flagged(now);
            return Verdict::Logged(Part::Keyframe);
        }
        let part = match first {
            true => Part::Unflagged,
            false => Part::Video,
        };
        let since = |then: Instant| now.saturating_duration_since(then);
        match self.state {
            State::Expected if picture == Picture::Nothing => Verdict::Withheld,
            // Without patience there is nothing to complain of.
            State::Expected if patience.is_zero() => {
                self.state = State::Unflagged;
                Verdict::Logged(part)
            }
            State::Expected => {
                self.state = State::Withheld(now);
                Verdict::Withheld
            }
            State::Withheld(then) if since(then) < patience => Verdict::Withheld,
            State::Flagged(then) if since(then) < MAX_GROUP => Verdict::Logged(Part::Video),
            State::Withheld(then) | State::Flagged(then) => {
                self.state = State::Unflagged;
                if std::mem::replace(&mut self.is_told, true) {
                    Verdict::Logged(part)
                } else {
                    Verdict::LoggedAtLast(part, since(then))
                }
            }
            State::Unflagged => Verdict::Logged(part),
        }
    }

    /// Whether the encoder flags no keyframes, as it seems.
    pub(super) fn are_unflagged(&self) -> bool {
        self.state == State::Unflagged
    }

    /// Whether `track` is the first of those that have pictures; one has, at
    /// `now`.
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
mod tests {
    use super::*;
    use Picture::{InterFrame, Keyframe, Nothing};
    use Verdict::{Logged, LoggedAtLast, Withheld};

    const PATIENCE: Duration = Duration::from_secs(8);

    struct Encoder {
        pictures: Pictures,
        now: Instant,
    }

    impl Encoder {
        fn new() -> Self {
            Self {
                pictures: Pictures::new(),
                now: Instant::now(),
            }
        }

        /// Sends a picture, `seconds` after the one before.
        fn send(&mut self, seconds: u64, picture: Picture, track: u8) -> Verdict {
            self.now += Duration::from_secs(seconds);
            self.pictures.take(picture, track, self.now, PATIENCE)
        }
    }

    #[test]
    fn pictures_before_the_first_keyframe_go_to_nobody() {
        let mut encoder = Encoder::new();
        for picture in [Nothing, InterFrame, InterFrame, Nothing] {
            assert_eq!(encoder.send(1, picture, 0), Withheld);
        }
        assert_eq!(encoder.send(1, Keyframe, 0), Logged(Part::Keyframe));
        assert_eq!(encoder.send(1, InterFrame, 0), Logged(Part::Video));
        assert_eq!(encoder.send(1, Nothing, 0), Logged(Part::Video));
    }

    #[test]
    fn a_stream_without_keyframes_is_complained_of_once_and_shown() {
        let mut encoder = Encoder::new();
        assert_eq!(encoder.send(1, InterFrame, 0), Withheld);
        assert_eq!(encoder.send(7, InterFrame, 0), Withheld);
        let waited = LoggedAtLast(Part::Unflagged, PATIENCE);
        assert_eq!(encoder.send(1, InterFrame, 0), waited);
        assert_eq!(encoder.send(1, InterFrame, 0), Logged(Part::Unflagged));
        assert_eq!(encoder.send(60, Keyframe, 0), Logged(Part::Keyframe));
        assert_eq!(encoder.send(29, InterFrame, 0), Logged(Part::Video));
        assert_eq!(encoder.send(1, InterFrame, 0), Logged(Part::Unflagged));
    }

    #[test]
    fn so_is_one_that_had_a_single_keyframe_long_ago() {
        let mut encoder = Encoder::new();
        encoder.send(0, Keyframe, 0);
        assert_eq!(encoder.send(29, InterFrame, 0), Logged(Part::Video));
        let waited = LoggedAtLast(Part::Unflagged, MAX_GROUP);
        assert_eq!(encoder.send(1, InterFrame, 0), waited);
        assert_eq!(encoder.send(1, InterFrame, 0), Logged(Part::Unflagged));
    }

    #[test]
    fn without_patience_a_picture_is_shown_at_once() {
        let mut pictures = Pictures::new();
        let shown = pictures.take(InterFrame, 0, Instant::now(), Duration::ZERO);
        assert_eq!(shown, Logged(Part::Unflagged));
    }

    #[test]
    fn groups_begin_at_the_keyframes_of_the_lowest_track() {
        let mut encoder = Encoder::new();
        assert_eq!(encoder.send(0, Keyframe, 2), Logged(Part::Keyframe));
        assert_eq!(encoder.send(0, Keyframe, 3), Logged(Part::Video));
        assert_eq!(encoder.send(0, InterFrame, 2), Logged(Part::Video));
        assert_eq!(encoder.send(0, Keyframe, 1), Logged(Part::Keyframe));
        assert_eq!(encoder.send(1, Keyframe, 2), Logged(Part::Video));
        // Track 1 is sent no more.
        assert_eq!(encoder.send(9, Keyframe, 2), Logged(Part::Keyframe));
    }
}
