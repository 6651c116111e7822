//! Whether what comes belongs to the same play as what came before.
//!
//! Times of pictures go back where an encoder reorders them, and those of sound where a server
//! sends a packet late. A server that has begun anew, or whose clock was set, jumps further.

use super::alignment::Track;

/// The most by which a time may be less than the newest one, in ms.
const MAX_BACKWARD_MS: i64 = 10_000;
/// The most by which a time may be more than the newest one, in ms.
const MAX_FORWARD_MS: i64 = 30_000;

/// A time that is none of the same play as the newest one of its track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jump {
    /// The track.
    pub track: Track,
    /// The newest time of the track, in ms since the beginning of the play.
    pub newest_ms: i64,
    /// The time that came then, in the same unit.
    pub next_ms: i64,
}

impl std::error::Error for Jump {}

impl std::fmt::Display for Jump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let media = match self.track {
            Track::Pictures => "pictures",
            Track::Sound => "sound",
        };
        let change = self.next_ms.saturating_sub(self.newest_ms);
        let way = if change < 0 { "back" } else { "ahead" };
        let change = change.unsigned_abs();
        let (seconds, rest) = (change / 1_000, change % 1_000);
        write!(
            f,
            "the time of its {media} has jumped {seconds}.{rest:03} s {way}; at most {} s ahead \
             and {} s back are one stream",
            MAX_FORWARD_MS / 1_000,
            MAX_BACKWARD_MS / 1_000
        )
    }
}

/// The newest time of one track.
#[derive(Debug, Default)]
pub(super) struct Continuity {
    newest_ms: Option<i64>,
}

impl Continuity {
    /// Takes note of the next time of `track`, `next_ms`.
    ///
    /// # Errors
    /// It is too far from the newest one.
    pub(super) fn note(&mut self, track: Track, next_ms: i64) -> Result<(), Jump> {
        let newest_ms = self.newest_ms.unwrap_or(next_ms);
        let change = next_ms.saturating_sub(newest_ms);
        if !(-MAX_BACKWARD_MS..=MAX_FORWARD_MS).contains(&change) {
            return Err(Jump {
                track,
                newest_ms,
                next_ms,
            });
        }
        self.newest_ms = Some(newest_ms.max(next_ms));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first of `times` that is a jump.
    fn first_jump(times: &[i64]) -> Option<Jump> {
        let mut continuity = Continuity::default();
        let mut noted = times
            .iter()
            .map(|&time| continuity.note(Track::Pictures, time));
        noted.find_map(Result::err)
    }

    #[test]
    fn reordered_pictures_and_gaps_are_no_jumps() {
        assert_eq!(first_jump(&[0, 120, 40, 80, 240, 160, 200]), None);
        assert_eq!(first_jump(&[-80, -200, 0]), None);
        assert_eq!(first_jump(&[0, 30_000, 20_000, 60_000]), None);
        assert_eq!(first_jump(&[86_400_000, 86_400_040]), None);
    }

    #[test]
    fn a_clock_that_is_set_is_a_jump() {
        let ahead = first_jump(&[0, 40, 30_041]).expect("a jump");
        assert_eq!(
            ahead.to_string(),
            "the time of its pictures has jumped 30.001 s ahead; at most 30 s ahead and 10 s back \
             are one stream"
        );
        // However slowly it goes back.
        let back = first_jump(&[20_000, 15_000, 10_000, 9_999]).expect("a jump");
        assert_eq!((back.newest_ms, back.next_ms), (20_000, 9_999));
        assert!(back.to_string().contains("jumped 10.001 s back"), "{back}");
        assert!(first_jump(&[i64::MIN, i64::MAX]).is_some());
    }
}
