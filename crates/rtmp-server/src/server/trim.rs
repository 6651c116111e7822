//! Gives back to the system what connections have left behind.
//!
//! The allocator keeps what is freed for the next one; after a burst of
//! connections that is more than all players hold together.

use std::time::{Duration, Instant};

/// So many connections that came or went leave behind what is worth the while.
const BURST: u64 = 100;
/// It is given back so long after they began to: a burst takes some seconds.
const DELAY: Duration = Duration::from_secs(30);

/// Knows when it is time.
#[derive(Debug, Default)]
pub(super) struct Trim {
    /// Connections that had come or gone by the last time.
    seen: u64,
    due: Option<Instant>,
}

impl Trim {
    /// Whether it is time, when connections have come or gone so many times;
    /// then it counts as done.
    pub(super) fn is_due(&mut self, now: Instant, changes: u64) -> bool {
        if changes - self.seen >= BURST {
            self.due.get_or_insert(now + DELAY);
        }
        let due = self.due.is_some_and(|due| due <= now);
        if due {
            self.seen = changes;
            self.due = None;
        }
        due
    }
}

/// Gives whole free pages back (`malloc_trim(3)`; other C libraries than glibc
/// do so by themselves, or never). Takes some milliseconds.
pub(super) fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes no pointer, and may be made at any time from any
    // thread.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds of two minutes in which it is time.
    fn due(changes: impl Fn(u64) -> u64) -> Vec<u64> {
        let start = Instant::now();
        let mut trim = Trim::default();
        let is_due = |second: &u64| {
            let now = start + Duration::from_secs(*second);
            trim.is_due(now, changes(*second))
        };
        (0..120).filter(is_due).collect()
    }

    #[test]
    fn a_burst_is_followed_by_one_trim() {
        let burst = |second: u64| 5 + 200 * second.saturating_sub(40).min(5);
        assert_eq!(due(burst), [71]);
    }

    #[test]
    fn where_connections_come_and_go_all_the_time_it_is_done_now_and_then() {
        assert_eq!(due(|second| 100 * second), [31, 62, 93]);
    }

    #[test]
    fn few_connections_leave_nothing_behind() {
        assert_eq!(due(|second| second / 2), [] as [u64; 0]);
    }
}
