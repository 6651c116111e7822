//! The bit rates of viewers that the average does not show yet.
//!
//! A viewer that begins to be sent a rate adds `rate · (1 - e^(-t/τ))` to an exponential
//! average of the time constant τ by the time t. What is reserved for it is the rest,
//! `rate · e^(-t/τ)`: average and reservation are always the whole rate together. All that
//! fade do so alike, so that one number is enough for them.

use std::time::{Duration, Instant};

/// What is reserved, bit/s.
#[derive(Debug, Default)]
pub(super) struct Reserved {
    /// Viewers that are not sent anything yet.
    waiting: f64,
    /// The part of the others that the average does not show, at the time `at`.
    fading: f64,
    at: Option<Instant>,
    /// Number of reservations.
    count: usize,
}

impl Reserved {
    /// Reserves `rate` for a viewer.
    pub(super) fn add(&mut self, rate: f64) {
        self.add_all(rate, 1);
    }

    /// Reserves `rate` for `count` viewers together.
    pub(super) fn add_all(&mut self, rate: f64, count: usize) {
        self.count += count;
        self.waiting += rate;
    }

    /// The viewer of `rate` begins to be sent it.
    pub(super) fn begin(&mut self, rate: f64, smoothing: Duration, now: Instant) {
        self.fade(smoothing, now);
        self.waiting -= rate;
        self.fading += rate;
    }

    /// The viewer of `rate`, which has begun at `begun`, has gone.
    pub(super) fn remove(
        &mut self,
        rate: f64,
        begun: Option<Instant>,
        smoothing: Duration,
        now: Instant,
    ) {
        self.fade(smoothing, now);
        match begun {
            Some(begun) => {
                let age = now.saturating_duration_since(begun);
                self.fading = (self.fading - rate * rest(age, smoothing)).max(0.0);
            }
            None => self.waiting -= rate,
        }
        self.count -= 1;
        if self.count == 0 {
            // What rounding has left.
            (self.waiting, self.fading) = (0.0, 0.0);
        }
    }

    /// What is reserved at `now`.
    pub(super) fn rate(&mut self, smoothing: Duration, now: Instant) -> f64 {
        self.fade(smoothing, now);
        (self.waiting + self.fading).max(0.0)
    }

    fn fade(&mut self, smoothing: Duration, now: Instant) {
        if let Some(at) = self.at.replace(now) {
            self.fading *= rest(now.saturating_duration_since(at), smoothing);
        }
    }
}

/// The part of a rate that an average does not show after `age`.
fn rest(age: Duration, smoothing: Duration) -> f64 {
    (-age.as_secs_f64() / smoothing.as_secs_f64()).exp()
}

#[cfg(test)]
mod tests {
    use super::super::rate::Rate;
    use super::*;

    const SMOOTHING: Duration = Duration::from_secs(3);
    const STEP: Duration = Duration::from_millis(250);

    #[test]
    fn average_and_reservation_are_the_whole_rate_together() {
        let (mut reserved, mut rate) = (Reserved::default(), Rate::default());
        let (mut now, mut bytes) = (Instant::now(), 0);
        for _ in 0..40 {
            rate.observe(bytes, SMOOTHING, now);
            now += STEP;
        }
        reserved.add(4e6);
        assert_eq!(reserved.rate(SMOOTHING, now), 4e6, "whole before it begins");
        rate.observe(bytes, SMOOTHING, now);
        let begun = now;
        reserved.begin(4e6, SMOOTHING, begun);
        for _ in 0..60 {
            let all = rate.average() + reserved.rate(SMOOTHING, now);
            assert!((all - 4e6).abs() < 1.0, "{all}");
            now += STEP;
            bytes += 125_000;
            rate.observe(bytes, SMOOTHING, now);
        }
        reserved.remove(4e6, Some(begun), SMOOTHING, now);
        assert_eq!(reserved.rate(SMOOTHING, now), 0.0);
    }

    #[test]
    fn whoever_goes_takes_the_own_reservation_along() {
        let mut reserved = Reserved::default();
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        reserved.add(1e6);
        reserved.add(2e6);
        reserved.begin(2e6, SMOOTHING, now);
        reserved.remove(2e6, Some(now), SMOOTHING, later);
        assert!((reserved.rate(SMOOTHING, later) - 1e6).abs() < 1.0);
        reserved.remove(1e6, None, SMOOTHING, later);
        assert_eq!(reserved.rate(SMOOTHING, later), 0.0);
    }
}
