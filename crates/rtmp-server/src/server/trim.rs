//! Returns freed memory of connections to the system.
//!
//! The allocator keeps freed memory for the next allocations. After a burst of
//! connections that is more than all players take together.

use std::time::{Duration, Instant};

/// Number of connections that have come or gone after which a trim is worth it.
const BURST: u64 = 100;
/// Delay of the trim after that: a burst takes some seconds.
const DELAY: Duration = Duration::from_secs(30);

/// Decides when to trim.
#[derive(Debug, Default)]
pub(super) struct Trim {
    /// Connections that had come or gone by the last time.
    seen: u64,
    due: Option<Instant>,
}

impl Trim {
    /// Returns true if a trim is due, and counts it as done. `changes` is the number
    /// of connections that have come or gone so far.
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

/// Returns free pages to the system (`malloc_trim(3)`; other C libraries than glibc
/// do so by themselves, or never). It takes some milliseconds.
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

    /// The seconds, of two minutes, in which a trim is due.
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
