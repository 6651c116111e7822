//! One rising timeline per stream, whatever its publishers' clocks do.

mod clock;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::track::{PerTrack, Track};
use clock::{Clock, MAX_JUMP_MS, unwrap};

/// Audio and video of one publisher may be this far apart, ms. Encoders that
/// look ahead send sound long before the pictures of its time.
const APART_MS: i64 = 12_000;
/// The least distance between two publishers' messages, ms: a frame at 25/s.
const MIN_GAP_MS: i64 = 40;

/// An origin sends what it has of the past at once, in less than this.
const REPLAY_TIME: Duration = Duration::from_secs(2);

/// The place of a frame on the stream's timeline, ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    /// It is news, of this time.
    At(u64),
    /// The stream has had it: it is of before the stream was taken up.
    Known,
    /// It is of the very time at which its track was taken up: the stream has
    /// had a frame of that time, but tracks of one kind share their times.
    AtResumption(u64),
}

/// The stream's times when another source of it took it up.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Resumed {
    /// Each track's newest time, ms.
    newest: PerTrack<i64>,
    #[serde(with = "crate::hand_over::monotonic")]
    at: Instant,
}

/// The way in which the present publisher's clock is followed.
///
/// ```text
///            its first frame: resume(), since the log has it
/// Starting ──────────────────────────────────────────────────▶ Resumed
///    │                                                            │
///    │ its first frame                     REPLAY_TIME is over,   │
///    ▼                                     or its clock jumps     │
/// Running ◀───────────────────────────────────────────────────────┘
///
/// any of them ─ publisher_begins() ─▶ Starting
/// any of them ─ publisher_takes_over() ─▶ TakingOver ─ its first frame ─▶ Running
/// ```
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum ClockMode {
    /// Its first frame has not come; it may begin with so much of the past, ms.
    Starting(i64),
    /// The same, and what it begins with has come before: its clock is taken by the
    /// times of arrival alone.
    TakingOver,
    /// Its frames are news.
    Running,
    /// It has taken up the stream that was there: what it sends of before is
    /// known already.
    Resumed(Resumed),
}

/// The newest time that was given out, ms, and the moment of that.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Newest {
    time: i64,
    #[serde(with = "crate::hand_over::monotonic")]
    at: Option<Instant>,
}

impl Newest {
    /// Time passed since then, ms; none before the first frame.
    fn passed(&self, now: Instant) -> i64 {
        let passed = self
            .at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        i64::try_from(passed.as_millis()).unwrap_or(i64::MAX / 2)
    }
}

/// Turns publishers' timestamps, which wrap at 2³², start anyhow and jump,
/// into milliseconds that never fall within a track and keep the distance
/// between audio and video.
///
/// A frame is judged by the last one of its own track: as long as a track goes
/// on, its clock stays. Where it does not, its clock has been set anew, and the
/// other track's will be: both add the same to their timestamps then.
///
/// For each publisher [`Timeline::publisher_begins`] is called, then, where
/// [`Timeline::known_time`] of its first frame shows that the stream goes on,
/// [`Timeline::resume`], then [`Timeline::place`] for each frame.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Timeline {
    /// Difference that the clock adds that was set last, for tracks that are
    /// not on it yet; none before the first frame.
    offset: Option<i64>,
    /// The tracks' clocks, once the present publisher has sent a frame.
    clocks: PerTrack<Option<Clock>>,
    mode: ClockMode,
    newest: Newest,
    newest_of: PerTrack<Newest>,
}

impl Timeline {
    /// The timeline of a new stream: it follows its first publisher's clock as
    /// it is, so that a stream has the same times at every server it passes.
    pub(super) fn new() -> Self {
        Self {
            offset: None,
            clocks: PerTrack::default(),
            mode: ClockMode::Starting(0),
            newest: Newest::default(),
            newest_of: PerTrack::default(),
        }
    }

    /// The newest time that was given out, ms.
    pub(super) fn newest(&self) -> u64 {
        self.newest.time.cast_unsigned()
    }

    /// A new publisher begins: its clock need not be the last one's. It may
    /// send up to `replay` of the past before it sends what is new.
    pub(super) fn publisher_begins(&mut self, replay: Duration) {
        let replay = i64::try_from(replay.as_millis()).unwrap_or(i64::MAX / 2);
        self.mode = ClockMode::Starting(replay);
    }

    /// A publisher takes over that has sent already, with the frames that it has sent
    /// lately. Its first frame follows the newest one by the time between their arrivals,
    /// whatever both clocks say.
    pub(super) fn publisher_takes_over(&mut self) {
        self.mode = ClockMode::TakingOver;
    }

    /// The time that a publisher's first frame, stamped `timestamp`, has if
    /// its clock is the last publisher's, ms; none if that time is still to
    /// come. Where the stream had this very frame at that time, the publisher
    /// sends the same stream again, and [`Timeline::resume`] is in place.
    pub(super) fn known_time(&self, track: Track, timestamp: u32) -> Option<u64> {
        let time = self.time_as_before(track, timestamp)?;
        u64::try_from(time)
            .ok()
            .filter(|&time| time <= self.newest())
    }

    /// The time of a frame if no clock has been set anew.
    fn time_as_before(&self, track: Track, timestamp: u32) -> Option<i64> {
        match self.clocks.of(track) {
            Some(clock) => Some(unwrap(clock.newest, timestamp) + clock.offset),
            None => Some(self.time_on(self.offset?, timestamp)),
        }
    }

    /// The time of a frame on a clock that adds `offset`.
    fn time_on(&self, offset: i64, timestamp: u32) -> i64 {
        unwrap(self.newest.time - offset, timestamp) + offset
    }

    /// The present publisher goes on with the last one's stream and clock.
    pub(super) fn resume(&mut self, now: Instant) {
        self.mode = ClockMode::Resumed(Resumed {
            newest: PerTrack {
                audio: self.newest_of.audio.time,
                video: self.newest_of.video.time,
            },
            at: now,
        });
    }

    /// True if the stream was taken up so long ago that what is still known
    /// is none of the past that was sent at once: the stream is played anew.
    pub(super) fn repeats_for_too_long(&self, now: Instant) -> bool {
        match self.mode {
            ClockMode::Resumed(resumed) => now.saturating_duration_since(resumed.at) > REPLAY_TIME,
            ClockMode::Starting(_) | ClockMode::TakingOver | ClockMode::Running => false,
        }
    }

    /// The time of a frame stamped `timestamp` if it is of before the stream
    /// was taken up, and how far its track had come then.
    fn before_resumption(&self, track: Track, timestamp: u32) -> Option<(i64, i64)> {
        let ClockMode::Resumed(Resumed { newest, .. }) = self.mode else {
            return None;
        };
        let time = self.time_as_before(track, timestamp)?;
        (time <= newest.audio.max(newest.video)).then_some((time, *newest.of(track)))
    }

    /// The time of a data message stamped `timestamp`: its publisher's own,
    /// such as a caption's, where it is of about the time of the frames.
    /// Encoders that stamp data anyhow, with 0 say, mean the newest frame's.
    pub(super) fn place_data(&self, timestamp: u32) -> u64 {
        let distance = |time: i64| (time - self.newest.time).abs();
        let clocks = [self.clocks.video, self.clocks.audio];
        let offsets = clocks.into_iter().flatten().map(|clock| clock.offset);
        let times = offsets.map(|offset| self.time_on(offset, timestamp));
        let own = times.min_by_key(|&time| distance(time));
        let own = own.filter(|&time| time >= 0 && distance(time) <= APART_MS);
        own.unwrap_or(self.newest.time).cast_unsigned()
    }

    /// The stream's time of a frame that its publisher stamped `timestamp` and
    /// that arrived at `now`.
    pub(super) fn place(&mut self, now: Instant, track: Track, timestamp: u32) -> Placement {
        let time = match self.before_resumption(track, timestamp) {
            Some((time, newest)) if time < newest => return Placement::Known,
            Some((time, newest)) if time == newest => {
                return Placement::AtResumption(time.cast_unsigned());
            }
            Some((time, _)) => time,
            None => {
                // The past has been sent again by now: a time that falls back
                // later is a new clock's.
                if self.repeats_for_too_long(now) {
                    self.mode = ClockMode::Running;
                }
                self.follow(now, track, timestamp)
            }
        };
        let newest = self.newest_of.of_mut(track);
        *newest = Newest {
            time: time.max(newest.time),
            at: Some(now),
        };
        if newest.time >= self.newest.time {
            self.newest = *newest;
        }
        Placement::At(newest.time.cast_unsigned())
    }

    /// The time on the clock that `timestamp` fits, or on a new one.
    fn follow(&mut self, now: Instant, track: Track, timestamp: u32) -> i64 {
        let takes_over = matches!(self.mode, ClockMode::TakingOver);
        let replay = match self.mode {
            ClockMode::Starting(replay) => {
                self.clocks = PerTrack::default();
                self.mode = ClockMode::Running;
                Some(replay)
            }
            ClockMode::TakingOver => {
                self.clocks = PerTrack::default();
                self.mode = ClockMode::Running;
                None
            }
            ClockMode::Running | ClockMode::Resumed(_) => None,
        };
        let passed = self.newest.passed(now);
        if let Some(time) = self.on_its_own_clock(now, passed, track, timestamp) {
            return time;
        }
        let offset = self.offset.filter(|_| !takes_over);
        let offset =
            offset.filter(|&offset| self.fits(offset, replay.is_some(), passed, track, timestamp));
        let time = if let Some(offset) = offset {
            self.time_on(offset, timestamp)
        } else if self.offset.is_none() {
            i64::from(timestamp)
        } else {
            // On a jump within one publisher the frame's own distance from the
            // last is unknown; the time that has passed is the best guess.
            // Less what will follow at once, lest the stream's time run ahead.
            let gap = (passed - replay.unwrap_or_default()).max(MIN_GAP_MS);
            self.mode = ClockMode::Running;
            self.newest.time.saturating_add(gap)
        };
        let offset = offset.unwrap_or(time - i64::from(timestamp));
        self.offset = Some(offset);
        *self.clocks.of_mut(track) = Some(Clock {
            newest: time - offset,
            offset,
        });
        time
    }

    /// The time of a frame that goes on with its track, on the clock that the
    /// track is on, whatever has become of the other's.
    fn on_its_own_clock(
        &mut self,
        now: Instant,
        passed: i64,
        track: Track,
        timestamp: u32,
    ) -> Option<i64> {
        let passed_here = self.newest_of.of(track).passed(now);
        let newest = self.newest.time;
        let clock = self.clocks.of_mut(track).as_mut()?;
        clock.follow(timestamp, passed_here, newest + passed)
    }

    /// True if a frame that does not go on with its track is of the clock that
    /// was set last and adds `offset`.
    fn fits(&self, offset: i64, fresh: bool, passed: i64, track: Track, timestamp: u32) -> bool {
        let clock = self.clocks.of(track);
        if clock.is_some_and(|clock| clock.offset == offset) {
            return false;
        }
        let step = self.time_on(offset, timestamp) - self.newest.time;
        let (back, ahead) = if fresh {
            (0, MAX_JUMP_MS)
        } else {
            (APART_MS, APART_MS)
        };
        (-back..=passed.saturating_add(ahead)).contains(&step)
    }
}

#[cfg(test)]
mod tests;
