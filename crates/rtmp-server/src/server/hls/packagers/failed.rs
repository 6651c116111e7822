//! Packagers that fail: the pauses before the next one starts.

use std::time::{Duration, Instant};

/// A packager that has failed is started again after this time; each further one after
/// twice the time of the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(64);

/// The failures of a stream's packagers.
#[derive(Debug)]
pub(super) struct Failed {
    /// The next one starts then.
    pub(super) until: Instant,
    pause: Duration,
}

impl Failed {
    /// One more failure, at `now`.
    pub(super) fn again(before: Option<Self>, now: Instant) -> Self {
        let pause = before.map_or(FIRST_PAUSE, |it| (it.pause * 2).min(MAX_PAUSE));
        Self {
            until: now + pause,
            pause,
        }
    }

    /// True if there has been no failure for so long that the next one is the first.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.until + MAX_PAUSE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packagers_that_keep_failing_start_ever_more_rarely() {
        let now = Instant::now();
        let mut failed = Failed::again(None, now);
        let mut pauses = vec![failed.pause.as_secs()];
        for _ in 0..7 {
            failed = Failed::again(Some(failed), now);
            pauses.push(failed.pause.as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 64]);
        assert!(!failed.is_over(failed.until));
        assert!(failed.is_over(failed.until + MAX_PAUSE));
    }
}
