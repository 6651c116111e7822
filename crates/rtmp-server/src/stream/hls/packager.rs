//! Makes segments of a stream's messages.

use std::io;
use std::sync::Arc;

use hls::encryption::{Encryptor, KEY_BYTES};
use hls::segmenter::{Output, Segmenter};
use rtmp_proto::session::StreamKey;
use rtmp_proto::wire::Message;

use super::feed::FeedItem;
use super::output::{Finished, HlsOutput, wall_clock_ms};

/// A stream's packager.
#[derive(Debug)]
pub(crate) struct Packager {
    key: Arc<StreamKey>,
    pub(super) segmenter: Segmenter,
    pub(super) encryptor: Option<Encryptor>,
    output: Arc<HlsOutput>,
    /// What has come out of the segmenter and is not published yet.
    outputs: Vec<Output>,
    warned_of_loss: bool,
}

/// A key that nobody can guess.
fn new_key() -> io::Result<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    let random = rustls::crypto::ring::default_provider().secure_random;
    let no_key = |_| io::Error::other("the system gives no random bytes");
    random.fill(&mut key).map_err(no_key)?;
    Ok(key)
}

impl Packager {
    /// The packager of the stream `key`.
    pub(super) fn new(key: Arc<StreamKey>, output: Arc<HlsOutput>) -> Self {
        let settings = output.settings();
        let segmenter = Segmenter::new(&settings.segments);
        let encryptor = settings
            .keys
            .as_ref()
            .map(|keys| Encryptor::new(output.first_segment(), keys.segments_per_key));
        Self::resume(key, output, segmenter, encryptor)
    }

    /// The packager of the stream `key`, where it stands.
    pub(super) fn resume(
        key: Arc<StreamKey>,
        output: Arc<HlsOutput>,
        segmenter: Segmenter,
        encryptor: Option<Encryptor>,
    ) -> Self {
        Self {
            segmenter,
            encryptor,
            outputs: Vec::new(),
            warned_of_loss: false,
            output,
            key,
        }
    }

    /// What it has made.
    pub(crate) fn output(&self) -> &Arc<HlsOutput> {
        &self.output
    }

    /// Takes messages that have come before, with their times, ms. Returns the segments that
    /// are whole now.
    ///
    /// # Errors
    /// As for [`Packager::take`].
    pub(super) fn take_past(&mut self, past: &[(Message, u64)]) -> io::Result<Vec<Finished>> {
        let now_ms = wall_clock_ms();
        let newest = past.iter().map(|(_, time_ms)| *time_ms).max();
        let mut finished = Vec::new();
        for (message, time_ms) in past {
            self.segmenter.push(message, *time_ms, &mut self.outputs);
            let ago = newest.map_or(0, |newest| newest - time_ms);
            let arrived_ms = now_ms.saturating_sub_unsigned(ago);
            finished.extend(self.publish(arrived_ms)?);
        }
        Ok(finished)
    }

    /// Takes what the writer has queued. Returns the segments that are whole now.
    ///
    /// # Errors
    /// The log cannot be written: the packager is of no more use.
    pub(crate) fn take(&mut self, batch: &[FeedItem]) -> io::Result<Vec<Finished>> {
        for item in batch {
            match item {
                FeedItem::Publication => self.segmenter.begin_publication(&mut self.outputs),
                FeedItem::Message(message, time_ms) => {
                    self.segmenter.push(message, *time_ms, &mut self.outputs);
                }
                FeedItem::Lost(count) => self.lose(*count),
            }
        }
        self.publish(wall_clock_ms())
    }

    /// Messages are missing: segments go on at the next keyframe.
    fn lose(&mut self, messages: u64) {
        self.output.count_lost(messages);
        self.segmenter.begin_publication(&mut self.outputs);
        if !std::mem::replace(&mut self.warned_of_loss, true) {
            log::warn!(
                "{}: HLS lacks {messages} messages: this machine is too slow for all of its \
                 streams; it goes on at the next keyframe",
                self.key
            );
        }
    }

    /// The stream has ended for good. Returns the segments that are whole now.
    ///
    /// # Errors
    /// As for [`Packager::take`].
    pub(crate) fn end(&mut self) -> io::Result<Vec<Finished>> {
        self.segmenter.finish(&mut self.outputs);
        let finished = self.publish(wall_clock_ms());
        self.output.end();
        finished
    }

    /// Publishes what has come out of the segmenter of what arrived at `wall_clock_ms`.
    fn publish(&mut self, wall_clock_ms: i64) -> io::Result<Vec<Finished>> {
        for output in &self.outputs {
            if let Output::LeftOut(left_out) = output {
                log::warn!("{}: HLS: {left_out}", self.key);
            }
        }
        if self.outputs.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(encryptor) = &mut self.encryptor {
            encryptor.encrypt(&mut self.outputs, new_key)?;
        }
        self.output.publish(&mut self.outputs, wall_clock_ms)
    }
}
