//! Totals of recordings, forwards, fetched streams and programs, by their names in metrics.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Server;

impl Server {
    /// Each total, by what stands between `millrace_` and `_total` in its name.
    fn totals(&self) -> [(&'static str, &AtomicU64); 15] {
        let (dvr, forwards) = (self.dvr.totals(), self.forwards.totals());
        let (ingests, programs) = (self.ingests.totals(), &self.programs.totals);
        [
            ("recording_bytes", &dvr.bytes),
            ("recording_files", &dvr.files),
            ("recording_skips", &dvr.skips),
            ("recording_failures", &dvr.failures),
            ("recording_removed_files", &dvr.removed_files),
            ("recording_removed_bytes", &dvr.removed_bytes),
            ("forward_bytes", &forwards.bytes),
            ("forward_attempts", &forwards.attempts),
            ("forward_failures", &forwards.failures),
            ("forward_skips", &forwards.skips),
            ("ingest_bytes", &ingests.bytes),
            ("ingest_failures", &ingests.failures),
            ("ingest_lost_packets", &ingests.lost_packets),
            ("program_starts", &programs.starts),
            ("program_failures", &programs.failures),
        ]
    }

    /// What they are, by their names.
    pub(crate) fn total_counts(&self) -> HashMap<String, u64> {
        let totals = self.totals().into_iter();
        let counts = totals.map(|(name, total)| (name.to_owned(), total.load(Ordering::Relaxed)));
        counts.collect()
    }

    /// Adds what this process has counted before. Names that are not known are left out.
    pub(super) fn add_totals(&self, counts: &HashMap<String, u64>) {
        for (name, total) in self.totals() {
            let before = counts.get(name).copied().unwrap_or(0);
            total.fetch_add(before, Ordering::Relaxed);
        }
    }
}
