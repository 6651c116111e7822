//! Pauses between attempts to do what has failed.

use std::time::Duration;

use log::Level;

/// The first pause.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(15);
/// An attempt that has gone well for so long has succeeded: the next pause is the first.
const SUCCESS: Duration = Duration::from_secs(30);

/// The pause after an attempt that has done its work, however soon.
const REST: Duration = Duration::from_secs(1);

/// An attempt that has gone well for so long fails anew, even if for the same reason.
const NEWS: Duration = Duration::from_secs(5);

/// Pauses that double from one failure to the next, and what is said of them.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    last_reason: String,
}

impl Backoff {
    /// The pause after an attempt that has lasted for `lasted`, before it is spread.
    fn next(&mut self, lasted: Duration) -> Duration {
        if lasted >= SUCCESS {
            self.failures = 0;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10));
        self.failures += 1;
        pause.min(MAX_PAUSE)
    }

    /// The pause after an attempt that has lasted for `lasted`: by up to a fifth shorter
    /// than others, so that those which failed together do not try together.
    pub(super) fn pause(&mut self, lasted: Duration) -> Duration {
        self.next(lasted).mul_f64(1.0 - 0.2 * fastrand::f64())
    }

    /// The pause after an attempt that has done its work: failures are counted from the
    /// beginning again.
    pub(super) fn rest(&mut self) -> Duration {
        *self = Self::default();
        REST
    }

    /// The level at which an attempt is logged that has failed for `reason` after `lasted`:
    /// what fails for days again and again in the same way does not fill the log.
    pub(super) fn level(&mut self, reason: &str, lasted: Duration) -> Level {
        let is_news = lasted >= NEWS || self.last_reason != reason;
        reason.clone_into(&mut self.last_reason);
        match is_news {
            true => Level::Warn,
            false => Level::Debug,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_failure_is_told_once() {
        let mut backoff = Backoff::default();
        let mut level = |reason, seconds| backoff.level(reason, Duration::from_secs(seconds));
        assert_eq!(level("a", 0), Level::Warn);
        assert_eq!(level("a", 1), Level::Debug);
        assert_eq!(level("b", 1), Level::Warn);
        assert_eq!(level("b", 5), Level::Warn);
    }

    #[test]
    fn what_has_done_its_work_is_begun_anew_soon_and_has_not_failed() {
        let mut backoff = Backoff::default();
        let begun = |backoff: &mut Backoff| backoff.next(Duration::ZERO).as_secs();
        assert_eq!([1, 2, 4].map(|_| begun(&mut backoff)), [1, 2, 4]);
        assert_eq!(backoff.level("a", Duration::ZERO), Level::Warn);
        let rests = [(); 5].map(|()| backoff.rest().as_secs());
        assert_eq!(rests, [1; 5], "never none, and not a longer one");
        assert_eq!(begun(&mut backoff), 1);
        assert_eq!(backoff.level("a", Duration::ZERO), Level::Warn, "news");
    }

    #[test]
    fn pauses_double_to_a_limit_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let pauses = |lasted: &[u64], backoff: &mut Backoff| -> Vec<u64> {
            let next = |&lasted| backoff.next(Duration::from_secs(lasted)).as_secs();
            lasted.iter().map(next).collect()
        };
        assert_eq!(
            pauses(&[0, 0, 3, 0, 0, 0], &mut backoff),
            [1, 2, 4, 8, 15, 15]
        );
        assert_eq!(pauses(&[30, 0], &mut backoff), [1, 2]);
        backoff.failures = u32::MAX - 1;
        assert_eq!(pauses(&[0], &mut backoff), [15]);
    }
}
