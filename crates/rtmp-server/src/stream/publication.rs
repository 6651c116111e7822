//! A publisher's hold on a stream.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rtmp_proto::wire::Message;

use super::writer::Source;
use super::{Presence, Stream, StreamState, lock};

/// A publisher that has been silent for this long may be pushed aside by
/// another: its connection is most likely dead, and the encoder is back.
const TAKEOVER_SILENCE: Duration = Duration::from_secs(2);

/// The stream has a publisher that is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream has a publisher already")]
pub struct Busy;

/// Why a publisher's messages were not taken.
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

impl Presence {
    /// Whether there is a publisher that nobody may push aside at `now`.
    fn is_busy(&self, now: Instant) -> bool {
        self.present && now.saturating_duration_since(self.last_sign) < TAKEOVER_SILENCE
    }
}

impl Stream {
    /// Whether [`Stream::publish`] would fail at `now`.
    #[must_use]
    pub fn is_busy(&self, now: Instant) -> bool {
        lock(&self.presence).is_busy(now)
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
        let group = self.index().group();
        self.begin(now, origin, group)
    }

    fn begin(
        self: &Arc<Self>,
        now: Instant,
        source: Source,
        replay: Duration,
    ) -> Result<Publication, Busy> {
        let mut presence = lock(&self.presence);
        if presence.is_busy(now) {
            return Err(Busy);
        }
        presence.generation += 1;
        presence.present = true;
        presence.last_sign = now;
        let generation = presence.generation;
        drop(presence);
        self.origins_unreachable.store(false, Ordering::Relaxed);
        lock(&self.writer).publisher_begins(source, replay);
        self.totals.publishers.fetch_add(1, Ordering::Relaxed);
        self.state.send_modify(|state| {
            state.generation = generation;
            state.present = true;
        });
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

    /// Whether `state` still is this publisher's.
    #[must_use]
    pub fn holds(&self, state: &StreamState) -> bool {
        state.generation == self.generation && !state.ended
    }

    /// Nobody listens to the publisher until `time`: until then it is not
    /// taken for silent.
    pub fn expect_silence_until(&self, time: Instant) {
        let mut presence = lock(&self.stream.presence);
        if presence.generation == self.generation {
            presence.last_sign = time;
        }
    }

    /// The origin that the stream is relayed from goes over to another
    /// publication: what it sends next does not go on with what it has sent.
    pub fn start_new_publication(&mut self) {
        let mut writer = lock(&self.stream.writer);
        if lock(&self.stream.presence).generation == self.generation {
            writer.start_new_publication();
        }
    }

    /// Appends what one read from the publisher brought, in one write, and
    /// tells the players' workers. Messages that are no media are left out.
    ///
    /// # Errors
    /// The stream is no longer this publisher's, or the log cannot be written.
    pub fn append(&mut self, messages: &[Message], now: Instant) -> Result<(), AppendError> {
        let stream = &*self.stream;
        let mut writer = lock(&stream.writer);
        let writer = &mut *writer;
        {
            let mut presence = lock(&stream.presence);
            if presence.generation != self.generation {
                return Err(AppendError::TakenOver);
            }
            presence.last_sign = now;
        }
        if stream.has_ended() {
            return Err(AppendError::Ended);
        }
        if stream.logs.are_overdrawn_by(stream.held.bytes()) {
            return Err(AppendError::NoMemory);
        }
        let (mut count, mut bytes) = (0, 0);
        for message in messages {
            if writer.stage(message, stream, now) {
                count += 1;
                bytes += message.payload.len() as u64;
            }
        }
        stream.totals.bytes_in.fetch_add(bytes, Ordering::Relaxed);
        stream
            .totals
            .messages_in
            .fetch_add(count, Ordering::Relaxed);
        let Some(bytes) = writer.staged() else {
            if writer.repeats() {
                // All of it is in the log already: there it can be played.
                stream.set_live();
            }
            return Ok(());
        };
        if !bytes.is_empty()
            && let Err(error) = stream.log.write(writer.end, bytes)
        {
            writer.not_written(&stream.index());
            return Err(error.into());
        }
        let mut index = lock(&stream.index);
        index.set_now(stream.logs.milliseconds(now));
        writer.written(&mut index);
        let too_long = index.take_long_group();
        stream.give_back(index);
        if too_long && writer.is_first_long_group() {
            log::warn!(
                "{}: no keyframe for longer than gop_cache_max_frames: until the next one, \
                 who joins gets no pictures",
                stream.key
            );
        }
        if stream.held.pool().is_exhausted() {
            stream.logs.make_room(now);
        }
        stream.set_live();
        stream.tell_workers();
        Ok(())
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        let mut presence = lock(&self.stream.presence);
        if presence.generation != self.generation {
            return;
        }
        presence.present = false;
        presence.last_sign = Instant::now();
        drop(presence);
        self.stream.state.send_modify(|state| {
            state.live = false;
            state.present = false;
        });
    }
}
