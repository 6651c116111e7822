//! How fast a publisher's bytes are read: a program of rtmp-proto's that needs
//! no sockets.

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::contender::Surroundings;
use crate::bench::process::pinned;

/// The program, in the folder of the release build.
pub(crate) const PROGRAM: &str = "examples/ingest";

/// What came of one length of chunks; 10⁶ bytes per second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ingest {
    /// Length of the publisher's chunks, in bytes.
    pub(crate) chunk_size: u32,
    /// Copying the bytes once.
    pub(crate) copying_mb_per_s: f64,
    /// From bytes to messages.
    pub(crate) chunk_reader_mb_per_s: f64,
    /// From bytes to what the server is told.
    pub(crate) session_mb_per_s: f64,
}

/// Runs the program on the servers' core.
///
/// # Errors
/// If it fails, or says something unexpected.
pub(crate) fn measure(around: &Surroundings) -> anyhow::Result<Vec<Ingest>> {
    let output = pinned(&around.cores, around.realtime)
        .arg(around.binaries.join(PROGRAM))
        .output()
        .context("starting the program that reads a publisher's bytes")?;
    if !output.status.success() {
        bail!(
            "reading a publisher's bytes: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    String::from_utf8(output.stdout)?
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
        .collect()
}
