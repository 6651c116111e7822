//! A forward as `/api/v1/forwards` shows it. SRS has no such list.

use std::time::Instant;

use serde::Serialize;

use crate::server::Forward;

/// A forward of a stream to another server.
#[derive(Debug, Serialize)]
pub(super) struct ForwardReport {
    /// The id of the stream.
    id: String,
    vhost: String,
    app: String,
    stream: String,
    /// The server, and the name that the stream has there, without what may be secret.
    destination: String,
    /// `connecting`, `sending` or `waiting`.
    state: &'static str,
    /// Bytes sent.
    bytes: u64,
    /// Time since the oldest message came that has not been sent, in ms; `null` unless it is
    /// sending.
    lag_ms: Option<u64>,
    /// Attempts to connect.
    attempts: u64,
    /// Number of times that it was too slow, and went on at a keyframe.
    skips: u64,
    /// Why the last attempt or connection has failed; `null` while it is sending.
    error: Option<String>,
}

impl ForwardReport {
    /// `forward` at `now`.
    pub(super) fn new(forward: &Forward, now: Instant) -> Self {
        let (key, progress) = (forward.stream.key(), forward.progress());
        let lag = forward.lag(now);
        Self {
            id: forward.stream.id().to_string(),
            vhost: key.vhost.clone(),
            app: key.app.clone(),
            stream: key.stream.clone(),
            destination: forward.destination.to_string(),
            state: progress.state.name(),
            bytes: progress.bytes,
            lag_ms: lag.map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
            attempts: progress.attempts,
            skips: progress.skips,
            error: progress.error,
        }
    }
}
