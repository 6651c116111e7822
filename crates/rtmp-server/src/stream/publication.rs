//! A publisher's hold on a stream.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::writer::{Batch, Source};
use super::{MediaMessage, Stream, StreamState, lock};

/// A publisher that has been silent for this long may be pushed aside by
/// another: its connection is most likely dead, and the encoder is back.
const TAKEOVER_SILENCE: Duration = Duration::from_secs(2);

/// The stream has a publisher that is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream has a publisher already")]
pub struct Busy;

/// The reason for which a publisher's messages were not taken.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Another publisher has taken the stream over after a silence.
    #[error("another publisher has taken the stream over")]
    TakenOver,
    /// The stream has ended for good.
    #[error("the stream has ended")]
    Ended,
    /// The logs of all streams have passed their limit by far, and this one is
    /// among the largest.
    #[error("no memory is left for so much: see `stream_memory`")]
    NoMemory,
    /// The log cannot be written: no memory.
    #[error("the stream's log cannot be written: {0}")]
    Log(#[from] io::Error),
}

/// The right to append to a stream; dropped, the stream has no publisher.
#[derive(Debug)]
pub struct Publication {
    stream: Arc<Stream>,
    generation: u64,
}

impl Stream {
    /// True if [`Stream::publish`] would fail at `now`.
    #[must_use]
    pub fn is_busy(&self, now: Instant) -> bool {
        self.has_live_publisher(&self.state.borrow(), now)
    }

    /// True if there is a publisher that nobody may push aside at `now`.
    fn has_live_publisher(&self, state: &StreamState, now: Instant) -> bool {
        state.present && self.silence(now) < TAKEOVER_SILENCE
    }

    /// Becomes the stream's publisher.
    ///
    /// # Errors
    /// [`Busy`] if there is one that has not been silent for two seconds.
    pub fn publish(self: &Arc<Self>, now: Instant) -> Result<Publication, Busy> {
        self.begin(now, Source::Encoder, Duration::ZERO)
    }

    /// Becomes the stream's publisher on behalf of an origin, which sends its
    /// newest group of pictures first. What the stream had already of it is
    /// left out where the timestamps go on. `origin` says what can be expected
    /// of it.
    ///
    /// # Errors
    /// As [`Stream::publish`].
    pub fn relay(self: &Arc<Self>, origin: Source, now: Instant) -> Result<Publication, Busy> {
        let group = self.log.index().group();
        self.begin(now, origin, group)
    }

    fn begin(
        self: &Arc<Self>,
        now: Instant,
        source: Source,
        replay: Duration,
    ) -> Result<Publication, Busy> {
        let mut generation = None;
        // Looked at and changed under one lock: of two that come at once, one
        // is refused.
        self.state.send_if_modified(|state| {
            if self.has_live_publisher(state, now) {
                return false;
            }
            state.generation += 1;
            state.present = true;
            generation = Some(state.generation);
            self.note_sign(now);
            let now_ms = self.logs.milliseconds(now);
            self.published_since_ms.store(now_ms, Ordering::Relaxed);
            true
        });
        let generation = generation.ok_or(Busy)?;
        self.origins_unreachable.store(false, Ordering::Relaxed);
        lock(&self.writer).publisher_begins(source, replay);
        self.totals.publishers.fetch_add(1, Ordering::Relaxed);
        Ok(Publication {
            stream: self.clone(),
            generation,
        })
    }
}

impl Publication {
    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// True if a stream in `state` still is this publisher's.
    #[must_use]
    pub fn holds(&self, state: &StreamState) -> bool {
        state.generation == self.generation && !state.ended
    }

    /// Nobody listens to the publisher until `time`: until then it is not
    /// taken for silent.
    pub fn expect_silence_until(&self, time: Instant) {
        let state = self.stream.state.borrow();
        if state.generation == self.generation {
            self.stream.note_sign(time);
        }
    }

    /// The origin that the stream is relayed from goes over to another
    /// publication: what it sends next does not go on with what it has sent.
    pub fn start_new_publication(&mut self) {
        let mut writer = lock(&self.stream.writer);
        if self.stream.state.borrow().generation == self.generation {
            writer.start_new_publication();
        }
    }

    /// Appends what one read from the publisher brought, in one write, and
    /// notifies the players' workers. Messages that are no media are left out.
    ///
    /// # Errors
    /// The stream is no longer this publisher's, or the log cannot be written.
    pub fn append(&mut self, messages: &[MediaMessage], now: Instant) -> Result<(), AppendError> {
        let stream = &*self.stream;
        let mut writer = lock(&stream.writer);
        {
            let state = stream.state.borrow();
            if state.generation != self.generation {
                return Err(AppendError::TakenOver);
            }
            stream.note_sign(now);
            if state.ended {
                return Err(AppendError::Ended);
            }
        }
        let log = &*stream.log;
        if stream.logs.forbid_growth_of(log.held().bytes()) {
            return Err(AppendError::NoMemory);
        }
        let batch = Batch {
            log,
            now,
            keyframe_timeout: stream.keyframe_timeout(),
        };
        let (mut count, mut bytes) = (0, 0);
        for message in messages {
            if writer.stage(message, &batch) {
                count += 1;
                bytes += message.message().payload.len() as u64;
            }
        }
        stream.totals.bytes_in.fetch_add(bytes, Ordering::Relaxed);
        stream
            .totals
            .messages_in
            .fetch_add(count, Ordering::Relaxed);
        if !writer.has_staged() {
            if writer.repeats() {
                // All of it is in the log already: there it can be played.
                stream.set_live();
            }
            return Ok(());
        }
        writer.commit(log, stream.logs.milliseconds(now))?;
        if stream.logs.pool().is_exhausted() {
            stream.logs.make_room(now);
        }
        stream.set_live();
        log.readers().notify();
        Ok(())
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        let stream = &self.stream;
        stream.state.send_if_modified(|state| {
            let is_present = state.generation == self.generation;
            if is_present {
                stream.note_sign(Instant::now());
                state.live = false;
                state.present = false;
            }
            is_present
        });
    }
}
