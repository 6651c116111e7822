//! A recording as the HTTP API and metrics show it.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rtmp_proto::session::StreamKey;
use serde::{Deserialize, Serialize};

use crate::config::{Dvr, DvrFormat};
use crate::stream::{Plan, lock};

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

/// What the files of a recording depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settings {
    /// `dvr_path`.
    pub(super) path: String,
    pub(super) plan: Plan,
}

impl Settings {
    pub(super) fn of(config: &Dvr) -> Self {
        Self {
            path: config.path.clone(),
            plan: Plan {
                segment: config.segment(),
                // Fragments of pictures that cannot be decoded would be of no use.
                wait_keyframe: config.wait_keyframe || config.format() == DvrFormat::Mp4,
                starts_at_zero: config.starts_at_zero,
            },
        }
    }

    pub(super) fn format(&self) -> DvrFormat {
        DvrFormat::of(&self.path)
    }
}

/// The recording of a stream, from the beginning of a publication to its end.
#[derive(Debug)]
pub(crate) struct Recording {
    /// The id of the stream.
    pub(crate) stream_id: u64,
    /// The name of the stream.
    pub(crate) key: Arc<StreamKey>,
    pub(super) settings: Settings,
    pub(super) totals: Arc<DvrTotals>,
    is_stopped: AtomicBool,
    progress: Mutex<Progress>,
}

/// What a recording does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
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
        settings: Settings,
        progress: Progress,
        totals: Arc<DvrTotals>,
    ) -> Self {
        Self {
            stream_id,
            key,
            settings,
            totals,
            is_stopped: AtomicBool::new(false),
            progress: Mutex::new(progress),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DvrPlan;

    #[test]
    fn files_do_not_depend_on_how_long_they_are_kept() {
        type Change = fn(&mut Dvr);
        let present = Dvr {
            plan: DvrPlan::Segment,
            ..Dvr::default()
        };
        let changes: [(Change, bool); 7] = [
            (|dvr| dvr.keep = Some(Duration::from_secs(86_400)), false),
            (|dvr| dvr.keep_bytes = Some(1 << 30), false),
            (|dvr| dvr.streams = Some(vec!["live/s".to_owned()]), false),
            (|dvr| dvr.path = "[stream].mp4".to_owned(), true),
            (|dvr| dvr.plan = DvrPlan::Session, true),
            (|dvr| dvr.duration = Duration::from_secs(60), true),
            (|dvr| dvr.starts_at_zero = false, true),
        ];
        for (number, (change, matters)) in changes.into_iter().enumerate() {
            let mut changed = present.clone();
            change(&mut changed);
            let differ = Settings::of(&changed) != Settings::of(&present);
            assert_eq!(differ, matters, "change {number}");
        }
    }
}
