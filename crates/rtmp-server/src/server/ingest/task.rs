//! The task that fetches one stream, again and again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use rtmp_proto::session::StreamKey;
use service_kit::process::Program;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::error::IngestError;
use super::report::IngestReport;
use super::{flv_file, rtmp, rtsp};
use crate::config::IngestWork;
use crate::server::Server;
use crate::server::backoff::Backoff;
use crate::server::programs::{fill_in_time, supervise};

/// The task that fetches one stream.
pub(super) struct IngestTask {
    pub(super) server: Arc<Server>,
    pub(super) report: Arc<IngestReport>,
    /// `ff_log_level`.
    pub(super) log_level: String,
    pub(super) stop: CancellationToken,
}

impl IngestTask {
    /// Fetches it until it is stopped.
    pub(super) async fn run(self) {
        let job = &self.report.job;
        match (&job.work, &job.key) {
            (
                IngestWork::Ffmpeg {
                    path,
                    engine,
                    output,
                },
                _,
            ) => {
                // SRS reads streams as fast as files: HLS comes in bursts.
                let before = ["-loglevel", &*self.log_level, "-re"];
                let make = |now| {
                    let output = fill_in_time(output, now);
                    Some(Program {
                        path: path.clone(),
                        arguments: engine.arguments(&before, &job.input.url, &output),
                        stdout: None,
                        stderr: None,
                    })
                };
                let (server, name) = (self.server.clone(), self.report.name());
                supervise(server, name, &make, &*self.report, self.stop.clone()).await;
            }
            (_, Some(key)) => self.fetch(key).await,
            // Only ffmpeg publishes elsewhere.
            (_, None) => {}
        }
    }

    async fn fetch(&self, key: &StreamKey) {
        let mut backoff = Backoff::default();
        let name = self.report.name();
        loop {
            let begun = Instant::now();
            self.report.begin();
            let Err(error) = tokio::select! {
                () = self.stop.cancelled() => return,
                ended = self.attempt(key) => ended,
            };
            let why = error.to_string();
            self.report.fail(&why);
            let lasted = begun.elapsed();
            let (level, pause) = (backoff.level(&why, lasted), backoff.pause(lasted));
            let seconds = pause.as_secs_f64();
            let shown = self.report.job.input.shown();
            log::log!(level, "{name} from {shown}: {why}; again in {seconds:.1} s");
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }

    async fn attempt(&self, key: &StreamKey) -> Result<Infallible, IngestError> {
        if self.server.is_draining() {
            return Err(IngestError::Draining);
        }
        match self.report.job.work {
            IngestWork::FlvFile => flv_file::publish(&self.server, &self.report, key).await,
            IngestWork::Rtsp => rtsp::publish(&self.server, &self.report, key).await,
            IngestWork::Rtmp => rtmp::publish(&self.server, &self.report, key).await,
            IngestWork::Ffmpeg { .. } => unreachable!("it is run"),
        }
    }
}
