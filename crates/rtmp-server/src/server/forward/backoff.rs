//! The pauses between the attempts to reach a server.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Pause after the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(30);
/// Whoever has worked for so long begins with the first pause again.
const PROVEN_AFTER: Duration = Duration::from_secs(10);

/// Pauses that double, each between its half and its whole, so that many do not try in step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Backoff {
    failures: u32,
    /// State of xorshift64 (Marsaglia 2003); not 0.
    random: u64,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            failures: 0,
            random: seed.max(1),
        }
    }

    /// The pause after an attempt that has failed once it had worked for `worked`.
    pub(super) fn after(&mut self, worked: Duration) -> Duration {
        if worked >= PROVEN_AFTER {
            self.failures = 0;
        }
        let pause = FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        pause / 2 + (pause / 2).mul_f64(self.fraction())
    }

    /// A number between 0 and 1.
    fn fraction(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        f64::from((self.random >> 32) as u32) / f64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit_and_begin_anew_with_who_has_worked() {
        let mut backoff = Backoff::new(7);
        for expected in [1, 2, 4, 8, 16, 30, 30] {
            let expected = Duration::from_secs(expected);
            let pause = backoff.after(Duration::from_secs(1));
            assert!((expected / 2..=expected).contains(&pause), "{pause:?}");
        }
        assert!(backoff.after(PROVEN_AFTER) <= FIRST);
    }

    #[test]
    fn two_do_not_try_in_step() {
        let pause = |seed| Backoff::new(seed).after(Duration::ZERO);
        assert_ne!(pause(1), pause(0x9e37_79b9_7f4a_7c15));
    }
}
