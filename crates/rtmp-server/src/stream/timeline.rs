//! One rising timeline per stream, whatever its publishers' clocks do.

use std::time::{Duration, Instant};

use rtmp_proto::wire::media::Codec;

/// Frames of one track may be this far out of order, ms.
const DISORDER_MS: i64 = 1_000;
/// A clock that runs ahead of the time that has passed by more than this has
/// been set anew, ms. Large enough for publishers that send a file in bursts.
const LEAP_MS: i64 = 10_000;
/// Audio and video of one publisher may be this far apart, ms. Encoders that
/// look ahead send sound long before the pictures of its time.
const APART_MS: i64 = 12_000;
/// The least distance between two publishers' messages, ms: a frame at 25/s.
const MIN_GAP_MS: i64 = 40;

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

impl Track {
    pub(super) fn of(codec: Codec) -> Self {
        match codec {
            Codec::Audio(_) => Self::Audio,
            Codec::Video(_) => Self::Video,
        }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::Audio => Self::Video,
            Self::Video => Self::Audio,
        }
    }
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

/// What is kept for each track.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PerTrack<T> {
    pub(super) audio: T,
    pub(super) video: T,
}

impl<T> PerTrack<T> {
    pub(super) fn of(&self, track: Track) -> &T {
        match track {
            Track::Audio => &self.audio,
            Track::Video => &self.video,
        }
    }

    pub(super) fn of_mut(&mut self, track: Track) -> &mut T {
        match track {
            Track::Audio => &mut self.audio,
            Track::Video => &mut self.video,
        }
    }
}

/// A publisher's clock against the stream's, as one track keeps it.
#[derive(Debug, Clone, Copy)]
struct Clock {
    /// The newest timestamp of the publisher, unwrapped.
    newest: i64,
    /// What is to be added to the publisher's time.
    offset: i64,
}

/// How far the stream had come when another source of it took it up.
#[derive(Debug, Clone, Copy)]
struct Resumed {
    /// Each track's newest time, ms.
    newest: PerTrack<i64>,
    at: Instant,
}

/// How the present publisher's clock is followed.
#[derive(Debug, Clone, Copy)]
enum Course {
    /// Its first frame has not come; it may begin with so much of the past, ms.
    Fresh(i64),
    /// Its frames are news.
    News,
    /// It has taken up the stream that was there: what it sends of before is
    /// known already.
    Resumed(Resumed),
}

/// Turns publishers' timestamps, which wrap at 2³², start anyhow and jump,
/// into milliseconds that never fall within a track and keep the distance
/// between audio and video.
///
/// A frame is judged by the last one of its own track: as long as a track goes
/// on, its clock stays. Where it does not, its clock has been set anew, and the
/// other track's will be: both add the same to their timestamps then.
#[derive(Debug)]
pub struct Timeline {
    /// What the clock adds that was set last, for tracks that are not on it
    /// yet; none before the first frame.
    offset: Option<i64>,
    /// The tracks' clocks, once the present publisher has sent a frame.
    clocks: PerTrack<Option<Clock>>,
    course: Course,
    /// The newest time that was given out, ms, and when.
    newest: i64,
    newest_at: Option<Instant>,
    /// The same for each track.
    newest_of: PerTrack<i64>,
    newest_of_at: PerTrack<Option<Instant>>,
}

impl Timeline {
    /// The timeline of a new stream: it follows its first publisher's clock as
    /// it is, so that a stream has the same times at every server it passes.
    #[must_use]
    pub fn new() -> Self {
        Self {
            offset: None,
            clocks: PerTrack::default(),
            course: Course::Fresh(0),
            newest: 0,
            newest_at: None,
            newest_of: PerTrack::default(),
            newest_of_at: PerTrack::default(),
        }
    }

    /// The newest time that was given out, ms.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.newest.cast_unsigned()
    }

    /// A new publisher begins: its clock need not be the last one's. It may
    /// send up to `replay` of the past before it sends what is new.
    pub fn publisher_begins(&mut self, replay: Duration) {
        let replay = i64::try_from(replay.as_millis()).unwrap_or(i64::MAX / 2);
        self.course = Course::Fresh(replay);
    }

    /// The time that a publisher's first frame, stamped `timestamp`, has if
    /// its clock is the last publisher's, ms; none if that time is still to
    /// come. Where the stream had this very frame at that time, the publisher
    /// sends the same stream again, and [`Timeline::resume`] is in place.
    #[must_use]
    pub fn known_time(&self, track: Track, timestamp: u32) -> Option<u64> {
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
        unwrap(self.newest - offset, timestamp) + offset
    }

    /// The present publisher goes on with the last one's stream and clock.
    pub fn resume(&mut self, now: Instant) {
        self.course = Course::Resumed(Resumed {
            newest: self.newest_of,
            at: now,
        });
    }

    /// Whether the stream was taken up so long ago that what is still known
    /// is none of the past that was sent at once: the stream is played anew.
    #[must_use]
    pub fn repeats_for_too_long(&self, now: Instant) -> bool {
        match self.course {
            Course::Resumed(resumed) => now.saturating_duration_since(resumed.at) > REPLAY_TIME,
            Course::Fresh(_) | Course::News => false,
        }
    }

    /// The time of a frame stamped `timestamp` if it is of before the stream
    /// was taken up, and how far its track had come then.
    fn before_resumption(&self, track: Track, timestamp: u32) -> Option<(i64, i64)> {
        let Course::Resumed(Resumed { newest, .. }) = self.course else {
            return None;
        };
        let time = self.time_as_before(track, timestamp)?;
        (time <= newest.audio.max(newest.video)).then_some((time, *newest.of(track)))
    }

    /// The time of a data message stamped `timestamp`: its publisher's own,
    /// such as a caption's, where it is of about the time of the frames.
    /// Encoders that stamp data anyhow, with 0 say, mean the newest frame's.
    #[must_use]
    pub fn place_data(&self, timestamp: u32) -> u64 {
        let distance = |time: i64| (time - self.newest).abs();
        let clocks = [self.clocks.video, self.clocks.audio];
        let offsets = clocks.into_iter().flatten().map(|clock| clock.offset);
        let times = offsets.map(|offset| self.time_on(offset, timestamp));
        let own = times.min_by_key(|&time| distance(time));
        let own = own.filter(|&time| time >= 0 && distance(time) <= APART_MS);
        own.unwrap_or(self.newest).cast_unsigned()
    }

    /// The stream's time of a frame that its publisher stamped `timestamp` and
    /// that arrived at `now`.
    pub fn place(&mut self, now: Instant, track: Track, timestamp: u32) -> Placement {
        let time = match self.before_resumption(track, timestamp) {
            Some((time, newest)) if time < newest => return Placement::Known,
            Some((time, newest)) if time == newest => {
                return Placement::AtSeam(time.cast_unsigned());
            }
            Some((time, _)) => time,
            None => {
                // The past has been sent again by now: a time that falls back
                // later is a new clock's.
                if self.repeats_for_too_long(now) {
                    self.course = Course::News;
                }
                self.follow(now, track, timestamp)
            }
        };
        let newest = self.newest_of.of_mut(track);
        *newest = time.max(*newest);
        let placed = *newest;
        *self.newest_of_at.of_mut(track) = Some(now);
        if placed >= self.newest {
            self.newest = placed;
            self.newest_at = Some(now);
        }
        Placement::At(placed.cast_unsigned())
    }

    /// The time on the clock that `timestamp` fits, or on a new one.
    fn follow(&mut self, now: Instant, track: Track, timestamp: u32) -> i64 {
        let replay = match self.course {
            Course::Fresh(replay) => {
                self.clocks = PerTrack::default();
                self.course = Course::News;
                Some(replay)
            }
            Course::News | Course::Resumed(_) => None,
        };
        let passed = milliseconds_since(self.newest_at, now);
        if let Some(time) = self.on_its_own_clock(now, passed, track, timestamp) {
            return time;
        }
        let offset = self
            .offset
            .filter(|&offset| self.fits(offset, replay.is_some(), passed, track, timestamp));
        let time = if let Some(offset) = offset {
            self.time_on(offset, timestamp)
        } else if self.offset.is_none() {
            i64::from(timestamp)
        } else {
            // On a jump within one publisher the frame's own distance from the
            // last is unknown; the time that has passed is the best guess.
            // Less what will follow at once, lest the stream's time run ahead.
            let gap = (passed - replay.unwrap_or_default()).max(MIN_GAP_MS);
            self.course = Course::News;
            self.newest.saturating_add(gap)
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
        let passed_here = milliseconds_since(*self.newest_of_at.of(track), now);
        let newest = self.newest;
        let clock = self.clocks.of_mut(track).as_mut()?;
        let raw = unwrap(clock.newest, timestamp);
        let step = raw - clock.newest;
        // Where frames of the other track came first, those are the measure.
        let ahead = (raw + clock.offset - newest - passed).min(step - passed_here);
        let goes_on = step >= -DISORDER_MS && ahead <= LEAP_MS;
        goes_on.then(|| {
            clock.newest = clock.newest.max(raw);
            raw + clock.offset
        })
    }

    /// Whether a frame that does not go on with its track is of the clock that
    /// was set last and adds `offset`.
    fn fits(&self, offset: i64, fresh: bool, passed: i64, track: Track, timestamp: u32) -> bool {
        let clock = self.clocks.of(track);
        if clock.is_some_and(|clock| clock.offset == offset) {
            return false;
        }
        let step = self.time_on(offset, timestamp) - self.newest;
        let (back, ahead) = if fresh {
            (0, LEAP_MS)
        } else {
            (APART_MS, APART_MS)
        };
        (-back..=passed.saturating_add(ahead)).contains(&step)
    }
}

impl Default for Timeline {
    fn default() -> Self {
        Self::new()
    }
}

/// How long ago `earlier` was, ms; nothing if it never was.
fn milliseconds_since(earlier: Option<Instant>, now: Instant) -> i64 {
    let passed = earlier.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
    i64::try_from(passed.as_millis()).unwrap_or(i64::MAX / 2)
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
    use proptest::prelude::*;

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
        assert_eq!(publisher.timeline.known_time(Video, 1_000), Some(1_000));
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
        assert_eq!(publisher.timeline.known_time(Video, 0), Some(91_000));
        assert_eq!(publisher.timeline.known_time(Video, 2_000), Some(93_000));
        assert_eq!(
            publisher.timeline.known_time(Video, 2_001),
            None,
            "still to come"
        );
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

    #[test]
    fn an_encoder_that_does_not_interleave_does_not_make_the_time_run() {
        let mut publisher = Publisher::new();
        publisher.send(Audio, 5_000);
        assert_eq!(publisher.send(Video, 3_500), 3_500);
        for frame in 1..500 {
            publisher.wait(20);
            let (audio, video) = (5_000 + frame * 20, 3_500 + frame * 20);
            assert_eq!(publisher.send(Audio, audio), u64::from(audio));
            assert_eq!(publisher.send(Video, video), u64::from(video));
        }
    }

    #[test]
    fn a_track_may_be_away_for_long_and_come_back() {
        let mut publisher = Publisher::new();
        publisher.send(Video, 1_000);
        for frame in 1..=3_000 {
            publisher.wait(20);
            publisher.send(Audio, 1_000 + frame * 20);
        }
        assert_eq!(publisher.send(Video, 61_000), 61_000);
        // A file in bursts: all sound of a minute, then its pictures.
        assert_eq!(publisher.send(Audio, 70_000), 70_000);
        for second in 71..130 {
            assert_eq!(
                publisher.send(Audio, second * 1_000),
                u64::from(second) * 1_000
            );
        }
        assert_eq!(publisher.send(Video, 129_000), 129_000);
    }

    #[test]
    fn tracks_of_different_clocks_each_go_on_at_the_speed_of_time() {
        let mut publisher = Publisher::new();
        publisher.send(Audio, 0);
        assert_eq!(publisher.send(Video, 3_600_000), 40);
        for frame in 1..500 {
            publisher.wait(20);
            let passed = frame * 20;
            assert_eq!(publisher.send(Audio, passed), u64::from(passed));
            assert_eq!(
                publisher.send(Video, 3_600_000 + passed),
                u64::from(passed) + 40
            );
        }
    }

    #[test]
    fn data_keeps_its_own_time_where_that_is_near_the_frames() {
        let mut publisher = Publisher::new();
        publisher.send(Video, 60_000);
        publisher.send(Audio, 59_990);
        for time in [59_950, 60_003, 61_500, 70_000] {
            assert_eq!(publisher.timeline.place_data(time), u64::from(time));
        }
        for elsewhere in [0, 30_000, 3_600_000] {
            assert_eq!(publisher.timeline.place_data(elsewhere), 60_000);
        }
        publisher.wait(1_000);
        publisher.begin();
        publisher.send(Video, 0);
        assert_eq!(publisher.timeline.place_data(503), 61_503);
        assert_eq!(publisher.timeline.newest(), 61_000, "it moves no clock");
    }

    #[test]
    fn data_of_a_stream_that_has_just_begun_is_not_of_before() {
        let mut publisher = Publisher::new();
        publisher.send(Audio, 20);
        assert_eq!(publisher.timeline.place_data(u32::MAX - 5), 20);
    }

    /// How a publisher's clock is set anew.
    #[derive(Debug, Clone, Copy)]
    enum Restart {
        Connected,
        Reconnected,
    }

    prop_compose! {
        /// A jump that nobody can take for a gap, either way.
        fn jump()(length in 60_000..100_000_000_i64, back in any::<bool>()) -> i64 {
            if back { -length } else { length }
        }
    }

    proptest! {
        /// Sound and pictures stay as far apart as their publisher has them,
        /// time passes as it does, and a clock that is set anew moves both.
        #[test]
        fn a_constant_distance_between_the_tracks_is_kept(
            start in 10_000..u32::MAX,
            distance in -10_000..=10_000_i64,
            audio_every in 10..30_u64,
            video_every in 16..45_u64,
            jump in jump(),
            restart in prop_oneof![Just(Restart::Connected), Just(Restart::Reconnected)],
        ) {
            const RUN_MS: u64 = 3_000;
            let mut publisher = Publisher::new();
            let mut newest = PerTrack::<u64>::default();
            let mut added = None;
            for passed in 0..2 * RUN_MS {
                let mut base = i64::from(start) + passed.cast_signed();
                if passed >= RUN_MS {
                    base += jump;
                }
                if passed == RUN_MS {
                    added = None;
                    if let Restart::Reconnected = restart {
                        publisher.begin();
                    }
                }
                for (track, every, ahead) in [(Audio, audio_every, distance), (Video, video_every, 0)] {
                    if passed % every != 0 {
                        continue;
                    }
                    let raw = base + ahead;
                    let time = publisher.send(track, raw.rem_euclid(1 << 32) as u32);
                    prop_assert!(time >= *newest.of(track), "{track:?} falls");
                    *newest.of_mut(track) = time;
                    let adds = time.cast_signed() - raw;
                    prop_assert_eq!(*added.get_or_insert(adds), adds, "{:?} at {} ms", track, passed);
                }
                publisher.wait(1);
            }
            let gone = newest.video.cast_signed() - i64::from(start);
            let expected = 2 * RUN_MS.cast_signed();
            prop_assert!(
                (expected - 100..=expected + distance.abs() + 100).contains(&gone),
                "{gone} ms in {expected}"
            );
        }
    }
}
