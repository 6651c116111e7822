//! The messages for the packager of HLS, queued while there is one.

use std::io;

use super::Writer;
use crate::stream::hls::{FeedReader, queue};
use crate::stream::log::{Log, Past};

impl Writer {
    /// The past `length_ms` milliseconds of the log of chunks, and a queue of what follows.
    /// It takes the place of another queue.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(in crate::stream) fn feed_hls(
        &mut self,
        chunks: &Log,
        length_ms: u64,
    ) -> io::Result<(Past, FeedReader)> {
        let past = chunks.past(length_ms)?;
        let (feed, reader) = queue();
        self.staging.hls = Some(feed);
        Ok((past, reader))
    }
}
