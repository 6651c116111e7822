//! The logs of FLV tags, written beside the log of chunks while somebody holds them.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtmp_proto::wire::Message;

use super::Writer;
use crate::stream::Logs;
use crate::stream::log::{FlvFraming, Framing, Log};

/// A log that nobody has held for so long is given back. Its next consumer costs a
/// copy of the newest group of pictures.
const KEPT_UNUSED: Duration = Duration::from_secs(30);

/// A log of FLV tags, and the batch for it.
#[derive(Debug)]
pub(in crate::stream) struct FlvStaging {
    log: Arc<Log>,
    pub(super) encoded: Vec<u8>,
    /// The length of each message of the batch, in bytes; 0 of one that it has no tag for.
    pub(super) lengths: Vec<u64>,
    /// Time from which on nobody has held it.
    unused_since: Option<Instant>,
}

impl FlvStaging {
    /// An empty batch for `log`.
    pub(super) fn new(log: Arc<Log>) -> Self {
        Self {
            log,
            encoded: Vec::new(),
            lengths: Vec::new(),
            unused_since: None,
        }
    }

    /// The log.
    pub(super) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Appends `message` to the batch.
    pub(super) fn append(&mut self, message: &Message) {
        let before = self.encoded.len();
        self.log.framing().encode(message, &mut self.encoded);
        self.lengths.push((self.encoded.len() - before) as u64);
    }

    /// Writes the batch to the end of the log.
    pub(super) fn write(&self) -> io::Result<()> {
        let end = self.log.index().end();
        self.log.file().write(end, &self.encoded)
    }
}

impl Writer {
    /// The logs of FLV tags that somebody needs.
    pub(in crate::stream) fn flv(&self) -> impl Iterator<Item = &Arc<Log>> {
        self.staging.flv.iter().map(FlvStaging::log)
    }

    /// The one of them in this framing.
    pub(in crate::stream) fn flv_in(&self, framing: FlvFraming) -> Option<&Arc<Log>> {
        self.flv()
            .find(|log| log.framing() == Framing::Flv(framing))
    }

    /// The log of FLV tags in this framing beside `chunks`; a new one among `logs` if there
    /// is none.
    ///
    /// # Errors
    /// No descriptor or no memory left; a log that is there is given all the same.
    pub(in crate::stream) fn obtain_flv(
        &mut self,
        framing: FlvFraming,
        chunks: &Log,
        logs: &Logs,
    ) -> io::Result<Arc<Log>> {
        if let Some(log) = self.flv_in(framing) {
            return Ok(log.clone());
        }
        if logs.pool().is_exhausted() {
            let message = "all logs together are beyond their limit: see `stream_memory`";
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, message));
        }
        let log = Arc::new(chunks.flv_copy(framing, logs.pool().clone())?);
        logs.add(&log);
        self.staging.flv.push(FlvStaging::new(log.clone()));
        Ok(log)
    }

    /// Takes the logs of FLV tags out that nobody has held for a while.
    pub(in crate::stream) fn sweep_flv(&mut self, now: Instant) -> Vec<FlvStaging> {
        let unneeded = |flv: &mut FlvStaging| {
            // Nobody can get hold of it while the writer is locked.
            if Arc::strong_count(&flv.log) > 1 {
                flv.unused_since = None;
                return false;
            }
            let since = *flv.unused_since.get_or_insert(now);
            now.saturating_duration_since(since) >= KEPT_UNUSED
        };
        self.staging.flv.extract_if(.., unneeded).collect()
    }
}
