//! Not more than so many per second. No I/O.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// Time by which one may be let go early: sleeping for every single one
/// would cost more than sending it.
const SLACK: Duration = Duration::from_millis(5);

/// Lets one after the other go, evenly.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    /// When the next one is due.
    due: Instant,
}

impl Pace {
    /// A pace of `rate` per second from `now` on.
    pub(super) fn new(rate: NonZeroU32, now: Instant) -> Self {
        Self {
            interval: Duration::from_secs(1) / rate.get(),
            due: now,
        }
    }

    /// The time to wait before the next one goes, which it then does.
    pub(super) fn next(&mut self, now: Instant) -> Duration {
        // Whoever was late does not catch up.
        let due = self.due.max(now);
        self.due = due + self.interval;
        let early = due - now;
        if early < SLACK { Duration::ZERO } else { early }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lets_no_more_go_than_the_rate_says_but_for_the_slack() {
        let rate = NonZeroU32::new(10_000).expect("not zero");
        let start = Instant::now();
        let (mut pace, mut now, mut gone) = (Pace::new(rate, start), start, 0);
        while now < start + Duration::from_secs(1) {
            now += pace.next(now);
            gone += 1;
        }
        assert!((10_000..=10_051).contains(&gone), "{gone} in a second");
    }

    #[test]
    fn lost_time_is_not_caught_up() {
        let rate = NonZeroU32::new(100).expect("not zero");
        let start = Instant::now();
        let mut pace = Pace::new(rate, start);
        assert_eq!(pace.next(start), Duration::ZERO);
        let late = start + Duration::from_secs(10);
        assert_eq!(pace.next(late), Duration::ZERO);
        assert_eq!(pace.next(late), Duration::from_millis(10));
    }
}
