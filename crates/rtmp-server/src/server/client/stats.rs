//! What a connection has sent and received in one play or publish.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Client;

/// The counters of a connection at one moment. The difference of two snapshots is one
/// play or publish, of which a connection may have several.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(in crate::server) struct StatsSnapshot {
    #[serde(with = "crate::hand_over::monotonic")]
    at: Instant,
    received: u64,
    messages_received: u64,
    pictures_received: u64,
    sent: u64,
    pictures: u64,
    skips: u64,
}

impl StatsSnapshot {
    /// The counters of `client` at `now`.
    pub(in crate::server) fn of(client: &Client, now: Instant) -> Self {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Self {
            at: now,
            received: read(&client.received),
            messages_received: read(&client.messages_received),
            pictures_received: read(&client.pictures_received),
            sent: read(&client.meter.bytes),
            pictures: read(&client.meter.pictures),
            skips: read(&client.meter.skips),
        }
    }

    /// The counters of `client` when it came.
    pub(in crate::server) fn at_beginning(client: &Client) -> Self {
        Self {
            at: client.since,
            received: 0,
            messages_received: 0,
            pictures_received: 0,
            sent: 0,
            pictures: 0,
            skips: 0,
        }
    }

    /// `3.5 s, 1028736 bytes, 103 frames, 0 skips`: what has been sent to a
    /// player since `begun`.
    pub(in crate::server) fn played_since(&self, begun: &Self) -> String {
        format!(
            "{:.1} s, {} bytes, {} frames, {} skips",
            self.at.saturating_duration_since(begun.at).as_secs_f64(),
            self.sent - begun.sent,
            self.pictures - begun.pictures,
            self.skips - begun.skips,
        )
    }

    /// `3.5 s, 1028736 bytes`: what a viewer by HLS has been sent since `begun`.
    pub(in crate::server) fn delivered_since(&self, begun: &Self) -> String {
        let passed = self.at.saturating_duration_since(begun.at).as_secs_f64();
        format!("{passed:.1} s, {} bytes", self.sent - begun.sent)
    }

    /// `3.5 s, 1028736 bytes, 103 frames, 290 messages`: what a publisher has
    /// sent since `begun`.
    pub(in crate::server) fn published_since(&self, begun: &Self) -> String {
        format!(
            "{:.1} s, {} bytes, {} frames, {} messages",
            self.at.saturating_duration_since(begun.at).as_secs_f64(),
            self.received - begun.received,
            self.pictures_received - begun.pictures_received,
            self.messages_received - begun.messages_received,
        )
    }
}
