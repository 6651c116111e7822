//! A recording as `/api/v1/dvrs` shows it. SRS has no such list.

use serde::Serialize;

use crate::server::Recording;

/// A recording.
#[derive(Debug, Serialize)]
pub(super) struct DvrReport {
    /// The id of the stream.
    id: String,
    vhost: String,
    app: String,
    stream: String,
    /// `waiting`, `recording` or `failing`.
    state: &'static str,
    /// The file that is written, by the name that it has meanwhile.
    file: Option<String>,
    /// Length of that file, in seconds.
    duration: f64,
    /// Bytes written to all files of this recording.
    bytes: u64,
    files: u64,
    skips: u64,
    failures: u64,
}

impl DvrReport {
    pub(super) fn new(recording: &Recording) -> Self {
        let (key, progress) = (&recording.key, recording.progress());
        Self {
            id: recording.stream_id.to_string(),
            vhost: key.vhost.clone(),
            app: key.app.clone(),
            stream: key.stream.clone(),
            state: progress.state.name(),
            file: progress.file,
            duration: progress.duration.as_secs_f64(),
            bytes: progress.bytes,
            files: progress.files,
            skips: progress.skips,
            failures: progress.failures,
        }
    }
}
