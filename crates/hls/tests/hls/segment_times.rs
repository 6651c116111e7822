//! Times of samples: gaps, jumps, drift, and where they wrap.

use hls::segmenter::{Container, Output, Segmenter, Settings};

use crate::packets::TransportReader;
use crate::segmenting::{interleave, pictures, settings, sounds};
use crate::stream::{check_rules, read_samples, segment, segments};
use crate::synthetic::{Stream, audio_header, sound, video_header};

#[test]
fn times_that_jump_are_a_discontinuity() {
    for jump in [60_000, -60_000i64] {
        let start = 100_000;
        let mut messages = vec![video_header(0, start)];
        messages.extend(pictures(start, start + 5000, 1000));
        let after = (start + 5000).saturating_add_signed(jump);
        messages.extend(pictures(after, after + 5000, 1000));
        let outputs = segment(&settings(2), &messages);
        check_rules(&settings(2), &outputs);
        let segments = segments(&outputs);
        let discontinuities = segments.iter().filter(|it| it.discontinuity);
        assert_eq!(discontinuities.count(), 1);
        let times: Vec<u64> = read_samples(&outputs).iter().map(|it| it.1.dts).collect();
        assert_eq!(times.len(), 250);
        assert!(times.is_sorted_by(|one, next| one < next));
    }
}

#[test]
fn a_gap_of_sound_stays_a_gap() {
    let video = pictures(0, 6000, 1000);
    let audio = interleave(&[
        &[audio_header(48_000, 0)],
        &sounds(0, 2500),
        &sounds(3500, 6000),
    ]);
    let outputs = segment(
        &settings(2),
        &interleave(&[&[video_header(0, 0)], &video, &audio]),
    );
    check_rules(&settings(2), &outputs);
    let samples = read_samples(&outputs);
    let audio = samples
        .iter()
        .filter(|(track, _)| &track.handler == b"soun");
    let times: Vec<u64> = audio.map(|(_, sample)| sample.dts).collect();
    let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let long: Vec<&u64> = gaps.iter().filter(|gap| **gap > 1100).collect();
    assert_eq!(long.len(), 1);
    assert!((48_000..=49_100).contains(long[0]), "{long:?}");
}

/// How far frames of sound lie from their messages' times, in ms.
fn distances(rate: u32, times: &[u64]) -> Vec<f64> {
    let mut messages = vec![audio_header(rate, 0)];
    messages.extend(times.iter().map(|&time| sound(4, time)));
    let outputs = segment(&settings(2), &messages);
    let samples = read_samples(&outputs);
    assert_eq!(samples.len(), times.len());
    for pair in samples.windows(2) {
        let (one, next) = (&pair[0].1, &pair[1].1);
        assert_eq!(one.dts + one.duration, next.dts, "no gap, no overlap");
    }
    let ms = |dts: u64| dts as f64 * 1000.0 / f64::from(rate);
    let pairs = samples.iter().zip(times);
    pairs
        .map(|((_, sample), &time)| (ms(sample.dts) - time as f64).abs())
        .collect()
}

#[test]
fn sound_does_not_drift_in_hours() {
    // Milliseconds that are cut off.
    for (rate, hours) in [(44_100, 3), (48_000, 1), (22_050, 1)] {
        let frames = hours * 3600 * u64::from(rate) / 1024;
        let time = |index: u64| index * 1_024_000 / u64::from(rate);
        let times: Vec<u64> = (0..frames).map(time).collect();
        let worst = distances(rate, &times).into_iter().fold(0.0, f64::max);
        assert!(worst < 2.0, "{rate}: {worst} ms");
    }
    // A clock that is half a per mille fast.
    let times: Vec<u64> = (0..300_000)
        .map(|index| index * 1_024_000 / 48_024)
        .collect();
    let worst = distances(48_000, &times).into_iter().fold(0.0, f64::max);
    assert!(worst < 3.0, "{worst} ms");
}

#[test]
fn frames_of_sound_that_come_together_are_spread() {
    let times: Vec<u64> = (0..3000).map(|index| index / 4 * 4 * 64 / 3).collect();
    let worst = distances(48_000, &times).into_iter().fold(0.0, f64::max);
    assert!(worst < 90.0, "{worst} ms");
}

#[test]
fn times_beyond_what_32_bits_hold_go_on() {
    let stream = Stream {
        seconds: 10,
        milli_fps: 25_000,
        group: 25,
        rate: 48_000,
        sound_delay_ms: 0,
    };
    for start in [u64::from(u32::MAX) - 5000, 1 << 40] {
        let mut segmenter = Segmenter::new(&settings(2));
        let mut out = Vec::new();
        for message in stream.messages() {
            segmenter.push(&message, start + u64::from(message.timestamp), &mut out);
        }
        segmenter.finish(&mut out);
        check_rules(&settings(2), &out);
        let samples = read_samples(&out);
        assert_eq!(samples[0].1.dts, start * 90);
        assert!(!out.contains(&Output::Discontinuity));
    }
}

#[test]
fn times_of_mpegts_wrap_at_33_bits() {
    let settings = Settings {
        container: Container::MpegTs,
        ..settings(2)
    };
    let wrap_ms = (1u64 << 33) / 90;
    let start = wrap_ms - 5000 - 1000;
    let mut segmenter = Segmenter::new(&settings);
    let mut out = Vec::new();
    segmenter.push(&video_header(0, 0), start, &mut out);
    for (index, message) in pictures(0, 10_000, 1000).into_iter().enumerate() {
        segmenter.push(&message, start + index as u64 * 40, &mut out);
    }
    segmenter.finish(&mut out);
    let mut reader = TransportReader::default();
    let mut times = Vec::new();
    for segment in segments(&out) {
        times.extend(reader.read(&segment.bytes()).pes.iter().map(|pes| pes.dts));
    }
    assert_eq!(times.len(), 250);
    let step = |pair: &[u64]| pair[1].wrapping_sub(pair[0]) % (1 << 33);
    assert!(times.windows(2).all(|pair| step(pair) == 3600));
    assert!(times.first() > times.last(), "they wrapped");
}
