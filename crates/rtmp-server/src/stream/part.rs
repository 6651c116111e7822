//! A stream for the program that the process becomes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rtmp_proto::session::{Parameters, StreamKey};
use serde::{Deserialize, Serialize};

use super::log::{Framing, Log, LogPart};
use super::memory::Holding;
use super::writer::Writer;
use super::{Logs, Stream, StreamSettings, StreamState, Wakers, lock};
use crate::hand_over::{Blob, HandOverError, HandedOver, Inherited};

/// A stream for the program that the process becomes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StreamPart {
    id: u64,
    pub(crate) key: StreamKey,
    settings: StreamSettings,
    log: LogPart,
    flv: Vec<LogPart>,
    writer: Blob,
    publishers: Blob,
    state: StreamState,
    last_sign_ms: u64,
    published_since_ms: u64,
    parameters: Parameters,
    /// A pull from an origin feeds it.
    pub(crate) is_pulled: bool,
    /// A task shows a slate while nobody publishes it.
    pub(crate) has_slate_task: bool,
    origins_unreachable: bool,
    next_hls_segment: u64,
    hls_irregular: bool,
    totals: TotalsPart,
}

/// [`super::Totals`] as numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct TotalsPart {
    bytes_in: u64,
    messages_in: u64,
    publishers: u64,
    skips: u64,
    sent: u64,
    reported_sent: u64,
}

impl StreamPart {
    /// The same as of a program whose logs have another layout.
    #[cfg(test)]
    pub(crate) fn of_another_layout(&mut self) {
        self.log.of_another_layout();
    }

    /// Checks that this program can go on with it, as far as that shows without its
    /// descriptors.
    ///
    /// # Errors
    /// Why it cannot.
    pub(crate) fn check(&self) -> Result<(), HandOverError> {
        self.publishers.read::<super::Publishers>()?;
        Writer::begin_anew(&self.writer, Framing::Chunks(self.settings.chunk_size))?;
        Ok(())
    }
}

/// A stream that has been taken over.
pub(crate) struct TakenStream {
    pub(crate) stream: Arc<Stream>,
    pub(crate) part: StreamPart,
    /// Its log begins anew: players go on at the next keyframe.
    pub(crate) is_new_log: bool,
}

impl Stream {
    /// The stream for the program that the process becomes. Nobody may publish or play
    /// meanwhile.
    ///
    /// # Errors
    /// It cannot be written down.
    pub(crate) fn part(&self, handed_over: &mut HandedOver) -> Result<StreamPart, HandOverError> {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let writer = lock(&self.writer);
        let flv = writer.flv().map(|log| log.part(handed_over));
        let flv = flv.collect::<Result<_, _>>()?;
        let totals = &self.totals;
        Ok(StreamPart {
            id: self.id,
            key: (**self.key()).clone(),
            settings: self.settings(),
            log: self.log.part(handed_over)?,
            flv,
            writer: writer.part()?,
            publishers: Blob::of(&*lock(&self.publishers))?,
            state: *self.state.borrow(),
            last_sign_ms: read(&self.last_sign_ms),
            published_since_ms: read(&self.published_since_ms),
            parameters: self.parameters(),
            is_pulled: self.is_pulled.load(Ordering::SeqCst),
            has_slate_task: self.has_slate_task.load(Ordering::SeqCst),
            origins_unreachable: self.origins_unreachable(),
            next_hls_segment: self.free_hls_segment(),
            hls_irregular: self.hls_irregular.load(Ordering::Relaxed),
            totals: TotalsPart {
                bytes_in: read(&totals.bytes_in),
                messages_in: read(&totals.messages_in),
                publishers: read(&totals.publishers),
                skips: read(&totals.skips),
                sent: read(&totals.sent),
                reported_sent: read(&totals.reported_sent),
            },
        })
    }

    fn settings(&self) -> StreamSettings {
        StreamSettings {
            chunk_size: self.chunk_size,
            mw_latency: self.mw_latency(),
            spreads: self.spreads(),
            gop_cache: self.gop_cache(),
            nodelay: self.nodelay(),
            keyframe_timeout: self.keyframe_timeout(),
            turns: lock(&self.publishers).turns,
            retention: self.log.index().retention(),
        }
    }

    /// Goes on with a stream that this process has had before. Its publishers and players come
    /// later; `settings` are those of the configuration in force, if it has its vhost.
    ///
    /// # Errors
    /// It is of another form, all but its log: one of another layout begins anew.
    pub(crate) fn take_over(
        part: StreamPart,
        settings: Option<&StreamSettings>,
        wakers: Wakers,
        logs: Arc<Logs>,
        inherited: &mut Inherited,
    ) -> Result<TakenStream, HandOverError> {
        let mut stream = Self::new(
            part.id,
            part.key.clone(),
            &part.settings,
            wakers,
            logs,
            Instant::now(),
        );
        let is_new_log = match stream.take_logs(&part, inherited) {
            Ok(()) => false,
            Err(error) => {
                log::warn!(
                    "{}: its log {error}: players go on at the next keyframe",
                    stream.key()
                );
                let framing = stream.log.framing();
                stream.writer = Mutex::new(Writer::begin_anew(&part.writer, framing)?);
                true
            }
        };
        stream.publishers = Mutex::new(part.publishers.read()?);
        stream.state.send_modify(|state| {
            *state = StreamState {
                // Whoever expects a publisher says so again.
                expected: 0,
                // A former program says only that something has been sent.
                sent_turn: match part.state {
                    StreamState {
                        live: true,
                        sent_turn: 0,
                        turn,
                        ..
                    } => turn,
                    StreamState { sent_turn, .. } => sent_turn,
                },
                ..part.state
            };
        });
        let set = |number: &AtomicU64, value| number.store(value, Ordering::Relaxed);
        set(&stream.last_sign_ms, part.last_sign_ms);
        set(&stream.published_since_ms, part.published_since_ms);
        set(&stream.next_hls_segment, part.next_hls_segment);
        set(&stream.totals.bytes_in, part.totals.bytes_in);
        set(&stream.totals.messages_in, part.totals.messages_in);
        set(&stream.totals.publishers, part.totals.publishers);
        set(&stream.totals.skips, part.totals.skips);
        set(&stream.totals.sent, part.totals.sent);
        set(&stream.totals.reported_sent, part.totals.reported_sent);
        stream.set_parameters(&part.parameters);
        stream
            .origins_unreachable
            .store(part.origins_unreachable, Ordering::Relaxed);
        if part.hls_irregular {
            stream.set_hls_irregular();
        }
        if let Some(settings) = settings {
            stream.apply(settings);
        }
        Ok(TakenStream {
            stream: Arc::new(stream),
            part,
            is_new_log,
        })
    }

    fn take_logs(
        &mut self,
        part: &StreamPart,
        inherited: &mut Inherited,
    ) -> Result<(), HandOverError> {
        let (key, readers) = (self.key().clone(), self.log.readers().clone());
        let pool = self.logs.pool();
        let held = Holding::new(pool.clone());
        let chunks = Log::take_over(&part.log, key.clone(), readers.clone(), held, inherited)?;
        let chunks = Arc::new(chunks);
        let mut flv = Vec::new();
        for part in &part.flv {
            let held = Holding::additional(pool.clone());
            let log = Log::take_over(part, key.clone(), readers.clone(), held, inherited)?;
            flv.push(Arc::new(log));
            if let Some(framing) = part.flv_framing() {
                self.has_flv_log[framing as usize].store(true, Ordering::Relaxed);
            }
        }
        self.writer = Mutex::new(Writer::take_over(&part.writer, &chunks, flv.clone())?);
        self.logs.add(&chunks);
        flv.iter().for_each(|log| self.logs.add(log));
        self.log = chunks;
        Ok(())
    }

    /// The publisher on air has not been listened to: that is no silence of its own.
    pub(crate) fn excuse_silence(&self, now: Instant) {
        if self.is_published() {
            self.note_sign(now);
        }
    }
}
