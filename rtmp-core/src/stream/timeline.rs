//! One rising timeline per stream, whatever its publishers' clocks do.

use std::time::{Duration, Instant};

/// Audio and video of one publisher may be this far out of order, ms.
const DISORDER_MS: i64 = 1_000;
/// A clock that runs ahead of the time that has passed by more than this has
/// been set anew, ms. Large enough for publishers that send a file in bursts.
const LEAP_MS: i64 = 10_000;
/// The least distance between two publishers' messages, ms: a frame at 25/s.
const LEAST_GAP_MS: i64 = 40;

/// Which of a stream's clocks a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Track {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
}

/// A publisher's clock against the stream's.
#[derive(Debug, Clone, Copy)]
struct Clock {
    /// The newest timestamp of the publisher, unwrapped.
    newest: i64,
    /// What is to be added to the publisher's time.
    offset: i64,
}

/// Turns publishers' timestamps, which wrap at 2³², start anyhow and jump,
/// into milliseconds that never fall within a track and keep the distance
/// between audio and video.
#[derive(Debug)]
pub struct Timeline {
    clock: Option<Clock>,
    /// The clock before the last jump, for messages of the other track that
    /// were still on their way.
    former: Option<Clock>,
    /// A publisher has come whose first message has not.
    fresh: bool,
    newest: i64,
    newest_audio: i64,
    newest_video: i64,
    newest_at: Option<Instant>,
}

impl Timeline {
    /// The timeline of a new stream: it follows its first publisher's clock as
    /// it is, so that a stream has the same times at every server it passes.
    #[must_use]
    pub fn new() -> Self {
        Self {
            clock: None,
            former: None,
            fresh: true,
            newest: 0,
            newest_audio: 0,
            newest_video: 0,
            newest_at: None,
        }
    }

    /// The newest time that was given out, ms.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.newest.cast_unsigned()
    }

    /// A new publisher begins: its clock need not be the last one's.
    pub fn publisher_begins(&mut self) {
        self.fresh = true;
        self.former = None;
    }

    /// The stream's time of a frame that its publisher stamped `timestamp` and
    /// that arrived at `now`, ms.
    pub fn place(&mut self, now: Instant, track: Track, timestamp: u32) -> u64 {
        let passed = self
            .newest_at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let passed = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX / 2);
        let time = self.follow(passed, timestamp);
        let newest = match track {
            Track::Audio => &mut self.newest_audio,
            Track::Video => &mut self.newest_video,
        };
        *newest = time.max(*newest);
        let placed = *newest;
        if placed >= self.newest {
            self.newest = placed;
            self.newest_at = Some(now);
        }
        placed.cast_unsigned()
    }

    /// The time on the clock that `timestamp` fits, or on a new one.
    fn follow(&mut self, passed: i64, timestamp: u32) -> i64 {
        let fresh = std::mem::take(&mut self.fresh);
        let disorder = if fresh { 0 } else { DISORDER_MS };
        let fits = |clock: &Clock, newest: i64| {
            let raw = unwrap(clock.newest, timestamp);
            let step = raw + clock.offset - newest;
            (-disorder..=passed.saturating_add(LEAP_MS))
                .contains(&step)
                .then_some(raw)
        };
        if let Some(clock) = &mut self.clock {
            if let Some(raw) = fits(clock, self.newest) {
                clock.newest = clock.newest.max(raw);
                return raw + clock.offset;
            }
            // A straggler of before the jump keeps its clock; the new one stays.
            if let Some(former) = &self.former
                && let raw = unwrap(former.newest, timestamp)
                && (raw - former.newest).abs() <= DISORDER_MS
            {
                return (raw + former.offset).min(self.newest);
            }
        }
        let raw = i64::from(timestamp);
        let offset = match self.clock {
            None => 0,
            Some(_) => {
                // On a jump within one publisher the frame's own distance from
                // the last is unknown; the time that has passed is the best guess.
                self.newest.saturating_add(passed.max(LEAST_GAP_MS)) - raw
            }
        };
        self.former = if fresh { None } else { self.clock };
        self.clock = Some(Clock {
            newest: raw,
            offset,
        });
        raw + offset
    }
}

impl Default for Timeline {
    fn default() -> Self {
        Self::new()
    }
}

/// The time nearest to `near` whose low 32 bits are `timestamp`.
fn unwrap(near: i64, timestamp: u32) -> i64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low 32 bits are what is compared"
    )]
    let difference = timestamp.wrapping_sub(near as u32).cast_signed();
    near + i64::from(difference)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Track::{Audio, Video};

    struct Publisher {
        timeline: Timeline,
        now: Instant,
    }

    impl Publisher {
        fn new() -> Self {
            Self {
                timeline: Timeline::new(),
                now: Instant::now(),
            }
        }

        fn send(&mut self, track: Track, timestamp: u32) -> u64 {
            self.timeline.place(self.now, track, timestamp)
        }

        fn wait(&mut self, milliseconds: u64) {
            self.now += Duration::from_millis(milliseconds);
        }
    }

    #[test]
    fn the_first_publishers_clock_is_kept_as_it_is() {
        let mut publisher = Publisher::new();
        assert_eq!(publisher.send(Video, 5_000), 5_000);
        assert_eq!(publisher.send(Audio, 4_990), 4_990);
        publisher.wait(40);
        assert_eq!(publisher.send(Video, 5_040), 5_040);
    }

    #[test]
    fn a_returning_publisher_goes_on_where_the_stream_stands_with_its_av_offset() {
        let mut publisher = Publisher::new();
        publisher.send(Video, 60_000);
        publisher.wait(3_000);
        publisher.timeline.publisher_begins();
        assert_eq!(publisher.send(Video, 0), 63_000);
        assert_eq!(publisher.send(Audio, 23), 63_023);
        assert_eq!(publisher.send(Video, 40), 63_040);
    }

    #[test]
    fn a_publisher_that_returns_at_once_still_rises() {
        let mut publisher = Publisher::new();
        publisher.send(Video, 500);
        publisher.timeline.publisher_begins();
        assert_eq!(publisher.send(Video, 0), 540);
    }

    #[test]
    fn an_upstream_clock_that_went_on_meanwhile_is_followed() {
        let mut publisher = Publisher::new();
        publisher.send(Video, 1_000);
        publisher.wait(2_000);
        publisher.timeline.publisher_begins();
        assert_eq!(publisher.send(Video, 2_900), 2_900);
    }

    #[test]
    fn time_goes_on_past_the_wrap_of_32_bits() {
        let mut publisher = Publisher::new();
        let start = u32::MAX - 50;
        assert_eq!(publisher.send(Video, start), u64::from(start));
        publisher.wait(100);
        assert_eq!(publisher.send(Video, 49), u64::from(start) + 100);
        assert_eq!(publisher.send(Audio, u32::MAX), u64::from(u32::MAX));
    }

    #[test]
    fn time_goes_on_past_2_to_the_31() {
        let mut publisher = Publisher::new();
        let start = (1 << 31) - 20;
        assert_eq!(publisher.send(Audio, start), u64::from(start));
        publisher.wait(40);
        assert_eq!(publisher.send(Audio, start + 40), u64::from(start) + 40);
    }

    #[test]
    fn a_track_never_falls_when_frames_come_out_of_order() {
        let mut publisher = Publisher::new();
        publisher.send(Video, 1_000);
        assert_eq!(publisher.send(Video, 960), 1_000);
        assert_eq!(publisher.send(Audio, 980), 980);
    }

    #[test]
    fn a_clock_set_back_goes_on_from_the_newest_time() {
        let mut publisher = Publisher::new();
        publisher.send(Video, 90_000);
        publisher.wait(40);
        assert_eq!(publisher.send(Video, 0), 90_040);
        publisher.wait(40);
        assert_eq!(publisher.send(Video, 40), 90_080);
    }

    #[test]
    fn a_leap_ahead_makes_no_player_wait() {
        let mut publisher = Publisher::new();
        publisher.send(Video, 1_000);
        publisher.wait(40);
        assert_eq!(publisher.send(Video, 3_601_000), 1_040);
        publisher.wait(40);
        assert_eq!(publisher.send(Video, 3_601_040), 1_080);
    }

    #[test]
    fn a_straggler_of_the_old_clock_does_not_turn_the_clock_back() {
        let mut publisher = Publisher::new();
        publisher.send(Audio, 90_000);
        publisher.wait(40);
        assert_eq!(publisher.send(Video, 0), 90_040);
        assert_eq!(publisher.send(Audio, 90_020), 90_020);
        publisher.wait(40);
        assert_eq!(publisher.send(Video, 40), 90_080);
        assert_eq!(publisher.send(Audio, 45), 90_085);
    }

    #[test]
    fn a_long_real_silence_is_kept() {
        let mut publisher = Publisher::new();
        publisher.send(Video, 1_000);
        publisher.wait(60_000);
        assert_eq!(publisher.send(Video, 61_000), 61_000);
    }
}
