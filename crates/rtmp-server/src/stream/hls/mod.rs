//! HLS: a stream's messages as segments, in a third log.
//!
//! The writer queues messages (`feed`) for a packager, which makes segments of them,
//! appends them to a log of their own and publishes its playlist (`output`). Whoever
//! answers requests reads both.

mod feed;
mod log;
mod output;
mod packager;
mod part;
mod template;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rtmp_proto::wire::Message;
use tokio::sync::OwnedMutexGuard;

pub(super) use feed::{Feed, queue};
pub(crate) use feed::{FeedItem, FeedReader};
pub(crate) use log::HlsLog;
pub(crate) use output::{Finished, HlsKeySettings, HlsOutput, HlsSettings, KeyUri};
pub(crate) use packager::Packager;
pub(crate) use part::HlsPart;
pub(crate) use template::Queries;

use super::{Stream, lock};

/// A packager that begins.
#[derive(Debug)]
pub(crate) struct StartedPackager {
    pub(crate) packager: Packager,
    /// The queue to feed it with.
    pub(crate) reader: FeedReader,
    /// The segments that it has made of the past.
    pub(crate) finished: Vec<Finished>,
}

impl Stream {
    /// What the packager of HLS has made, if there is one.
    #[must_use]
    pub(crate) fn hls(&self) -> Option<Arc<HlsOutput>> {
        lock(&self.hls).clone()
    }

    /// Waits until nobody starts a packager. Whoever holds this may, if there is none.
    pub(crate) async fn hls_start(&self) -> OwnedMutexGuard<()> {
        self.hls_start.clone().lock_owned().await
    }

    /// A new packager, which begins with as much of the past as a playlist lists, as far as
    /// the stream's log has it. That is read and packaged here, which takes milliseconds.
    ///
    /// # Errors
    /// No memory or no descriptor left.
    pub(crate) fn start_hls(&self, mut settings: HlsSettings) -> io::Result<StartedPackager> {
        settings.segments.irregular = self.hls_irregular.load(Ordering::Relaxed);
        if self.logs.pool().is_exhausted() {
            let message = "all logs together are beyond their limit: see `stream_memory`";
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, message));
        }
        let length_ms = u64::try_from(settings.window.as_millis()).unwrap_or(u64::MAX);
        let (history, reader) = lock(&self.writer).feed_hls(&self.log, length_ms);
        let past = self.log.messages(history)?;
        let first_segment =
            first_segment(settings.segments.fragment, &past).max(self.free_hls_segment());
        let pool = self.logs.pool().clone();
        let output = Arc::new(HlsOutput::new(self.key(), settings, first_segment, pool));
        let mut packager = Packager::new(self.key().clone(), output.clone());
        let finished = packager.take_past(&past)?;
        *lock(&self.hls) = Some(output);
        Ok(StartedPackager {
            packager,
            reader,
            finished,
        })
    }

    /// Keyframes have stayed away for longer than the playlist allows segments to be: the
    /// packagers that follow allow what the settings do.
    pub(crate) fn set_hls_irregular(&self) {
        self.hls_irregular.store(true, Ordering::Relaxed);
    }

    /// The least number that the first segment of another packager may have.
    pub(super) fn free_hls_segment(&self) -> u64 {
        let used = lock(&self.hls).as_deref().map_or(0, free_number);
        used.max(self.next_hls_segment.load(Ordering::Relaxed))
    }

    /// The packager that makes `output` goes.
    pub(crate) fn end_hls(&self, output: &Arc<HlsOutput>) {
        output.abandon();
        let next = free_number(output);
        self.next_hls_segment.fetch_max(next, Ordering::Relaxed);
        lock(&self.hls).take_if(|present| Arc::ptr_eq(present, output));
    }
}

/// The least number that a segment may have that is not one of `output`: one is left out that
/// players wait for, who would take what has been for what comes, and one that is begun while
/// this is looked at.
fn free_number(output: &HlsOutput) -> u64 {
    output.next_segment() + 2
}

/// The number of the first segment that is made of `past`, by the wall clock: a segment takes
/// a second at least, or `fragment` where that is less, so numbers rise over restarts of the
/// server, and no cache has other bytes by the same name.
fn first_segment(fragment: Duration, past: &[(Message, u64)]) -> u64 {
    let times = || past.iter().map(|(_, time_ms)| *time_ms);
    let length_ms = times()
        .max()
        .zip(times().min())
        .map_or(0, |(last, first)| last - first);
    let begin_ms = output::wall_clock_ms()
        .unsigned_abs()
        .saturating_sub(length_ms);
    let shortest_ms = u64::try_from(fragment.as_millis())
        .unwrap_or(u64::MAX)
        .clamp(1, 1_000);
    begin_ms / shortest_ms
}
