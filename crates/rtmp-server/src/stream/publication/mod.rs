//! A publisher's hold on a stream.

mod part;
mod turns;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::log::headers::Headers;
use super::publishers::{Busy, Switch};
use super::standby::{Parts, StandbyGroup};
use super::writer::{Batch, Source, Writer};
use super::{MediaMessage, Stream, StreamState, lock};
pub(crate) use turns::Candidate;

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
    /// There is a publisher that is none of the origins.
    #[error("{0}")]
    Busy(#[from] Busy),
    /// The log cannot be written: no memory.
    #[error("the stream's log cannot be written: {0}")]
    Log(#[from] io::Error),
}

/// A publisher of a stream, on air or waiting beside another; dropped, it has ended.
#[derive(Debug)]
pub struct Publication {
    stream: Arc<Stream>,
    /// Its number among the publishers.
    id: u64,
    state: PublicationState,
    /// The switch that has put it on air, until somebody has taken it.
    switch: Option<Switch>,
}

/// State of a publication, as its own task knows it:
/// [`Publishers`](super::publishers::Publishers) decides.
///
/// ```text
///   joins beside another                joins an unpublished stream
///         │                                         │
///         ▼      it is switched to                  ▼
///      Standby ──────────────────────────────────▶ OnAir
///         ▲                                         │
///         └── its next batch, after another was ────┘
///             switched to, which may have ended since
/// ```
#[derive(Debug, Serialize, Deserialize)]
enum PublicationState {
    /// Its messages go into the log. Encoders send their headers only once: those in force
    /// are kept for the time at which it goes on air again.
    OnAir {
        /// The stream's turn that is its own.
        turn: u64,
        headers: Headers,
    },
    /// Its newest group of pictures is kept.
    Standby(Box<StandbyGroup>),
}

impl PublicationState {
    /// That of a standby that has `headers` in force, and nothing to begin with.
    fn standby(headers: Headers) -> Self {
        Self::Standby(Box::new(StandbyGroup::new(headers)))
    }
}

impl Publication {
    /// Its number among the publishers of its stream.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// True if its messages go into the log.
    pub(crate) fn is_on_air(&self) -> bool {
        matches!(self.state, PublicationState::OnAir { .. })
    }

    /// True if a stream in `state` has it on air.
    pub(crate) fn holds_air(&self, state: &StreamState) -> bool {
        self.has_turn(state) && !state.ended
    }

    /// True if it went on air in the present turn of a stream in `state`.
    fn has_turn(&self, state: &StreamState) -> bool {
        matches!(self.state, PublicationState::OnAir { turn, .. } if turn == state.turn)
    }

    /// The switch that has put it on air, once.
    pub(crate) fn take_switch(&mut self) -> Option<Switch> {
        self.switch.take()
    }

    /// The bytes of media that it keeps.
    pub(crate) fn held_bytes(&self) -> usize {
        match &self.state {
            PublicationState::OnAir { .. } => 0,
            PublicationState::Standby(group) => group.bytes(),
        }
    }

    /// Time at which [`Publication::follow`] is due, if nothing happens before.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        if self.is_on_air() {
            return None;
        }
        let mut publishers = lock(&self.stream.publishers);
        let silence = self.stream.silence_on_air(&mut publishers, now);
        let left = publishers.check_in(silence);
        left.map(|left| now + left)
    }

    /// Does what the stream's state asks for, which has changed, or time has passed: a
    /// standby goes on air, or who was on air waits.
    ///
    /// # Errors
    /// The stream is no longer this publisher's, or the log cannot be written.
    pub(crate) fn follow(&mut self, now: Instant) -> Result<(), AppendError> {
        let stream = self.stream.clone();
        if !self.is_on_air() {
            let mut is_known = false;
            stream.take_turns(now, |publishers, silence| {
                is_known = publishers.contains(self.id);
                publishers.check(silence, now)
            });
            if !is_known {
                return Err(AppendError::TakenOver);
            }
        }
        let state = *stream.state.borrow();
        if state.ended {
            return Err(AppendError::Ended);
        }
        if self.is_on_air() && !self.has_turn(&state) {
            self.wait()?;
        }
        if !self.is_on_air() && state.on_air == self.id {
            return self.go_on_air(now);
        }
        Ok(())
    }

    /// Another publisher is on air in its place.
    fn wait(&mut self) -> Result<(), AppendError> {
        if !lock(&self.stream.publishers).contains(self.id) {
            return Err(AppendError::TakenOver);
        }
        if let PublicationState::OnAir { headers, .. } = &mut self.state {
            self.state = PublicationState::standby(std::mem::take(headers));
        }
        Ok(())
    }

    /// Sends the group that was kept to the log, and all that comes after it.
    fn go_on_air(&mut self, now: Instant) -> Result<(), AppendError> {
        let stream = self.stream.clone();
        let mut writer = lock(&stream.writer);
        let state = *stream.state.borrow();
        let on_air = PublicationState::OnAir {
            turn: state.turn,
            headers: Headers::default(),
        };
        let PublicationState::Standby(group) = std::mem::replace(&mut self.state, on_air) else {
            return Ok(());
        };
        let parts = group.into_parts();
        if state.on_air != self.id {
            // Another one was faster; its group has to begin anew.
            self.state = PublicationState::standby(parts.headers);
            return Ok(());
        }
        self.switch = state.switch.filter(|switch| switch.to == self.id);
        self.write_group(&mut writer, Source::Encoder, parts, now)
    }

    /// Writes the group that was kept of a publisher that goes on air now.
    fn write_group(
        &mut self,
        writer: &mut Writer,
        source: Source,
        parts: Parts,
        now: Instant,
    ) -> Result<(), AppendError> {
        if let PublicationState::OnAir { headers, .. } = &mut self.state {
            *headers = parts.headers;
        }
        let messages = parts.messages;
        let heads = messages.iter().filter_map(|it| it.message.head());
        let codecs = heads.filter_map(|head| head.codec);
        writer.publisher_takes_over(source, parts.first_headers, codecs);
        let staged = messages
            .iter()
            .map(|arrived| (&arrived.message, arrived.at));
        self.write(writer, staged, now)
    }

    /// Nobody listens to the publisher until `time`: until then it is not
    /// taken for silent.
    pub fn expect_silence_until(&self, time: Instant) {
        let state = self.stream.state.borrow();
        if state.on_air == self.id {
            self.stream.note_sign(time);
        }
    }

    /// Part of a message has come: the publisher is not silent.
    pub(crate) fn note_arrival(&self, now: Instant) {
        let state = self.stream.state.borrow();
        if self.has_turn(&state) {
            self.stream.note_sign(now);
        }
    }

    /// The origin that the stream is relayed from goes over to another
    /// publication: what it sends next does not go on with what it has sent.
    pub fn start_new_publication(&mut self) {
        let mut writer = lock(&self.stream.writer);
        if self.has_turn(&self.stream.state.borrow()) {
            writer.start_new_publication();
        }
    }

    /// Another origin takes the place of the one that the stream is relayed from, with the
    /// group that was kept of it. `origin` says what can be expected of it.
    pub(super) fn go_on_with(
        &mut self,
        origin: Source,
        parts: Parts,
        now: Instant,
    ) -> Result<(), AppendError> {
        let stream = self.stream.clone();
        let mut writer = lock(&stream.writer);
        if !self.has_turn(&stream.state.borrow()) {
            return Err(AppendError::TakenOver);
        }
        self.write_group(&mut writer, origin, parts, now)
    }

    /// Appends what one read from the publisher brought, in one write, and
    /// notifies the players' workers; of a standby, it is kept. Messages that are no media
    /// are left out.
    ///
    /// # Errors
    /// The stream is no longer this publisher's, or the log cannot be written.
    pub fn append(&mut self, messages: &[MediaMessage], now: Instant) -> Result<(), AppendError> {
        if !self.is_on_air() {
            return self.keep(messages, now);
        }
        let stream = self.stream.clone();
        let mut writer = lock(&stream.writer);
        let is_on_air = {
            let state = stream.state.borrow();
            let is_on_air = self.has_turn(&state);
            if is_on_air {
                stream.note_sign(now);
            }
            if is_on_air && state.ended {
                return Err(AppendError::Ended);
            }
            is_on_air
        };
        if !is_on_air {
            drop(writer);
            self.wait()?;
            return self.keep(messages, now);
        }
        if let PublicationState::OnAir { headers, .. } = &mut self.state {
            for message in messages {
                if let Some(head) = message.head() {
                    headers.follow(head, message.message());
                }
            }
        }
        let messages = messages.iter().map(|message| (message, now));
        self.write(&mut writer, messages, now)
    }

    /// Keeps what a standby has sent, and puts it on air if its turn has come.
    fn keep(&mut self, messages: &[MediaMessage], now: Instant) -> Result<(), AppendError> {
        let stream = self.stream.clone();
        if let PublicationState::Standby(group) = &mut self.state {
            let was_ready = group.is_ready();
            let brought = group.take(messages, now, stream.keyframe_timeout());
            if brought.too_long {
                log::warn!(
                    "{}: the standby publisher's group of pictures is too long to be kept: it \
                     cannot go on air before a keyframe; let its encoder send them more often",
                    stream.key()
                );
            }
            let (id, is_ready) = (self.id, group.is_ready());
            if is_ready && !was_ready {
                log::info!("{}: a standby publisher may go on air", stream.key());
            }
            let mut is_known = false;
            stream.take_turns(now, |publishers, silence| {
                is_known = publishers.contains(id);
                publishers.take_media(id, is_ready, brought.begins, silence, now)
            });
            if !is_known {
                return Err(AppendError::TakenOver);
            }
        }
        self.follow(now)
    }

    /// Writes messages of one that is on air, with the times at which they came.
    fn write<'a>(
        &self,
        writer: &mut Writer,
        messages: impl Iterator<Item = (&'a MediaMessage, Instant)>,
        now: Instant,
    ) -> Result<(), AppendError> {
        let PublicationState::OnAir { turn, .. } = self.state else {
            return Ok(());
        };
        let stream = &*self.stream;
        let log = &*stream.log;
        if stream.logs.forbid_growth_of(log.held().bytes()) {
            return Err(AppendError::NoMemory);
        }
        let keyframe_timeout = stream.keyframe_timeout();
        let (mut count, mut bytes) = (0, 0);
        for (message, now) in messages {
            let batch = Batch {
                log,
                now,
                keyframe_timeout,
            };
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
                stream.set_live(turn);
            }
            return Ok(());
        }
        writer.commit(log, stream.logs.milliseconds(now))?;
        if stream.logs.pool().is_exhausted() {
            stream.logs.make_room(now);
        }
        stream.set_live(turn);
        log.readers().notify();
        Ok(())
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        let stream = &self.stream;
        let now = Instant::now();
        let id = self.id;
        let mut was_on_air = false;
        stream.take_turns(now, |publishers, _| {
            was_on_air = publishers.on_air() == Some(id);
            let switch = publishers.leave(id, now);
            if was_on_air && switch.is_none() {
                stream.state.send_modify(|state| {
                    stream.note_sign(now);
                    state.live = false;
                    state.present = false;
                });
            }
            switch
        });
    }
}
