//! The number of switches between publishers, for metrics.

use std::collections::HashMap;
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

    /// Adds what this process has counted before, by the names of reasons.
    pub(super) fn add(&self, counts: &HashMap<String, u64>) {
        for (reason, count) in SwitchReason::ALL.into_iter().zip(&self.0) {
            let before = counts.get(reason.name()).copied().unwrap_or(0);
            count.fetch_add(before, Ordering::Relaxed);
        }
    }

    /// The counts.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (SwitchReason, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        SwitchReason::ALL.into_iter().zip(counts)
    }
}
