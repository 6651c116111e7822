//! The number of switches between publishers, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::stream::SwitchReason;

/// Number of switches by reason.
#[derive(Debug, Default)]
pub(crate) struct Switches([AtomicU64; SwitchReason::ALL.len()]);

impl Switches {
    /// Counts one.
    pub(super) fn count(&self, reason: SwitchReason) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The counts.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (SwitchReason, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        SwitchReason::ALL.into_iter().zip(counts)
    }
}
