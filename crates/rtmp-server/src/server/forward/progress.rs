//! A forward as the HTTP API and metrics show it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::config::Destination;
use crate::stream::{Stream, lock};

/// Totals of all forwards, those that are over included.
#[derive(Debug, Default)]
pub(crate) struct ForwardTotals {
    /// Bytes sent.
    pub(crate) bytes: AtomicU64,
    /// Attempts to connect.
    pub(crate) attempts: AtomicU64,
    /// Attempts and connections that have failed.
    pub(crate) failures: AtomicU64,
    /// Number of times that a server was too slow, and was sent the newest keyframe next.
    pub(crate) skips: AtomicU64,
}

/// What a forward does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ForwardState {
    /// It connects, and asks to publish.
    #[default]
    Connecting,
    /// It sends.
    Sending,
    /// It has failed, and waits to try again.
    Waiting,
}

impl ForwardState {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Connecting, Self::Sending, Self::Waiting];

    /// Its name in the HTTP API and in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Sending => "sending",
            Self::Waiting => "waiting",
        }
    }
}

/// The forward of a stream to one server.
#[derive(Debug)]
pub(crate) struct Forward {
    pub(crate) stream: Arc<Stream>,
    pub(crate) destination: Destination,
    progress: Mutex<Progress>,
    totals: Arc<ForwardTotals>,
}

/// How far a forward is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Progress {
    pub(crate) state: ForwardState,
    /// Offset in the log up to which the server has been sent everything.
    offset: u64,
    pub(crate) bytes: u64,
    pub(crate) attempts: u64,
    pub(crate) skips: u64,
    /// It was too slow since it was accepted last.
    is_slow: bool,
    /// Why the last attempt or connection has failed.
    pub(crate) error: Option<String>,
}

impl Forward {
    pub(super) fn new(
        stream: Arc<Stream>,
        destination: Destination,
        progress: Progress,
        totals: Arc<ForwardTotals>,
    ) -> Self {
        Self {
            stream,
            destination,
            progress: Mutex::new(progress),
            totals,
        }
    }

    /// How far it is.
    pub(crate) fn progress(&self) -> Progress {
        lock(&self.progress).clone()
    }

    /// Time at `now` since the oldest message came that the server has not been sent; `None`
    /// unless it is being sent something, and has been.
    pub(crate) fn lag(&self, now: Instant) -> Option<Duration> {
        let Progress { state, offset, .. } = self.progress();
        (state == ForwardState::Sending && offset > 0).then(|| self.stream.lag_at(offset, now))
    }

    pub(super) fn begin_attempt(&self) {
        self.totals.attempts.fetch_add(1, Ordering::Relaxed);
        let mut progress = lock(&self.progress);
        progress.state = ForwardState::Connecting;
        progress.attempts += 1;
    }

    /// The server takes the stream.
    pub(super) fn accepted(&self) {
        let mut progress = lock(&self.progress);
        progress.state = ForwardState::Sending;
        progress.is_slow = false;
        progress.error = None;
    }

    /// An attempt or a connection has failed. Returns true if the last one had not, or for
    /// another reason.
    pub(super) fn failed(&self, error: String) -> bool {
        self.totals.failures.fetch_add(1, Ordering::Relaxed);
        let mut progress = lock(&self.progress);
        progress.state = ForwardState::Waiting;
        let is_new = progress.error.as_ref() != Some(&error);
        progress.error = Some(error);
        is_new
    }

    pub(super) fn count_bytes(&self, bytes: u64) {
        self.totals.bytes.fetch_add(bytes, Ordering::Relaxed);
        lock(&self.progress).bytes += bytes;
    }

    /// The server has been sent everything up to `offset` of the log.
    pub(super) fn reach(&self, offset: u64) {
        lock(&self.progress).offset = offset;
    }

    /// The server was too slow. Returns true if it was not before, on this connection.
    pub(super) fn count_skip(&self) -> bool {
        self.totals.skips.fetch_add(1, Ordering::Relaxed);
        let mut progress = lock(&self.progress);
        progress.skips += 1;
        !std::mem::replace(&mut progress.is_slow, true)
    }
}
