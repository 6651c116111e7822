//! Finds streams by their names, and forgets those that nobody needs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rtmp_proto::session::StreamKey;
use serde::{Deserialize, Serialize};

use super::{Logs, Stream, StreamPart, StreamSettings, TakenStream, Wakers, lock};
use crate::hand_over::{HandOverError, HandedOver, Inherited, monotonic};

/// All streams of a server.
#[derive(Debug)]
pub(crate) struct Registry {
    wakers: Wakers,
    logs: Arc<Logs>,
    next_id: AtomicU64,
    streams: Mutex<HashMap<StreamKey, Arc<Stream>>>,
}

/// The streams for the program that the process becomes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RegistryPart {
    #[serde(with = "monotonic")]
    pub(crate) epoch: Instant,
    next_id: u64,
    pub(crate) streams: Vec<StreamPart>,
}

impl Registry {
    /// The streams for the program that the process becomes. Nobody may publish or play
    /// meanwhile.
    ///
    /// # Errors
    /// One of them cannot be written down.
    pub(crate) fn part(&self, handed_over: &mut HandedOver) -> Result<RegistryPart, HandOverError> {
        let streams = self.list();
        let streams = streams.iter().filter(|stream| !stream.has_ended());
        let streams = streams.map(|stream| stream.part(handed_over));
        Ok(RegistryPart {
            epoch: self.logs.epoch(),
            next_id: self.next_id.load(Ordering::Relaxed),
            streams: streams.collect::<Result<_, _>>()?,
        })
    }

    /// Goes on with streams that this process has had before; `settings` are those of the
    /// configuration in force. What cannot be taken over is left out, with a line in the log.
    pub(crate) fn take_over(
        &self,
        part: RegistryPart,
        settings: impl Fn(&StreamKey) -> Option<StreamSettings>,
        inherited: &mut Inherited,
    ) -> Vec<TakenStream> {
        self.next_id.fetch_max(part.next_id, Ordering::Relaxed);
        let mut taken = Vec::new();
        for part in part.streams {
            let key = part.key.clone();
            let (wakers, logs) = (self.wakers.clone(), self.logs.clone());
            let settings = settings(&key);
            match Stream::take_over(part, settings.as_ref(), wakers, logs, inherited) {
                Ok(stream) => {
                    lock(&self.streams).insert(key, stream.stream.clone());
                    taken.push(stream);
                }
                Err(error) => log::error!("{key}: the stream {error}"),
            }
        }
        taken
    }

    /// An empty registry; the workers behind `wakers` serve its streams,
    /// whose logs may take `log_bytes` together. Times of arrival are counted from `epoch`.
    #[must_use]
    pub(crate) fn new(wakers: Wakers, log_bytes: u64, epoch: Instant) -> Self {
        Self {
            wakers,
            logs: Logs::since(log_bytes, epoch),
            next_id: AtomicU64::new(1),
            streams: Mutex::default(),
        }
    }

    /// The stream called `key`; a new one with `settings` if there is none.
    #[must_use]
    pub(crate) fn obtain(
        &self,
        key: &StreamKey,
        settings: &StreamSettings,
        now: Instant,
    ) -> Arc<Stream> {
        let mut streams = lock(&self.streams);
        if let Some(stream) = streams.get(key)
            && !stream.has_ended()
        {
            return stream.clone();
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (wakers, logs) = (self.wakers.clone(), self.logs.clone());
        let stream = Arc::new(Stream::new(id, key.clone(), settings, wakers, logs, now));
        streams.insert(key.clone(), stream.clone());
        stream
    }

    /// The logs of all streams.
    #[must_use]
    pub(crate) fn logs(&self) -> &Arc<Logs> {
        &self.logs
    }

    /// The stream called `key`, if there is one.
    #[must_use]
    pub(crate) fn find(&self, key: &StreamKey) -> Option<Arc<Stream>> {
        lock(&self.streams).get(key).cloned()
    }

    /// All streams, in the order of their names.
    #[must_use]
    pub(crate) fn list(&self) -> Vec<Arc<Stream>> {
        let mut streams: Vec<_> = lock(&self.streams).values().cloned().collect();
        streams.sort_by(|left, right| left.key().cmp(right.key()));
        streams
    }

    /// The streams for which `is_meant` holds, in any order. The registry is locked while it
    /// is asked.
    #[must_use]
    pub(crate) fn select(&self, is_meant: impl Fn(&Stream) -> bool) -> Vec<Arc<Stream>> {
        let streams = lock(&self.streams);
        let meant = streams.values().filter(|stream| is_meant(stream));
        meant.cloned().collect()
    }

    /// Gives back the logs of FLV tags that nobody needs any more. The registry is not
    /// locked meanwhile: a publisher may hold its stream's writer.
    fn sweep_flv_logs(&self, now: Instant) {
        for stream in self.select(Stream::has_any_flv_log) {
            stream.sweep_flv_logs(now);
        }
    }

    /// Ends the streams whose publisher has been away for longer than
    /// `return_timeout` says of them, and forgets those that nobody holds. Where
    /// nobody has published anything yet, nobody's return is waited for. Logs of
    /// FLV tags that nobody needs any more are given back.
    pub(crate) fn sweep(&self, now: Instant, return_timeout: impl Fn(&Stream) -> Duration) {
        self.sweep_flv_logs(now);
        lock(&self.streams).retain(|_, stream| {
            let Some(absence) = stream.unpublished_for(now) else {
                return true;
            };
            if stream.has_begun() && absence < return_timeout(stream) {
                return true;
            }
            if (stream.players() > 0 || stream.hls().is_some()) && !stream.has_ended() {
                stream.end();
            }
            // Whoever waits for it, or plays it, holds it; nobody can get hold
            // of it while the registry is locked.
            Arc::strong_count(stream) > 1 && !stream.has_ended()
        });
    }
}
