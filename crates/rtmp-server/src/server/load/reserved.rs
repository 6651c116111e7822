//! The bit rates of viewers that the average does not show yet.
//!
//! The average is an exponential one of an exponential one ([`super::rate`]). A viewer that
//! begins to be sent a rate adds `rate · (1 - (1 + t/τ) e^(-t/τ))` to that by the time t, for
//! the time constant τ. What is reserved for it is the rest, `rate · (1 + t/τ) e^(-t/τ)`: average
//! and reservation are always the whole rate together. All that fade do so alike, so that two
//! numbers are enough for them: the sums of `rate · e^(-t/τ)` and of `rate · t/τ · e^(-t/τ)`.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// What is reserved, bit/s.
#[derive(Debug, Default)]
pub(super) struct Reserved {
    /// Viewers that are not sent anything yet.
    waiting: f64,
    /// The part of the others that the average does not show, at the time `at`.
    fading: Fading,
    /// The same for viewers that the program before has let in: they have no reservations of
    /// their own here.
    taken_over: Fading,
    at: Option<Instant>,
    /// Number of reservations.
    count: usize,
}

/// What an average of an average does not show: what the first one does not, and what the
/// second one does not show of the first.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Fading {
    of_first: f64,
    of_second: f64,
}

impl Fading {
    /// What is left of it after `age`.
    fn after(self, age: Duration, smoothing: Duration) -> Self {
        let steps = age.as_secs_f64() / smoothing.as_secs_f64();
        let rest = (-steps).exp();
        Self {
            of_first: self.of_first * rest,
            of_second: (self.of_second + self.of_first * steps) * rest,
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            of_first: self.of_first + other.of_first,
            of_second: self.of_second + other.of_second,
        }
    }

    fn sum(self) -> f64 {
        self.of_first + self.of_second
    }

    fn of_rate(rate: f64) -> Self {
        Self {
            of_first: rate,
            of_second: 0.0,
        }
    }
}

impl Reserved {
    /// What is reserved at `now`, for the program that the process becomes: viewers that wait
    /// for something to play are taken to begin now.
    pub(super) fn part(&mut self, smoothing: Duration, now: Instant) -> Fading {
        self.fade(smoothing, now);
        let waiting = Fading::of_rate(self.waiting.max(0.0));
        self.fading.plus(self.taken_over).plus(waiting)
    }

    /// Goes on with what the program before had reserved at `at`.
    pub(super) fn take_over(&mut self, part: Fading, at: Instant) {
        (self.taken_over, self.at) = (part, Some(at));
    }

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
        self.fading.of_first += rate;
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
                let left = Fading::of_rate(rate).after(age, smoothing);
                let Fading {
                    of_first,
                    of_second,
                } = &mut self.fading;
                *of_first = (*of_first - left.of_first).max(0.0);
                *of_second = (*of_second - left.of_second).max(0.0);
            }
            None => self.waiting -= rate,
        }
        self.count -= 1;
        if self.count == 0 {
            // What rounding has left.
            (self.waiting, self.fading) = (0.0, Fading::default());
        }
    }

    /// What is reserved at `now`.
    pub(super) fn rate(&mut self, smoothing: Duration, now: Instant) -> f64 {
        self.fade(smoothing, now);
        (self.waiting + self.fading.sum() + self.taken_over.sum()).max(0.0)
    }

    fn fade(&mut self, smoothing: Duration, now: Instant) {
        if let Some(at) = self.at.replace(now) {
            let age = now.saturating_duration_since(at);
            self.fading = self.fading.after(age, smoothing);
            self.taken_over = self.taken_over.after(age, smoothing);
        }
    }
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
