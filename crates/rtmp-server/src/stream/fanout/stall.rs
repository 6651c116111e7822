//! Tells a slow player from one that takes nothing any more.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Watches a player that cannot be sent to at present.
///
/// That the socket takes nothing says little: it does again only when a third
/// of its buffer is free, which a slow reader may need minutes for. Such a
/// reader shows in the bytes that the kernel still holds for it: they dwindle.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct StallTimer {
    /// Time from which on it has taken nothing; none while the socket takes
    /// something.
    #[serde(with = "crate::hand_over::monotonic")]
    since: Option<Instant>,
    /// Bytes that the kernel held for it at the last check.
    queued: Option<usize>,
}

impl StallTimer {
    /// True if the socket is full.
    pub(super) fn is_running(&self) -> bool {
        self.since.is_some()
    }

    /// The socket takes nothing.
    pub(super) fn start(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// The socket has taken something.
    pub(super) fn stop(&mut self) {
        *self = Self::default();
    }

    /// True if the player has taken nothing for `timeout`, when the kernel
    /// holds `queued` bytes for it at `now`.
    pub(super) fn has_expired(&mut self, now: Instant, queued: usize, timeout: Duration) -> bool {
        let Some(since) = &mut self.since else {
            return false;
        };
        if self
            .queued
            .replace(queued)
            .is_some_and(|before| queued < before)
        {
            *since = now;
        }
        now.saturating_duration_since(*since) >= timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn second(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn a_player_that_takes_nothing_tries_it_for_the_timeout() {
        let now = Instant::now();
        let mut timer = StallTimer::default();
        timer.start(now);
        timer.start(now + second(20));
        assert!(!timer.has_expired(now + second(29), 1_000, TIMEOUT));
        assert!(timer.has_expired(now + second(30), 1_000, TIMEOUT));
    }

    #[test]
    fn a_player_that_reads_slowly_is_not_given_up_though_its_socket_stays_full() {
        let now = Instant::now();
        let mut timer = StallTimer::default();
        timer.start(now);
        for number in 1..1_000 {
            let left = 1_000_000 - 100 * usize::try_from(number).unwrap();
            assert!(
                !timer.has_expired(now + second(number), left, TIMEOUT),
                "second {number}"
            );
        }
        let stuck = 1_000_000 - 99_900;
        assert!(!timer.has_expired(now + second(1_028), stuck, TIMEOUT));
        assert!(timer.has_expired(now + second(1_029), stuck, TIMEOUT));
    }

    #[test]
    fn a_player_whose_socket_takes_more_is_not_watched() {
        let now = Instant::now();
        let mut timer = StallTimer::default();
        timer.start(now);
        timer.stop();
        assert!(!timer.is_running());
        assert!(!timer.has_expired(now + second(100), 1_000, TIMEOUT));
    }
}
