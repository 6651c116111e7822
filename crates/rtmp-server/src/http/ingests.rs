//! A stream that the server fetches, as `/api/v1/ingests` shows it. SRS has no such list.

use serde::Serialize;

use crate::config::IngestWork;
use crate::server::IngestReport;

/// A stream that the server fetches.
#[derive(Debug, Serialize)]
pub(super) struct IngestJson {
    vhost: String,
    /// The name of the `ingest`.
    name: String,
    /// The source, without secrets.
    url: String,
    /// `file`, `rtsp`, `rtmp` or `ffmpeg`.
    by: &'static str,
    /// The stream that it becomes; `null` if that is another server's.
    app: Option<String>,
    stream: Option<String>,
    /// `connecting`, `running` or `waiting`.
    state: &'static str,
    attempts: u64,
    last_error: Option<String>,
    /// Bytes of media; `null` for what ffmpeg publishes.
    bytes: Option<u64>,
    lost_packets: u64,
    /// The process of ffmpeg.
    pid: Option<u32>,
}

impl IngestJson {
    pub(super) fn new(report: &IngestReport) -> Self {
        let (job, progress) = (&report.job, report.progress());
        let key = job.key.as_ref();
        Self {
            vhost: job.vhost.clone(),
            name: job.name.clone(),
            url: job.input.shown(),
            by: match job.work {
                IngestWork::FlvFile => "file",
                IngestWork::Rtsp => "rtsp",
                IngestWork::Rtmp => "rtmp",
                IngestWork::Ffmpeg { .. } => "ffmpeg",
            },
            app: key.map(|key| key.app.clone()),
            stream: key.map(|key| key.stream.clone()),
            state: progress.state.name(),
            attempts: progress.attempts,
            last_error: progress.last_error,
            bytes: report.bytes(),
            lost_packets: report.lost_packets(),
            pid: progress.process,
        }
    }
}
