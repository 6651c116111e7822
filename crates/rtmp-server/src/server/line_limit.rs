//! A limit of log lines: whatever clients do, they do not fill the log.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::stream::lock;

/// Time over which lines are counted.
pub(super) const PERIOD: Duration = Duration::from_secs(10);
/// The most lines within that time.
const MAX_LINES: u32 = 10;

/// Lets a few lines of a kind into the log within [`PERIOD`], and counts the others.
#[derive(Debug, Default)]
pub(super) struct LineLimit(Mutex<Option<Counted>>);

/// The lines of a period.
#[derive(Debug)]
struct Counted {
    since: Instant,
    lines: u32,
    left_out: u64,
}

impl LineLimit {
    /// True if a line may be written at `now`; else it is counted.
    pub(super) fn admits(&self, now: Instant) -> bool {
        let mut counted = lock(&self.0);
        let counted = counted.get_or_insert(Counted {
            since: now,
            lines: 0,
            left_out: 0,
        });
        let admitted = counted.lines < MAX_LINES;
        match admitted {
            true => counted.lines += 1,
            false => counted.left_out += 1,
        }
        admitted
    }

    /// Number of lines that were left out of the period that has ended before `now`, if any.
    pub(super) fn take_left_out(&self, now: Instant) -> Option<u64> {
        let is_over = |it: &mut Counted| now.saturating_duration_since(it.since) >= PERIOD;
        let ended = lock(&self.0).take_if(is_over)?;
        (ended.left_out > 0).then_some(ended.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_limit_are_counted_and_the_next_period_has_lines_again() {
        let (limit, now) = (LineLimit::default(), Instant::now());
        let written = (0..1_000).filter(|_| limit.admits(now)).count();
        assert_eq!(written, MAX_LINES as usize);
        assert_eq!(limit.take_left_out(now), None);
        assert!(!limit.admits(now));
        let later = now + PERIOD;
        assert_eq!(
            limit.take_left_out(later),
            Some(1_001 - u64::from(MAX_LINES))
        );
        assert_eq!(limit.take_left_out(later), None);
        assert!(limit.admits(later));
    }
}
