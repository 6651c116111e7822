//! Totals of recordings, forwards, fetched streams and programs: for metrics, and for the program
//! that the process becomes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Server;

/// What has been counted since the server's start.
pub(crate) struct Total<'a> {
    /// What stands between `millrace_` and `_total` in its name in metrics.
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    count: &'a AtomicU64,
}

impl<'a> Total<'a> {
    fn new(name: &'static str, help: &'static str, count: &'a AtomicU64) -> Self {
        Self { name, help, count }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

impl Server {
    /// Those of recordings.
    pub(crate) fn dvr_totals(&self) -> [Total<'_>; 6] {
        let totals = self.dvr.totals();
        [
            Total::new(
                "recording_bytes",
                "Bytes written to recordings",
                &totals.bytes,
            ),
            Total::new(
                "recording_files",
                "Files of recordings finished",
                &totals.files,
            ),
            Total::new(
                "recording_skips",
                "Recordings that were too slow and went on at a keyframe",
                &totals.skips,
            ),
            Total::new(
                "recording_failures",
                "Failures to make, write, finish or remove a file of a recording",
                &totals.failures,
            ),
            Total::new(
                "recording_removed_files",
                "Finished files of recordings removed by `dvr_keep` and `dvr_keep_bytes`",
                &totals.removed_files,
            ),
            Total::new(
                "recording_removed_bytes",
                "Bytes of the files of recordings that were removed",
                &totals.removed_bytes,
            ),
        ]
    }

    /// Those of forwards.
    pub(crate) fn forward_totals(&self) -> [Total<'_>; 4] {
        let totals = self.forwards.totals();
        [
            Total::new(
                "forward_bytes",
                "Bytes forwarded to other servers",
                &totals.bytes,
            ),
            Total::new(
                "forward_attempts",
                "Attempts to connect to a server to forward to",
                &totals.attempts,
            ),
            Total::new(
                "forward_failures",
                "Attempts and connections of forwards that have failed",
                &totals.failures,
            ),
            Total::new(
                "forward_skips",
                "Servers that were too slow, and were sent the newest keyframe next",
                &totals.skips,
            ),
        ]
    }

    /// Those of streams that the server fetches, and of the programs that it runs.
    pub(crate) fn ingest_totals(&self) -> [Total<'_>; 5] {
        let (totals, of_programs) = (self.ingests.totals(), &self.programs.totals);
        [
            Total::new(
                "ingest_bytes",
                "Bytes of media that were fetched, without those that ffmpeg has published",
                &totals.bytes,
            ),
            Total::new(
                "ingest_failures",
                "Attempts to fetch a stream that have failed or ended",
                &totals.failures,
            ),
            Total::new(
                "ingest_lost_packets",
                "RTP packets that were lost on their way",
                &totals.lost_packets,
            ),
            Total::new("program_starts", "Programs started", &of_programs.starts),
            Total::new(
                "program_failures",
                "Programs that could not be started, or have failed",
                &of_programs.failures,
            ),
        ]
    }

    fn totals(&self) -> impl Iterator<Item = Total<'_>> {
        let recordings = self.dvr_totals().into_iter();
        recordings
            .chain(self.forward_totals())
            .chain(self.ingest_totals())
    }

    /// What they are, by their names.
    pub(super) fn total_counts(&self) -> HashMap<String, u64> {
        let totals = self.totals();
        totals.map(|it| (it.name.to_owned(), it.count())).collect()
    }

    /// Adds what this process has counted before. Names that are not known are left out.
    pub(super) fn add_totals(&self, counts: &HashMap<String, u64>) {
        for total in self.totals() {
            let before = counts.get(total.name).copied().unwrap_or(0);
            total.count.fetch_add(before, Ordering::Relaxed);
        }
    }
}
