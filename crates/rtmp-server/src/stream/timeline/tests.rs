//! Clocks of publishers on the timeline of a stream.

use proptest::prelude::*;

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
    assert_eq!(publisher.timeline.known_time(Video, 1_000), Some(1_000));
    publisher.timeline.resume(publisher.now);
    assert_eq!(publisher.send_again(Video, 1_000), Placement::Known);
    assert_eq!(
        publisher.send_again(Audio, 1_010),
        Placement::AtResumption(1_010)
    );
    assert_eq!(publisher.send(Audio, 1_030), 1_030, "a sound not heard yet");
    assert_eq!(
        publisher.send_again(Video, 3_000),
        Placement::AtResumption(3_000)
    );
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

/// The way in which a publisher's clock is set anew.
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
