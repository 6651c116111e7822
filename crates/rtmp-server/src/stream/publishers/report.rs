//! The publishers of a stream for the HTTP API.

use std::time::{Duration, Instant};

use super::{Publishers, Rank, State};

/// A publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PublisherReport {
    /// Its connection; `None` for a slate, and for a pull from an origin.
    pub(crate) client: Option<u64>,
    pub(crate) rank: Rank,
    pub(crate) is_on_air: bool,
    /// It waits and has a keyframe to begin at.
    pub(crate) is_ready: bool,
    /// An operator has ordered it on air, at its next keyframe.
    pub(crate) is_ordered: bool,
    /// Time since its last media, while it waits.
    pub(crate) silence: Option<Duration>,
}

impl Publishers {
    /// All of them, in the order in which they came.
    pub(in crate::stream) fn report(&self, now: Instant) -> Vec<PublisherReport> {
        let on_air = self.on_air();
        let entries = self.entries.iter();
        let reports = entries.map(|entry| PublisherReport {
            client: entry.client,
            rank: entry.rank,
            is_on_air: Some(entry.id) == on_air,
            is_ready: entry.is_ready,
            is_ordered: matches!(self.state, State::Ordered { to, .. } if to == entry.id),
            silence: entry
                .pauses
                .last()
                .map(|last| now.saturating_duration_since(last)),
        });
        reports.collect()
    }
}
