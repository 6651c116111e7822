//! One rising timeline per stream, whatever its publishers' clocks do.

use std::time::{Duration, Instant};

/// Audio and video of one publisher may be this far out of order, ms.
const DISORDER_MS: i64 = 1_000;
/// A clock that runs ahead of the time that has passed by more than this has
/// been set anew, ms. Large enough for publishers that send a file in bursts.
const LEAP_MS: i64 = 10_000;
/// The least distance between two publishers' messages, ms: a frame at 25/s.
const LEAST_GAP_MS: i64 = 40;

/// An origin sends what it has of the past at once, in less than this.
const REPLAY_TIME: Duration = Duration::from_secs(2);

/// Which of a stream's clocks a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Track {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
}

/// Where a frame lies on the stream's timeline, ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// It is news, of this time.
    At(u64),
    /// The stream has had it: it is of before the stream was taken up.
    Known,
    /// It is of the very time at which its track was taken up: the stream has
    /// had a frame of that time, but tracks of one kind share their times.
    AtSeam(u64),
}

/// A publisher's clock against the stream's.
#[derive(Debug, Clone, Copy)]
struct Clock {
    /// The newest timestamp of the publisher, unwrapped.
    newest: i64,
    /// What is to be added to the publisher's time.
    offset: i64,
}

/// How far the stream had come when another source of it took it up, ms.
#[derive(Debug, Clone, Copy)]
struct Resumed {
    audio: i64,
    video: i64,
    at: Instant,
}

impl Resumed {
    fn newest(&self, track: Track) -> i64 {
        match track {
            Track::Audio => self.audio,
            Track::Video => self.video,
        }
    }
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
    /// A publisher has come whose first frame has not.
    fresh: bool,
    /// How much of the past that publisher may begin with, ms.
    replay: i64,
    /// Where a publisher has taken up the stream that was there: what it sends
    /// of before is known already.
    resumed: Option<Resumed>,
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
            replay: 0,
            resumed: None,
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

    /// Whether no frame of the present publisher has been placed.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// A new publisher begins: its clock need not be the last one's. It may
    /// send up to `replay` of the past before it sends what is new.
    pub fn publisher_begins(&mut self, replay: Duration) {
        self.fresh = true;
        self.former = None;
        self.resumed = None;
        self.replay = i64::try_from(replay.as_millis()).unwrap_or(i64::MAX / 2);
    }

    /// The time that a publisher's first frame, stamped `timestamp`, has if
    /// its clock is the last publisher's, ms; none if that time is still to
    /// come. Where the stream had this very frame at that time, the publisher
    /// sends the same stream again, and [`Timeline::resume`] is in place.
    #[must_use]
    pub fn known_time(&self, timestamp: u32) -> Option<u64> {
        let clock = self.clock.as_ref()?;
        let time = unwrap(clock.newest, timestamp) + clock.offset;
        u64::try_from(time)
            .ok()
            .filter(|&time| time <= self.newest())
    }

    /// The present publisher goes on with the last one's stream and clock.
    pub fn resume(&mut self, now: Instant) {
        self.fresh = false;
        self.resumed = Some(Resumed {
            audio: self.newest_audio,
            video: self.newest_video,
            at: now,
        });
    }

    /// Whether the stream was taken up so long ago that what is still known
    /// is none of the past that was sent at once: the stream is played anew.
    #[must_use]
    pub fn repeats_for_too_long(&self, now: Instant) -> bool {
        let since = |resumed: &Resumed| now.saturating_duration_since(resumed.at);
        self.resumed
            .as_ref()
            .is_some_and(|resumed| since(resumed) > REPLAY_TIME)
    }

    /// The time of a frame stamped `timestamp` if it is of before the stream
    /// was taken up.
    fn before_resumption(&self, timestamp: u32) -> Option<i64> {
        let (resumed, clock) = (self.resumed.as_ref()?, self.clock.as_ref()?);
        let time = unwrap(clock.newest, timestamp) + clock.offset;
        (time <= resumed.audio.max(resumed.video)).then_some(time)
    }

    /// The stream's time of a frame that its publisher stamped `timestamp` and
    /// that arrived at `now`.
    pub fn place(&mut self, now: Instant, track: Track, timestamp: u32) -> Placement {
        let passed = self
            .newest_at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let passed = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX / 2);
        let time = match (self.before_resumption(timestamp), &self.resumed) {
            (Some(time), Some(resumed)) if time < resumed.newest(track) => {
                return Placement::Known;
            }
            (Some(time), Some(resumed)) if time == resumed.newest(track) => {
                return Placement::AtSeam(time.cast_unsigned());
            }
            (Some(time), _) => time,
            (None, _) => {
                // The past has been sent again by now: a time that falls back
                // later is a new clock's.
                if self.repeats_for_too_long(now) {
                    self.resumed = None;
                }
                self.follow(passed, timestamp)
            }
        };
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
        Placement::At(placed.cast_unsigned())
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
                // the last is unknown; the time that has passed is the best
                // guess. Less what will follow at once, lest the stream's time
                // run ahead.
                let replay = if fresh { self.replay } else { 0 };
                let gap = (passed - replay).max(LEAST_GAP_MS);
                self.newest.saturating_add(gap) - raw
            }
        };
        self.former = if fresh { None } else { self.clock };
        self.resumed = None;
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
            match self.send_again(track, timestamp) {
                Placement::At(time) => time,
                known => panic!("{track:?} of {timestamp}: {known:?}"),
            }
        }

        fn send_again(&mut self, track: Track, timestamp: u32) -> Placement {
            self.timeline.place(self.now, track, timestamp)
        }

        fn begin(&mut self) {
            self.timeline.publisher_begins(Duration::ZERO);
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
        publisher.begin();
        assert_eq!(publisher.send(Video, 0), 63_000);
        assert_eq!(publisher.send(Audio, 23), 63_023);
        assert_eq!(publisher.send(Video, 40), 63_040);
    }

    #[test]
    fn a_publisher_that_returns_at_once_still_rises() {
        let mut publisher = Publisher::new();
        publisher.send(Video, 500);
        publisher.begin();
        assert_eq!(publisher.send(Video, 0), 540);
    }

    #[test]
    fn an_upstream_clock_that_went_on_meanwhile_is_followed() {
        let mut publisher = Publisher::new();
        publisher.send(Video, 1_000);
        publisher.wait(2_000);
        publisher.begin();
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

    #[test]
    fn a_source_that_takes_the_stream_up_repeats_nothing_and_keeps_its_time() {
        let mut publisher = Publisher::new();
        for (track, timestamp) in [(Video, 1_000), (Audio, 1_010), (Video, 3_000)] {
            publisher.send(track, timestamp);
        }
        publisher.wait(500);
        publisher.begin();
        assert_eq!(publisher.timeline.known_time(1_000), Some(1_000));
        publisher.timeline.resume(publisher.now);
        assert_eq!(publisher.send_again(Video, 1_000), Placement::Known);
        assert_eq!(publisher.send_again(Audio, 1_010), Placement::AtSeam(1_010));
        assert_eq!(publisher.send(Audio, 1_030), 1_030, "a sound not heard yet");
        assert_eq!(publisher.send_again(Video, 3_000), Placement::AtSeam(3_000));
        assert_eq!(publisher.send(Video, 3_040), 3_040);
        assert_eq!(publisher.send(Video, 3_480), 3_480);
    }

    #[test]
    fn a_stream_is_taken_up_on_the_clock_that_was_in_force() {
        let mut publisher = Publisher::new();
        publisher.send(Video, 90_000);
        publisher.wait(1_000);
        publisher.begin();
        assert_eq!(publisher.send(Video, 0), 91_000);
        assert_eq!(publisher.send(Video, 2_000), 93_000);
        publisher.wait(4_000);
        publisher.begin();
        assert_eq!(publisher.timeline.known_time(0), Some(91_000));
        assert_eq!(publisher.timeline.known_time(2_000), Some(93_000));
        assert_eq!(publisher.timeline.known_time(2_001), None, "still to come");
        publisher.timeline.resume(publisher.now);
        assert_eq!(publisher.send_again(Video, 0), Placement::Known);
        assert_eq!(publisher.send(Video, 6_000), 97_000);
    }

    #[test]
    fn a_clock_set_anew_after_a_stream_was_taken_up_counts_as_any_other() {
        let mut publisher = Publisher::new();
        publisher.send(Video, 50_000);
        publisher.begin();
        publisher.timeline.resume(publisher.now);
        publisher.wait(40);
        assert_eq!(publisher.send(Video, 50_040), 50_040);
        publisher.wait(40);
        publisher.begin();
        assert_eq!(publisher.send(Video, 0), 50_080);
        publisher.wait(40);
        assert_eq!(publisher.send(Video, 40), 50_120);
    }

    #[test]
    fn a_new_clock_that_begins_with_the_past_does_not_make_the_time_run_ahead() {
        let mut publisher = Publisher::new();
        publisher.send(Video, 60_000);
        publisher.wait(5_000);
        publisher.timeline.publisher_begins(Duration::from_secs(2));
        assert_eq!(publisher.send(Video, 0), 63_000);
        assert_eq!(publisher.send(Video, 2_000), 65_000);
        publisher.wait(1_000);
        publisher.timeline.publisher_begins(Duration::from_secs(2));
        assert_eq!(publisher.send(Video, 0), 65_040, "and rises all the same");
    }
}
