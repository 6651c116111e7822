//! One track: its decoder's configuration, and the samples that wait for their part.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec::{AudioConfig, VideoConfig};

/// Time in units of 1/90,000 s, which MPEG-TS and our video tracks count in.
pub(crate) type Ticks = u64;

/// [`Ticks`] in a second, and in a millisecond.
pub(crate) const VIDEO_TIMESCALE: u32 = 90_000;
pub(crate) const TICKS_PER_MS: u64 = 90;

/// The sample of a track: a picture, or a frame of sound.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sample {
    #[serde(with = "rtmp_proto::wire::bytes_format")]
    pub(crate) data: Bytes,
    /// When it is decoded, in the track's timescale.
    pub(crate) dts: u64,
    /// Until the next one is; `None` while that has not come.
    pub(crate) duration: Option<u32>,
    /// How much later it is shown, in the track's timescale.
    pub(crate) composition: i32,
    /// It needs no other.
    pub(crate) keyframe: bool,
}

/// What the tracks' configurations have in common.
pub(super) trait TrackConfig {
    fn timescale(&self) -> u32;
}

impl TrackConfig for VideoConfig {
    fn timescale(&self) -> u32 {
        VIDEO_TIMESCALE
    }
}

impl TrackConfig for AudioConfig {
    fn timescale(&self) -> u32 {
        self.sample_rate
    }
}

/// A track of the stream.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Track<C> {
    /// The configuration of the samples that are queued; `None` while the track is not
    /// part of the segments.
    pub(super) current: Option<C>,
    /// The configuration of the samples that come, if it is another. It takes effect where
    /// a segment begins.
    pub(super) next: Option<C>,
    queue: VecDeque<Sample>,
    /// A sample has come since the segment began.
    pub(super) seen: bool,
    /// No sample may begin before this, as the one before it lasts so long.
    floor: Ticks,
    /// The expected duration of the newest sample, in the track's timescale.
    nominal: u32,
    clock: Option<SampleClock>,
}

impl<C> Default for Track<C> {
    fn default() -> Self {
        Track {
            current: None,
            next: None,
            queue: VecDeque::new(),
            seen: false,
            floor: 0,
            nominal: 0,
            clock: None,
        }
    }
}

impl<C: TrackConfig> Track<C> {
    /// The configuration of the samples that come.
    pub(super) fn newest(&self) -> Option<&C> {
        self.next.as_ref().or(self.current.as_ref())
    }

    /// Makes the newest configuration the current one. Samples of the former are dropped.
    pub(super) fn promote(&mut self) {
        if let Some(next) = self.next.take() {
            self.current = Some(next);
            self.queue.clear();
            self.clock = None;
        }
    }

    /// Takes the track out of the segments until samples come again.
    pub(super) fn retire(&mut self) {
        let current = self.current.take();
        self.next = self.next.take().or(current);
        self.queue.clear();
        self.clock = None;
    }

    /// Forgets the configurations, for another publisher's samples.
    pub(super) fn reset(&mut self) {
        *self = Track {
            floor: self.floor,
            ..Track::default()
        };
    }

    /// The time of a count in the track's timescale.
    pub(super) fn ticks(&self, count: u64) -> Ticks {
        match &self.current {
            Some(config) => rescale(count, config.timescale(), VIDEO_TIMESCALE),
            None => 0,
        }
    }

    /// When each of the queued samples begins whose duration is known.
    pub(super) fn times(&self) -> impl Iterator<Item = Ticks> + '_ {
        let ready = self.queue.iter().filter(|sample| sample.duration.is_some());
        ready.map(|sample| self.ticks(sample.dts))
    }

    /// When the newest queued sample begins.
    pub(super) fn newest_time(&self) -> Option<Ticks> {
        self.queue.back().map(|sample| self.ticks(sample.dts))
    }

    pub(super) fn queued_bytes(&self) -> usize {
        let bytes = self.queue.iter().map(|sample| sample.data.len());
        bytes.sum::<usize>() + self.queue.len() * size_of::<Sample>()
    }

    /// Ends the newest sample after its expected duration, and says when that is. After a
    /// pause, the next one is not expected after another.
    pub(super) fn finish(&mut self) -> Option<Ticks> {
        const MAX_EXPECTED_MS: u32 = 500;
        let timescale = self.current.as_ref()?.timescale();
        let nominal = self.nominal.min(timescale / 1000 * MAX_EXPECTED_MS);
        let last = self.queue.back_mut()?;
        let duration = *last.duration.get_or_insert(nominal.max(1));
        let end = last.dts + u64::from(duration);
        let end = self.ticks(end);
        self.floor = self.floor.max(end);
        self.clock = None;
        Some(end)
    }

    /// Takes the samples that begin before `boundary` and whose duration is known.
    pub(super) fn take_before(&mut self, boundary: Ticks) -> Vec<Sample> {
        let ready =
            |sample: &&Sample| sample.duration.is_some() && self.ticks(sample.dts) < boundary;
        let count = self.queue.iter().take_while(ready).count();
        self.queue.drain(..count).collect()
    }

    fn append(&mut self, sample: Sample) {
        self.floor = self.floor.max(self.ticks(sample.dts));
        self.seen = true;
        self.queue.push_back(sample);
    }

    /// Ends the newest queued sample where the next begins.
    fn complete(&mut self, next: u64) {
        if let Some(last) = self.queue.back_mut()
            && last.duration.is_none()
        {
            let duration = u32::try_from(next.saturating_sub(last.dts)).unwrap_or(u32::MAX);
            last.duration = Some(duration);
        }
    }
}

impl Track<VideoConfig> {
    /// When a picture of this time is decoded: later than the one before. That one ends
    /// there.
    pub(super) fn begin_picture(&mut self, time: Ticks) -> Ticks {
        let after_last = self.newest_time().map_or(0, |last| last + 1);
        let dts = time.max(after_last).max(self.floor);
        if let Some(last) = self.newest_time() {
            self.nominal = u32::try_from(dts - last).unwrap_or(u32::MAX);
        }
        self.complete(dts);
        dts
    }

    /// Queues a picture that [`begin_picture`](Self::begin_picture) gave this time.
    pub(super) fn push(&mut self, data: Bytes, dts: Ticks, composition_ms: i32, keyframe: bool) {
        const MAX_COMPOSITION_MS: i32 = 10_000;
        let composition_ms = composition_ms.clamp(-MAX_COMPOSITION_MS, MAX_COMPOSITION_MS);
        self.append(Sample {
            data,
            dts,
            duration: None,
            composition: composition_ms * TICKS_PER_MS as i32,
            keyframe,
        });
    }

    /// The time from one picture to the next, as far as it is known; 0 without pictures.
    pub(super) fn interval(&self) -> Ticks {
        self.current.as_ref().map_or(0, |_| self.nominal.into())
    }
}

impl Track<AudioConfig> {
    /// When a frame of this time begins, in the track's timescale and in ticks. The one
    /// before it ends there. Nothing is known without a configuration.
    pub(super) fn begin_frame(&mut self, time: Ticks, data: &[u8]) -> Option<(u64, Ticks)> {
        let config = self.current.as_ref()?;
        let rate = config.sample_rate;
        let samples = config.frame_samples(data).max(1);
        let floor = rescale(self.floor, VIDEO_TIMESCALE, rate);
        let after_last = self.queue.back().map_or(0, |last| last.dts + 1);
        let stamped = rescale(time, VIDEO_TIMESCALE, rate).max(floor);
        let clock = self.clock.get_or_insert(SampleClock::new(stamped, rate));
        let dts = clock.place(stamped, after_last, samples);
        self.nominal = samples;
        self.complete(dts);
        Some((dts, self.ticks(dts)))
    }

    /// Queues a frame that [`begin_frame`](Self::begin_frame) gave this time.
    pub(super) fn push(&mut self, data: Bytes, dts: u64) {
        self.append(Sample {
            data,
            dts,
            duration: None,
            composition: 0,
            keyframe: true,
        });
    }
}

/// A number of units of `from` in a second as one of `to`, rounded.
fn rescale(count: u64, from: u32, to: u32) -> u64 {
    let (from, to) = (u128::from(from.max(1)), u128::from(to));
    let scaled = (u128::from(count) * to + from / 2) / from;
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// Places frames of sound by counting their samples.
///
/// RTMP's times are whole milliseconds, and a frame's duration is none. Frames that follow
/// each other are placed without gaps, and the count is led after the mean of the
/// times, so that it never differs by more than a millisecond for long: by rates that are a
/// little off, sound would else drift away from the pictures.
#[derive(Debug, Serialize, Deserialize)]
struct SampleClock {
    rate: u32,
    /// Where the next frame is expected, in samples.
    next: u64,
    /// The mean of how much later than expected frames have come, in 1/16 samples.
    lateness: i64,
}

/// Sound that comes so much later than expected has had a gap.
const MAX_LATE_MS: i64 = 40;
/// Frames that come together have one time; earlier than this, the rate is wrong.
const MAX_EARLY_MS: i64 = 200;
/// The difference that is let be.
const TOLERANCE_MS: i64 = 1;
/// The weight of one frame in the mean is 1/16.
const MEAN_FRAMES: i64 = 16;
/// A frame is shortened or prolonged by this part of its duration at most.
const MAX_CORRECTION: i64 = 64;

impl SampleClock {
    fn new(first: u64, rate: u32) -> Self {
        SampleClock {
            rate,
            next: first,
            lateness: 0,
        }
    }

    /// The place of a frame that has the time `stamped`, in samples; `earliest` at least.
    fn place(&mut self, stamped: u64, earliest: u64, samples: u32) -> u64 {
        let per_ms = |ms: i64| ms * i64::from(self.rate) / 1000;
        let late = stamped.cast_signed().wrapping_sub(self.next.cast_signed());
        let place = if late > per_ms(MAX_LATE_MS) || late < -per_ms(MAX_EARLY_MS) {
            self.lateness = 0;
            stamped
        } else {
            self.lateness += late - self.lateness / MEAN_FRAMES;
            let mean = self.lateness / MEAN_FRAMES;
            let limit = i64::from(samples) / MAX_CORRECTION;
            let correction = match mean.abs() > per_ms(TOLERANCE_MS) {
                true => mean.clamp(-limit, limit),
                false => 0,
            };
            self.lateness -= correction * MEAN_FRAMES;
            self.next.saturating_add_signed(correction)
        };
        let place = place.max(earliest);
        self.next = place.saturating_add(samples.into());
        place
    }
}
