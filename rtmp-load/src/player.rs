//! One player: what it has seen, and what that is worth. No I/O.

mod cause;
mod verdict;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    address::StreamAddress,
    clock::Instant,
    dialogue::{Closed, Dialogue, DialogueError, Event, Outboxes},
    media::{Kind, Unit, VideoKind},
    stamp::Stamp,
    stats::Tally,
    timeline::{FrameCount, News, Timeline},
};

pub(crate) use cause::{EndCause, Progress};
pub(crate) use verdict::{FinalState, Finished, Health};

/// The rules by which every player is judged.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The boot whose stamps can be compared with our clock.
    pub boot: u32,
    /// A silence longer than this is a stall.
    pub stall: Duration,
    /// A jump of timestamps longer than this is a gap.
    pub timestamp_gap: Duration,
    /// A connection that brings nothing for this long is given up.
    pub timeout: Duration,
    /// True if the bytes of stamped frames are checked.
    pub verify: bool,
    /// True if a player whose connection ends connects again.
    pub reconnect: bool,
    /// True if players of HLS play parts where there are any.
    pub low_latency: bool,
}

/// A span without video between two connections of a player.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// The last media before.
    pub lost_at: Instant,
    /// The first whole keyframe after; `None` if it never came.
    pub resumed_at: Option<Instant>,
}

/// Everything noted about one player over all its connections.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Connections begun.
    pub attempts: u64,
    /// Connections on which a keyframe arrived.
    pub joins: u64,
    /// Bytes received, all included.
    pub bytes: u64,
    /// Units of audio, video and data.
    pub messages: u64,
    /// Audio timestamps.
    pub audio: Timeline,
    /// Video timestamps.
    pub video: Timeline,
    /// Stamped frames.
    pub frames: FrameCount,
    /// Stalls, the sum of them and the longest.
    pub stalls: u64,
    /// The sum of the stalls.
    pub stalled: Duration,
    /// The longest stall.
    pub longest_stall: Duration,
    /// Times of new stamped pictures.
    pub news: News,
    /// Spans without video between connections.
    pub outages: Vec<Outage>,
    /// Number of times that each cause ended a connection.
    pub ends: BTreeMap<String, u64>,
    /// True if it played parts of HLS segments.
    pub low_latency: bool,
    /// What a server did against the rules of HLS, though it could be played;
    /// with the number of times.
    pub oddities: BTreeMap<&'static str, u64>,
}

/// See the module's description.
pub(crate) struct Player {
    address: Arc<StreamAddress>,
    rules: Arc<Rules>,
    /// True if messages are looked at to the end, false if only counted after
    /// the first keyframe.
    inspects: bool,
    session: Option<Session>,
    record: Record,
}

/// One dialogue of a player with its server.
struct Session {
    began: Instant,
    dialogue: Dialogue,
    progress: Progress,
    media_at: Option<Instant>,
    keyframe_at: Option<Instant>,
    last_byte: Instant,
}

impl Session {
    fn is_playing(&self) -> bool {
        match self.dialogue {
            Dialogue::Raw => self.media_at.is_some(),
            _ => self.keyframe_at.is_some(),
        }
    }

    fn advance(&mut self, progress: Progress) {
        self.progress = self.progress.max(progress);
    }

    /// Media has come; true for the first.
    fn note_media(&mut self, now: Instant) -> bool {
        self.advance(Progress::Streaming);
        let is_first = self.media_at.is_none();
        self.media_at.get_or_insert(now);
        is_first
    }

    /// The time for which nothing has been there to show.
    fn quiet_for(&self, now: Instant) -> Duration {
        match self.dialogue.standstill(now) {
            Some(standstill) => standstill,
            None => now.since(self.last_byte),
        }
    }
}

impl Player {
    /// A player that has not begun.
    pub(crate) fn new(address: Arc<StreamAddress>, rules: Arc<Rules>, inspects: bool) -> Self {
        Self {
            address,
            rules,
            inspects,
            session: None,
            record: Record::default(),
        }
    }

    /// Begins a dialogue. `out` takes what is to be sent on its connections.
    ///
    /// # Errors
    /// If no handshake can be made.
    pub(crate) fn begin(&mut self, now: Instant, out: &mut Outboxes) -> Result<(), EndCause> {
        self.record.attempts += 1;
        self.session = Some(Session {
            began: now,
            dialogue: Dialogue::new(&self.address, &self.rules, self.inspects, now, out)?,
            progress: Progress::Connecting,
            media_at: None,
            keyframe_at: None,
            last_byte: now,
        });
        Ok(())
    }

    /// A TCP connection stands.
    pub(crate) fn connected(&mut self, now: Instant, tally: &mut Tally) {
        if let Some(session) = &mut self.session {
            if session.progress == Progress::Connecting {
                tally.connect.record(now.since(session.began));
            }
            session.advance(match session.dialogue {
                Dialogue::Raw => Progress::Waiting,
                _ => Progress::Negotiating,
            });
            session.last_byte = now;
        }
    }

    /// The number of bytes to come on a connection that may be thrown away
    /// unread, as [`Player::discard`] takes them; 0: none.
    pub(crate) fn discardable(&self, connection: usize) -> usize {
        match &self.session {
            Some(session) if !self.inspects && session.is_playing() => {
                session.dialogue.discardable(connection)
            }
            _ => 0,
        }
    }

    /// True if it has something to show: from the first keyframe on.
    pub(crate) fn is_playing(&self) -> bool {
        self.session.as_ref().is_some_and(Session::is_playing)
    }

    /// Takes note of bytes that were thrown away unread.
    ///
    /// # Errors
    /// See [`Player::receive`].
    pub(crate) fn discard(
        &mut self,
        now: Instant,
        connection: usize,
        bytes: usize,
        out: &mut Outboxes,
        tally: &mut Tally,
    ) -> Result<(), EndCause> {
        self.bytes_came(now, bytes, tally);
        self.converse(now, tally, |dialogue, sink| {
            dialogue.discard(connection, now, bytes, out, sink)
        })
    }

    /// Takes bytes as they came on a connection; appends answers to `out`.
    ///
    /// # Errors
    /// The connections are of no more use and have to be closed.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        connection: usize,
        bytes: &[u8],
        out: &mut Outboxes,
        tally: &mut Tally,
    ) -> Result<(), EndCause> {
        self.bytes_came(now, bytes.len(), tally);
        if let Some(session) = &mut self.session
            && matches!(session.dialogue, Dialogue::Raw)
        {
            if session.note_media(now) {
                tally.first_byte.record(now.since(session.began));
                self.record.joins += 1;
            }
            return Ok(());
        }
        self.converse(now, tally, |dialogue, sink| {
            dialogue.receive(connection, now, bytes, out, sink)
        })
    }

    /// The server has closed a connection in order.
    ///
    /// # Errors
    /// If that ends the dialogue.
    pub(crate) fn closed(
        &mut self,
        now: Instant,
        connection: usize,
        out: &mut Outboxes,
        tally: &mut Tally,
    ) -> Result<(), EndCause> {
        let progress = self.progress().unwrap_or(Progress::Connecting);
        let mut closed = Closed::Ends;
        self.converse(now, tally, |dialogue, sink| {
            closed = dialogue.closed(connection, now, out, sink)?;
            Ok(())
        })?;
        match closed {
            Closed::Ends => Err(EndCause::Closed(progress)),
            Closed::GoesOn => Ok(()),
        }
    }

    /// The time at which [`Player::wake`] is to be called, if it is.
    pub(crate) fn wakes_at(&self) -> Option<Instant> {
        self.session.as_ref()?.dialogue.wakes_at()
    }

    /// Does what is due.
    pub(crate) fn wake(&mut self, now: Instant, out: &mut Outboxes) {
        if let Some(session) = &mut self.session {
            session.dialogue.wake(now, out);
        }
    }

    /// The dialogue is over.
    pub(crate) fn ended(&mut self, now: Instant, cause: &EndCause, tally: &mut Tally) {
        let Some(session) = self.session.take() else {
            return;
        };
        *self.record.ends.entry(cause.to_string()).or_default() += 1;
        self.end_session(&session, now, tally);
        if session.keyframe_at.is_some() && self.rules.reconnect {
            self.record.outages.push(Outage {
                lost_at: session.last_byte,
                resumed_at: None,
            });
        }
        self.record.audio.restart();
        self.record.video.restart();
        self.record.frames.restart();
    }

    /// The cause to give the dialogue up for, if nothing has come for too
    /// long. A player that is told to wait waits as long as it gets anything.
    pub(crate) fn overdue(&self, now: Instant) -> Option<EndCause> {
        let session = self.session.as_ref()?;
        let since = session.dialogue.waits_since(session.last_byte)?;
        (now.since(since) > self.rules.timeout).then(|| EndCause::TimedOut {
            seconds: self.rules.timeout.as_secs(),
            progress: session.progress,
        })
    }

    /// The state of the dialogue, if there is one.
    pub(crate) fn progress(&self) -> Option<Progress> {
        self.session.as_ref().map(|session| session.progress)
    }

    /// The end of the run: settles what is open and hands over the record.
    /// `due` tells the last frame that a publisher has sent long enough ago.
    pub(crate) fn finish(
        mut self,
        now: Instant,
        due: impl Fn(u32) -> Option<u32>,
        tally: &mut Tally,
    ) -> Finished {
        let mut final_state = FinalState {
            playing: self.is_playing(),
            quiet_for: None,
        };
        if let Some(gap) = self.record.news.longest_gap_up_to(now) {
            tally.picture_gaps.record(gap);
        }
        if let Some(session) = self.session.take() {
            self.end_session(&session, now, tally);
            final_state.quiet_for = Some(session.quiet_for(now));
            if let Some(publisher) = self.record.frames.publisher()
                && let Some(due) = due(publisher)
                && self.inspects
                && session.dialogue.brings_at_once()
            {
                self.record.frames.expect_up_to(publisher, due);
            }
        }
        Finished {
            address: self.address,
            inspected: self.inspects,
            record: self.record,
            final_state,
        }
    }

    /// Has the dialogue do something, and takes what comes of it.
    fn converse(
        &mut self,
        now: Instant,
        tally: &mut Tally,
        act: impl FnOnce(&mut Dialogue, &mut dyn FnMut(Event<'_>)) -> Result<(), DialogueError>,
    ) -> Result<(), EndCause> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        // Out of the session, which the events change.
        let mut dialogue = std::mem::replace(&mut session.dialogue, Dialogue::Raw);
        let result = act(&mut dialogue, &mut |event| {
            event_came(session, &mut self.record, &self.rules, now, event, tally);
        });
        session.dialogue = dialogue;
        Ok(result?)
    }

    /// All bytes received so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.record.bytes
    }

    fn bytes_came(&mut self, now: Instant, bytes: usize, tally: &mut Tally) {
        self.record.bytes += bytes as u64;
        let Some(session) = &mut self.session else {
            return;
        };
        let silence = now.since(session.last_byte);
        session.last_byte = now;
        if session.is_playing() && session.dialogue.brings_at_once() {
            note_stall(&mut self.record, &self.rules, silence, tally);
        }
    }

    fn end_session(&mut self, session: &Session, now: Instant, tally: &mut Tally) {
        if session.is_playing() {
            note_stall(&mut self.record, &self.rules, session.quiet_for(now), tally);
        }
    }
}

/// Counts a time without anything to show, if it is longer than the limit.
fn note_stall(record: &mut Record, rules: &Rules, stall: Duration, tally: &mut Tally) {
    if stall > rules.stall {
        record.stalls += 1;
        record.stalled += stall;
        record.longest_stall = record.longest_stall.max(stall);
        tally.stalls.record(stall);
    }
}

fn event_came(
    session: &mut Session,
    record: &mut Record,
    rules: &Rules,
    now: Instant,
    event: Event<'_>,
    tally: &mut Tally,
) {
    match event {
        Event::Agreed => session.advance(Progress::Waiting),
        Event::Media(unit) => unit_came(session, record, rules, now, unit, tally),
        Event::LowLatency => record.low_latency = true,
        Event::Answered => tally.answers += 1,
        Event::Discontinuity => {
            record.audio.restart();
            record.video.restart();
        }
        Event::Stalled(stall) => note_stall(record, rules, stall, tally),
        Event::Oddity(what) => {
            *record.oddities.entry(what).or_default() += 1;
        }
    }
}

fn unit_came(
    session: &mut Session,
    record: &mut Record,
    rules: &Rules,
    now: Instant,
    unit: Unit<'_>,
    tally: &mut Tally,
) {
    record.messages += 1;
    if session.note_media(now) {
        tally.first_byte.record(now.since(session.began));
    }
    let kind = match unit.kind {
        Kind::Audio => {
            record.audio.advance(unit.timestamp, rules.timestamp_gap);
            return;
        }
        Kind::Other => return,
        Kind::Video(kind) => kind,
    };
    // A sequence header is shown at no time: servers send theirs with any.
    if kind != VideoKind::SequenceHeader {
        record.video.advance(unit.timestamp, rules.timestamp_gap);
    }
    if session.keyframe_at.is_none() && kind == VideoKind::Keyframe {
        session.keyframe_at = Some(now);
        record.joins += 1;
        tally.first_keyframe.record(now.since(session.began));
        if let Some(outage) = record.outages.last_mut()
            && outage.resumed_at.is_none()
        {
            outage.resumed_at = Some(now);
            tally.outages.record(now.since(outage.lost_at));
        }
    }
    if let Some((stamp, end)) = Stamp::find(unit.head) {
        stamped_frame_came(session, record, rules, now, (stamp, end), unit, tally);
    }
}

fn stamped_frame_came(
    session: &Session,
    record: &mut Record,
    rules: &Rules,
    now: Instant,
    (stamp, end): (Stamp, usize),
    unit: Unit<'_>,
    tally: &mut Tally,
) {
    record.frames.advance(&stamp);
    if stamp.boot == rules.boot {
        record.news.advance(&stamp, now);
        // What a server had in store when the player came is not late.
        if stamp.sent_at >= session.began {
            tally.latency.record(now.since(stamp.sent_at));
        }
        if let Some(shown_at) = unit.shown_at {
            tally.behind.record(shown_at.since(stamp.sent_at));
        }
    }
    if let Some(tail) = unit.tail {
        let mut whole = crc32fast::Hasher::new();
        whole.update(&unit.head[end..]);
        whole.combine(&tail);
        if whole.finalize() != stamp.checksum {
            record.frames.corrupt += 1;
        }
    }
}

#[cfg(test)]
mod tests;
