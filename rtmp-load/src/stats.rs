//! Durations gathered over thousands of players, and their percentiles.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Values are kept to three digits: 0.1 % of the value.
const DIGITS: u8 = 3;

/// A distribution of durations, kept in microseconds.
#[derive(Debug, Clone)]
pub struct Durations(Histogram<u64>);

impl Default for Durations {
    fn default() -> Self {
        Self(Histogram::new(DIGITS).expect("three digits are allowed"))
    }
}

impl Durations {
    /// Takes one more.
    pub fn record(&mut self, span: Duration) {
        let microseconds = span.as_micros().try_into().unwrap_or(u64::MAX);
        self.0
            .record(microseconds)
            .expect("the histogram grows as it must");
    }

    /// Takes all of another.
    pub fn merge(&mut self, other: &Durations) {
        self.0
            .add(&other.0)
            .expect("the histogram grows as it must");
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The summary, in milliseconds; `None` if there are no values.
    pub fn summary(&self) -> Option<Percentiles> {
        let quantile = |quantile| self.0.value_at_quantile(quantile) as f64 / 1000.0;
        (!self.0.is_empty()).then(|| Percentiles {
            count: self.0.len(),
            min: self.0.min() as f64 / 1000.0,
            mean: self.0.mean() / 1000.0,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: self.0.max() as f64 / 1000.0,
        })
    }
}

/// A distribution in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// Number of values.
    pub count: u64,
    /// The least.
    pub min: f64,
    /// Their mean.
    pub mean: f64,
    /// Half are at most this.
    pub p50: f64,
    /// Nine of ten are at most this.
    pub p90: f64,
    /// 99 of 100 are at most this.
    pub p99: f64,
    /// 999 of 1000 are at most this.
    pub p999: f64,
    /// The greatest.
    pub max: f64,
}

/// The measurements of all players of one worker.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// From the call of *connect* to the established TCP connection.
    pub connect: Durations,
    /// From the call of *connect* to the first audio, video or data message.
    pub first_byte: Durations,
    /// From the call of *connect* to the last byte of the first keyframe.
    pub first_keyframe: Durations,
    /// From the publisher's send to the last byte at the player, in the
    /// measured window.
    pub latency: Durations,
    /// From the publisher's send to the moment at which a player that keeps a
    /// buffer shows the picture, in the measured window.
    pub behind: Durations,
    /// Answers to HTTP requests of HLS, in the measured window.
    pub answers: u64,
    /// Silences longer than the limit.
    pub stalls: Durations,
    /// Of each player the longest time without a new stamped picture.
    pub picture_gaps: Durations,
    /// From a connection's last media to the first keyframe of the next.
    pub outages: Durations,
}

impl Tally {
    /// The measured window begins.
    pub fn begin_window(&mut self) {
        self.latency.clear();
        self.behind.clear();
        self.answers = 0;
    }

    /// Takes all of another worker's.
    pub fn merge(&mut self, other: &Tally) {
        self.connect.merge(&other.connect);
        self.first_byte.merge(&other.first_byte);
        self.first_keyframe.merge(&other.first_keyframe);
        self.latency.merge(&other.latency);
        self.behind.merge(&other.behind);
        self.answers += other.answers;
        self.stalls.merge(&other.stalls);
        self.picture_gaps.merge(&other.picture_gaps);
        self.outages.merge(&other.outages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_milliseconds() {
        let mut durations = Durations::default();
        for milliseconds in 1..=1000 {
            durations.record(Duration::from_millis(milliseconds));
        }
        let summary = durations.summary().unwrap();
        assert_eq!(
            (summary.count, summary.min.round(), summary.max.round()),
            (1000, 1.0, 1000.0)
        );
        assert!(
            (summary.p50 - 500.0).abs() < 1.0,
            "p50 of 1 to 1000 ms: {}",
            summary.p50
        );
        assert!(
            (summary.p99 - 990.0).abs() < 1.0,
            "p99 of 1 to 1000 ms: {}",
            summary.p99
        );
    }

    #[test]
    fn nothing_measured_has_no_percentiles() {
        assert_eq!(Durations::default().summary(), None);
    }

    #[test]
    fn merging_adds_all_values() {
        let mut one = Durations::default();
        one.record(Duration::from_millis(10));
        let mut other = Durations::default();
        other.record(Duration::from_millis(90_000));
        one.merge(&other);
        let summary = one.summary().unwrap();
        assert_eq!(summary.count, 2);
        assert!((summary.max - 90_000.0).abs() < 90.0, "max {}", summary.max);
    }
}
