//! The rate at which a counter of bytes grows, smoothed.
//!
//! Streams are sent in bursts: a flush, a keyframe. Of 1 Mbit/s with a keyframe each second,
//! flushed each 350 ms and read each 250 ms, one exponential average of 3 s makes 0.92 to 1.08;
//! the average of that average, which this is, 0.99 to 1.01.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::hand_over::monotonic;

/// Pause after which a measurement begins anew.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// The rate at which a counter grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Rate {
    /// Time and count of the first measurement and of the last.
    #[serde(with = "monotonic")]
    first: Option<Instant>,
    #[serde(with = "monotonic")]
    last: Option<(Instant, u64)>,
    /// The exponential average, and that of it.
    once: f64,
    average: f64,
    now: f64,
}

impl Rate {
    /// Takes the counter's `bytes` at `now`. The average is an exponential one of an
    /// exponential one, each of the time constant `smoothing`; before twice that has passed, it
    /// is the mean since the beginning.
    pub(super) fn observe(&mut self, bytes: u64, smoothing: Duration, now: Instant) {
        let pause = self.last.map(|(at, _)| now.saturating_duration_since(at));
        let (Some((_, before)), Some(first), Some(pause)) = (
            self.last.filter(|(_, before)| bytes >= *before),
            self.first,
            pause.filter(|pause| *pause <= MAX_PAUSE),
        ) else {
            *self = Self {
                first: Some(now),
                last: Some((now, bytes)),
                ..*self
            };
            return;
        };
        let seconds = pause.as_secs_f64();
        if seconds == 0.0 {
            return;
        }
        self.last = Some((now, bytes));
        self.now = (bytes - before) as f64 * 8.0 / seconds;
        let age = now.saturating_duration_since(first).as_secs_f64();
        if age < 2.0 * smoothing.as_secs_f64() {
            self.average += (self.now - self.average) * seconds / age;
            self.once = self.average;
            return;
        }
        // Exact for a rate that has not changed since the last measurement.
        let steps = seconds / smoothing.as_secs_f64();
        let rest = (-steps).exp();
        let former = self.once - self.now;
        self.average = self.now + (self.average - self.now + former * steps) * rest;
        self.once = self.now + former * rest;
    }

    /// Time of the last measurement.
    pub(super) fn measured(&self) -> Option<Instant> {
        self.last.map(|(at, _)| at)
    }

    /// Time for which it has been measured.
    pub(super) fn measured_for(&self) -> Duration {
        let (Some(first), Some((last, _))) = (self.first, self.last) else {
            return Duration::ZERO;
        };
        last.saturating_duration_since(first)
    }

    /// The average, bit/s.
    pub(super) fn average(&self) -> f64 {
        self.average
    }

    /// The rate between the last two measurements, bit/s.
    pub(super) fn now(&self) -> f64 {
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMOOTHING: Duration = Duration::from_secs(3);

    /// A counter that is read every 250 ms, and grows by `kbits` each time.
    fn grow(rate: &mut Rate, at: &mut (Instant, u64), kbits: u64, times: u32) {
        for _ in 0..times {
            at.0 += Duration::from_millis(250);
            at.1 += kbits * 1_000 / 8;
            rate.observe(at.1, SMOOTHING, at.0);
        }
    }

    #[test]
    fn a_rate_is_known_after_two_measurements_and_follows_within_its_time_constant() {
        let mut rate = Rate::default();
        let mut at = (Instant::now(), 5_000_000);
        rate.observe(at.1, SMOOTHING, at.0);
        assert_eq!(
            (rate.average(), rate.now()),
            (0.0, 0.0),
            "what was is no rate"
        );
        grow(&mut rate, &mut at, 250, 1);
        assert_eq!((rate.average(), rate.now()), (1e6, 1e6));
        grow(&mut rate, &mut at, 250, 40);
        assert!((rate.average() - 1e6).abs() < 1.0, "{rate:?}");
        grow(&mut rate, &mut at, 500, 12);
        // 1 - 2/e of the way after one time constant.
        assert!((rate.average() - 1.264e6).abs() < 1e3, "{rate:?}");
        assert_eq!(rate.now(), 2e6);
    }

    #[test]
    fn bursts_are_averaged_away() {
        let mut rate = Rate::default();
        let mut at = (Instant::now(), 0);
        rate.observe(at.1, SMOOTHING, at.0);
        let (mut lowest, mut highest) = (f64::MAX, 0.0_f64);
        for second in 0..60 {
            // Nearly half of each second's data comes with its keyframe.
            for kbits in [460, 0, 270, 270] {
                grow(&mut rate, &mut at, kbits, 1);
                if second > 20 {
                    lowest = lowest.min(rate.average());
                    highest = highest.max(rate.average());
                }
            }
        }
        assert!(lowest > 0.99e6 && highest < 1.01e6, "{lowest} to {highest}");
    }

    #[test]
    fn a_measurement_begins_anew_after_a_pause_and_with_a_counter_that_has_fallen() {
        let mut rate = Rate::default();
        let mut at = (Instant::now(), 0);
        rate.observe(at.1, SMOOTHING, at.0);
        grow(&mut rate, &mut at, 250, 40);
        at.0 += Duration::from_secs(100);
        at.1 += 1 << 40;
        rate.observe(at.1, SMOOTHING, at.0);
        grow(&mut rate, &mut at, 750, 1);
        assert_eq!(rate.average(), 3e6, "of the new time alone");
        at.1 = 7;
        rate.observe(at.1, SMOOTHING, at.0 + Duration::from_millis(250));
        assert_eq!(rate.average(), 3e6);
    }
}
