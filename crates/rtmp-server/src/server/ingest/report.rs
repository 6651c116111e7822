//! What is known of a stream that is fetched, for reports.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::config::{IngestJob, IngestWork};
use crate::server::programs::Observer;
use crate::stream::lock;

/// State of a stream that is fetched.
///
/// ```text
///   Connecting ──────▶ Running
///       ▲  │              │
///  time │  └──▶ Waiting ◀─┘  whatever it was has failed or ended
///       └──────────┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum IngestState {
    /// The source is asked, or ffmpeg is started.
    #[default]
    Connecting,
    /// Media flows, or ffmpeg runs.
    Running,
    /// It has failed, and is tried again after a pause.
    Waiting,
}

impl IngestState {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Connecting, Self::Running, Self::Waiting];

    /// Its name in the HTTP API and in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Running => "running",
            Self::Waiting => "waiting",
        }
    }
}

/// Totals of all streams that have been fetched.
#[derive(Debug, Default)]
pub(crate) struct IngestTotals {
    /// Bytes of media, without those that ffmpeg has published.
    pub(crate) bytes: AtomicU64,
    /// Attempts that have failed, or have ended.
    pub(crate) failures: AtomicU64,
    /// RTP packets that have been lost on their way.
    pub(crate) lost_packets: AtomicU64,
}

/// Progress of a stream that is fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct IngestProgress {
    pub(crate) state: IngestState,
    /// Times that it was tried.
    pub(crate) attempts: u64,
    /// Why it failed last.
    pub(crate) last_error: Option<String>,
    /// The process of ffmpeg, while it runs.
    pub(crate) process: Option<u32>,
}

/// A stream that is fetched.
#[derive(Debug)]
pub(crate) struct IngestReport {
    pub(crate) job: IngestJob,
    progress: Mutex<IngestProgress>,
    bytes: AtomicU64,
    lost_packets: AtomicU64,
    totals: Arc<IngestTotals>,
}

impl IngestReport {
    pub(super) fn new(job: IngestJob, totals: Arc<IngestTotals>) -> Self {
        Self {
            job,
            progress: Mutex::default(),
            bytes: AtomicU64::new(0),
            lost_packets: AtomicU64::new(0),
            totals,
        }
    }

    /// Begin of its log lines: `ingest camera`, `ingest a/camera` of another vhost.
    pub(super) fn name(&self) -> String {
        let IngestJob { vhost, name, .. } = &self.job;
        match &**vhost {
            crate::config::DEFAULT_VHOST => format!("ingest {name}"),
            vhost => format!("ingest {vhost}/{name}"),
        }
    }

    /// Its progress.
    pub(crate) fn progress(&self) -> IngestProgress {
        lock(&self.progress).clone()
    }

    /// Bytes of media; `None` if ffmpeg publishes them.
    pub(crate) fn bytes(&self) -> Option<u64> {
        let is_ffmpegs = matches!(self.job.work, IngestWork::Ffmpeg { .. });
        (!is_ffmpegs).then(|| self.bytes.load(Ordering::Relaxed))
    }

    /// RTP packets that were lost on their way.
    pub(crate) fn lost_packets(&self) -> u64 {
        self.lost_packets.load(Ordering::Relaxed)
    }

    pub(super) fn count_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.totals.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn count_lost(&self, packets: u64) {
        self.lost_packets.fetch_add(packets, Ordering::Relaxed);
        self.totals
            .lost_packets
            .fetch_add(packets, Ordering::Relaxed);
    }

    /// An attempt begins.
    pub(super) fn begin(&self) {
        let mut progress = lock(&self.progress);
        progress.state = IngestState::Connecting;
        progress.attempts += 1;
    }

    /// Media flows.
    pub(super) fn flow(&self) {
        lock(&self.progress).state = IngestState::Running;
    }

    /// The attempt has ended.
    pub(super) fn fail(&self, why: &str) {
        let mut progress = lock(&self.progress);
        progress.state = IngestState::Waiting;
        progress.process = None;
        if !why.is_empty() {
            self.totals.failures.fetch_add(1, Ordering::Relaxed);
            progress.last_error = Some(why.to_owned());
        }
    }
}

impl Observer for IngestReport {
    fn starting(&self) {
        self.begin();
    }

    fn running(&self, id: u32) {
        let mut progress = lock(&self.progress);
        progress.state = IngestState::Running;
        progress.process = Some(id);
    }

    fn ended(&self, why: &str) {
        self.fail(why);
    }
}
