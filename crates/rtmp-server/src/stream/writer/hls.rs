//! The messages for the packager of HLS, queued while there is one.

use super::Writer;
use crate::stream::hls::{FeedReader, queue};
use crate::stream::log::Log;
use crate::stream::log::index::History;

impl Writer {
    /// The past `length_ms` milliseconds of the log of chunks, kept until
    /// [`Log::messages`] has read it, and a queue of what follows. The queue takes the place
    /// of another one.
    pub(in crate::stream) fn feed_hls(
        &mut self,
        chunks: &Log,
        length_ms: u64,
    ) -> (History, FeedReader) {
        let history = chunks.keep_history(length_ms);
        let (feed, reader) = queue();
        self.staging.hls = Some(feed);
        (history, reader)
    }
}
