//! Latencies and failures of the hooks, by event.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use service_kit::metrics::Histogram;

use super::post::HookError;

/// The events of hooks.
const EVENTS: [&str; 10] = [
    "on_connect",
    "on_close",
    "on_publish",
    "on_unpublish",
    "on_play",
    "on_stop",
    "on_hls",
    "on_switch",
    "on_dvr",
    "on_forward",
];

/// Upper bounds of latencies, in ms. The last one is the time limit of a hook.
const BOUNDS_MS: [u64; 9] = [5, 10, 25, 50, 100, 250, 500, 1_000, 5_000];

/// Figures of the requests and notifications of one event.
#[derive(Debug)]
pub(crate) struct HookStats {
    /// Time from the event, for a notification from its turn, to the answer.
    pub(crate) latency: Histogram<{ BOUNDS_MS.len() }>,
    /// Web servers said no.
    pub(crate) refused: AtomicU64,
    /// Web servers could not be asked, or did not answer in time.
    pub(crate) failed: AtomicU64,
}

/// The figures of all events.
#[derive(Debug)]
pub(super) struct AllHookStats([HookStats; EVENTS.len()]);

impl Default for AllHookStats {
    fn default() -> Self {
        Self(std::array::from_fn(|_| HookStats {
            latency: Histogram::new(BOUNDS_MS),
            refused: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }))
    }
}

impl AllHookStats {
    /// Counts the answer to a hook of `event` that was sent at `begun`.
    pub(super) fn count<T>(&self, event: &str, begun: Instant, answer: &Result<T, HookError>) {
        let Some(number) = EVENTS.iter().position(|known| *known == event) else {
            return;
        };
        let stats = &self.0[number];
        stats.latency.observe(begun.elapsed());
        let counter = match answer {
            Ok(_) => return,
            Err(HookError::Refused { .. }) => &stats.refused,
            Err(_) => &stats.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The figures for the program that the process becomes: latencies, refusals, failures.
    pub(super) fn part(&self) -> HashMap<String, (Vec<u64>, u64, u64)> {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let parts = self.iter().map(|(event, stats)| {
            let numbers = (read(&stats.refused), read(&stats.failed));
            (
                event.to_owned(),
                (stats.latency.counts(), numbers.0, numbers.1),
            )
        });
        parts.collect()
    }

    /// Adds the figures that this process has had before.
    pub(super) fn take_over(&self, part: &HashMap<String, (Vec<u64>, u64, u64)>) {
        for (event, stats) in self.iter() {
            if let Some((latency, refused, failed)) = part.get(event) {
                stats.latency.add(latency);
                stats.refused.fetch_add(*refused, Ordering::Relaxed);
                stats.failed.fetch_add(*failed, Ordering::Relaxed);
            }
        }
    }

    /// The figures by event.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &HookStats)> {
        EVENTS.into_iter().zip(&self.0)
    }
}
