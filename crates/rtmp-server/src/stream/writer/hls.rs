//! The messages for the packager of HLS, queued while there is one.

use super::Writer;
use crate::stream::hls::{Feed, FeedReader, queue};
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
        (history, self.resume_hls())
    }

    /// A queue of what follows. It takes the place of another one.
    pub(in crate::stream) fn resume_hls(&mut self) -> FeedReader {
        let (feed, reader) = queue();
        self.staging.hls = Some(feed);
        reader
    }

    /// True if the packager has been told of everything, or its queue has it.
    pub(in crate::stream) fn is_hls_complete(&self) -> bool {
        let feed = self.staging.hls.as_ref();
        feed.is_some_and(Feed::is_complete)
    }
}
