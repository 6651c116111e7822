//! A recording as the HTTP API and metrics show it.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rtmp_proto::session::StreamKey;

use crate::config::Dvr;
use crate::stream::lock;

/// Totals of all recordings, those that are over included.
#[derive(Debug, Default)]
pub(crate) struct DvrTotals {
    /// Bytes written.
    pub(crate) bytes: AtomicU64,
    /// Files finished.
    pub(crate) files: AtomicU64,
    /// Number of times that a recording was too slow and went on at a keyframe.
    pub(crate) skips: AtomicU64,
    /// Number of times that a file could not be made, written or finished.
    pub(crate) failures: AtomicU64,
    /// Finished files removed, by `dvr_keep` and `dvr_keep_bytes`.
    pub(crate) removed_files: AtomicU64,
    /// Their bytes.
    pub(crate) removed_bytes: AtomicU64,
}

/// The recording of a stream, from the beginning of a publication to its end.
#[derive(Debug)]
pub(crate) struct Recording {
    /// The id of the stream.
    pub(crate) stream_id: u64,
    /// The name of the stream.
    pub(crate) key: Arc<StreamKey>,
    pub(super) config: Dvr,
    pub(super) totals: Arc<DvrTotals>,
    is_stopped: AtomicBool,
    progress: Mutex<Progress>,
}

/// What a recording does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RecordingState {
    /// It waits for a keyframe.
    #[default]
    Waiting,
    /// It writes a file.
    Recording,
    /// It cannot write, and tries again.
    Failing,
}

impl RecordingState {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Waiting, Self::Recording, Self::Failing];

    /// Its name in the HTTP API and in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Recording => "recording",
            Self::Failing => "failing",
        }
    }
}

/// How far a recording is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    pub(crate) state: RecordingState,
    /// The file that is written, by the name that it has meanwhile.
    pub(crate) file: Option<String>,
    /// Length of that file.
    pub(crate) duration: Duration,
    /// Bytes written to all of its files.
    pub(crate) bytes: u64,
    /// Files finished.
    pub(crate) files: u64,
    pub(crate) skips: u64,
    pub(crate) failures: u64,
}

impl Recording {
    pub(super) fn new(
        stream_id: u64,
        key: Arc<StreamKey>,
        config: Dvr,
        totals: Arc<DvrTotals>,
    ) -> Self {
        Self {
            stream_id,
            key,
            config,
            totals,
            is_stopped: AtomicBool::new(false),
            progress: Mutex::default(),
        }
    }

    /// How far it is.
    pub(crate) fn progress(&self) -> Progress {
        lock(&self.progress).clone()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut lock(&self.progress));
    }

    /// It is to finish its file, and to end.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }
}
