//! The log of FLV tags, written beside the log of chunks while somebody holds it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtmp_proto::wire::Message;

use super::Writer;
use crate::stream::Logs;
use crate::stream::log::{Framing, Log};

/// A log that nobody has held for so long is given back. Its next consumer costs a
/// copy of the newest group of pictures.
const KEPT_UNUSED: Duration = Duration::from_secs(30);

/// The log of FLV tags, and the batch for it.
#[derive(Debug)]
pub(in crate::stream) struct FlvStaging {
    log: Arc<Log>,
    pub(super) encoded: Vec<u8>,
    /// Time from which on nobody has held it.
    unused_since: Option<Instant>,
}

impl FlvStaging {
    /// The log.
    pub(super) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Appends `message` to the batch; returns its length there, in bytes.
    pub(super) fn append(&mut self, message: &Message) -> u64 {
        let before = self.encoded.len();
        Framing::Flv.encode(message, &mut self.encoded);
        (self.encoded.len() - before) as u64
    }

    /// Writes the batch to the end of the log.
    pub(super) fn write(&self) -> io::Result<()> {
        let end = self.log.index().end();
        self.log.file().write(end, &self.encoded)
    }
}

impl Writer {
    /// The log of FLV tags, if somebody needs it.
    pub(in crate::stream) fn flv(&self) -> Option<&Arc<Log>> {
        self.staging.flv.as_ref().map(FlvStaging::log)
    }

    /// The log of FLV tags beside `chunks`; a new one among `logs` if there is none.
    ///
    /// # Errors
    /// No descriptor or no memory left; a log that is there is given all the same.
    pub(in crate::stream) fn obtain_flv(
        &mut self,
        chunks: &Log,
        logs: &Logs,
    ) -> io::Result<Arc<Log>> {
        if let Some(log) = self.flv() {
            return Ok(log.clone());
        }
        if logs.pool().is_exhausted() {
            let message = "all logs together are beyond their limit: see `stream_memory`";
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, message));
        }
        let log = Arc::new(chunks.flv_copy(logs.pool().clone())?);
        logs.add(&log);
        self.staging.flv = Some(FlvStaging {
            log: log.clone(),
            encoded: Vec::new(),
            unused_since: None,
        });
        Ok(log)
    }

    /// Takes the log of FLV tags out if nobody has held it for a while.
    pub(in crate::stream) fn sweep_flv(&mut self, now: Instant) -> Option<FlvStaging> {
        let flv = self.staging.flv.as_mut()?;
        // Nobody can get hold of it while the writer is locked.
        if Arc::strong_count(&flv.log) > 1 {
            flv.unused_since = None;
            return None;
        }
        let since = *flv.unused_since.get_or_insert(now);
        let unneeded = now.saturating_duration_since(since) >= KEPT_UNUSED;
        self.staging.flv.take_if(|_| unneeded)
    }
}
