//! One player: what it has seen, and what that is worth. No I/O.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    address::{Protocol, StreamAddress},
    chunks,
    client::{Client, ClientError, Event, Role},
    clock::Instant,
    media::{VideoKind, is_audio_sequence_header, message_type, video_kind},
    stamp::Stamp,
    stats::Tally,
    timeline::{FrameCount, Timeline},
};

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
}

/// The reason for which a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EndCause {
    /// The TCP connection could not be made.
    #[error("connect: {0}")]
    Connect(String),
    /// The peer closed in order.
    #[error("closed by the server {0}")]
    Closed(Progress),
    /// The connection broke.
    #[error("{error} {progress}")]
    Broken {
        /// The system's error.
        error: String,
        /// The state of the connection.
        progress: Progress,
    },
    /// Nothing came.
    #[error("nothing came for {seconds} s {progress}")]
    TimedOut {
        /// The limit.
        seconds: u64,
        /// The state of the connection.
        progress: Progress,
    },
    /// The server refused or talked nonsense.
    #[error("{0}")]
    Client(String),
    /// The source of what is published failed.
    #[error("{0}")]
    Source(String),
}

impl From<ClientError> for EndCause {
    fn from(error: ClientError) -> Self {
        Self::Client(error.to_string())
    }
}

/// State of a connection. It only moves forward; raw streams skip the
/// negotiation.
///
/// ```text
/// Connecting ─ TCP ─▶ Negotiating ─ play accepted ─▶ Waiting ─ media ─▶ Streaming
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Progress {
    /// TCP is not established.
    Connecting,
    /// Handshake and commands.
    Negotiating,
    /// Waiting for the first media.
    Waiting,
    /// Media flows.
    Streaming,
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connecting => "while connecting",
            Self::Negotiating => "during handshake and commands",
            Self::Waiting => "before any media",
            Self::Streaming => "while streaming",
        })
    }
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
    /// Messages of audio, video and data.
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
    /// Spans without video between connections.
    pub outages: Vec<Outage>,
    /// Number of times that each cause ended a connection.
    pub ends: BTreeMap<String, u64>,
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

/// One connection of a player.
struct Session {
    began: Instant,
    /// `None` if the bytes are raw.
    client: Option<Client>,
    progress: Progress,
    media_at: Option<Instant>,
    keyframe_at: Option<Instant>,
    last_byte: Instant,
}

impl Session {
    fn is_playing(&self) -> bool {
        match self.client {
            Some(_) => self.keyframe_at.is_some(),
            None => self.media_at.is_some(),
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

    /// Begins a connection. `out` takes what is to be sent once it stands.
    ///
    /// # Errors
    /// If no handshake can be made.
    pub(crate) fn begin(&mut self, now: Instant, out: &mut Vec<u8>) -> Result<(), EndCause> {
        self.record.attempts += 1;
        let client = match self.address.protocol {
            Protocol::Raw => None,
            Protocol::Rtmp => {
                let address = Arc::clone(&self.address);
                Some(Client::new(Role::Player, address, self.rules.verify, out)?)
            }
        };
        self.session = Some(Session {
            began: now,
            client,
            progress: Progress::Connecting,
            media_at: None,
            keyframe_at: None,
            last_byte: now,
        });
        Ok(())
    }

    /// The TCP connection stands.
    pub(crate) fn connected(&mut self, now: Instant, tally: &mut Tally) {
        if let Some(session) = &mut self.session {
            session.advance(match session.client {
                Some(_) => Progress::Negotiating,
                None => Progress::Waiting,
            });
            session.last_byte = now;
            tally.connect.record(now.since(session.began));
        }
    }

    /// True if bytes may be thrown away unread, as [`Player::discard`] takes
    /// them.
    pub(crate) fn wants_discard(&self) -> bool {
        !self.inspects && self.is_playing()
    }

    /// True if it has something to show: from the first keyframe on.
    pub(crate) fn is_playing(&self) -> bool {
        self.session.as_ref().is_some_and(Session::is_playing)
    }

    /// Takes note of bytes that were thrown away unread.
    pub(crate) fn discard(
        &mut self,
        now: Instant,
        bytes: usize,
        out: &mut Vec<u8>,
        tally: &mut Tally,
    ) {
        self.bytes_came(now, bytes, tally);
        if let Some(client) = self
            .session
            .as_mut()
            .and_then(|session| session.client.as_mut())
        {
            client.discard(bytes, out);
        }
    }

    /// Takes bytes as they came; appends answers to `out`.
    ///
    /// # Errors
    /// The connection is of no more use and has to be closed.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        bytes: &[u8],
        out: &mut Vec<u8>,
        tally: &mut Tally,
    ) -> Result<(), EndCause> {
        self.bytes_came(now, bytes.len(), tally);
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        let Some(mut client) = session.client.take() else {
            if session.note_media(now) {
                tally.first_byte.record(now.since(session.began));
                self.record.joins += 1;
            }
            return Ok(());
        };
        let result = client.receive(bytes, out, |event| match event {
            Event::Agreed => session.advance(Progress::Waiting),
            Event::Media(message) => {
                media_came(session, &mut self.record, &self.rules, now, message, tally);
            }
        });
        session.client = Some(client);
        Ok(result?)
    }

    /// The connection is over.
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

    /// The cause to give the connection up for, if nothing has come for too
    /// long. A player that is told to wait waits as long as it gets anything.
    pub(crate) fn overdue(&self, now: Instant) -> Option<EndCause> {
        let session = self.session.as_ref()?;
        (now.since(session.last_byte) > self.rules.timeout).then(|| EndCause::TimedOut {
            seconds: self.rules.timeout.as_secs(),
            progress: session.progress,
        })
    }

    /// The state of the connection, if there is one.
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
        if let Some(session) = self.session.take() {
            self.end_session(&session, now, tally);
            final_state.quiet_for = Some(now.since(session.last_byte));
            if let Some(publisher) = self.record.frames.publisher()
                && let Some(due) = due(publisher)
                && self.inspects
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
        if session.is_playing() {
            self.note_silence(silence, tally);
        }
    }

    fn end_session(&mut self, session: &Session, now: Instant, tally: &mut Tally) {
        if session.is_playing() {
            self.note_silence(now.since(session.last_byte), tally);
        }
    }

    fn note_silence(&mut self, silence: Duration, tally: &mut Tally) {
        if silence > self.rules.stall {
            self.record.stalls += 1;
            self.record.stalled += silence;
            self.record.longest_stall = self.record.longest_stall.max(silence);
            tally.stalls.record(silence);
        }
    }
}

fn media_came(
    session: &mut Session,
    record: &mut Record,
    rules: &Rules,
    now: Instant,
    message: chunks::Message<'_>,
    tally: &mut Tally,
) {
    record.messages += 1;
    if session.note_media(now) {
        tally.first_byte.record(now.since(session.began));
    }
    // A sequence header is shown at no time: servers send theirs with any.
    match message.type_id {
        message_type::AUDIO if !is_audio_sequence_header(message.head) => {
            record.audio.advance(message.timestamp, rules.timestamp_gap);
        }
        message_type::VIDEO => {
            let kind = video_kind(message.head);
            if kind != VideoKind::SequenceHeader {
                record.video.advance(message.timestamp, rules.timestamp_gap);
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
            if let Some((stamp, end)) = Stamp::find(message.head) {
                stamped_frame_came(session, record, rules, now, (stamp, end), message, tally);
            }
        }
        _ => {}
    }
}

fn stamped_frame_came(
    session: &Session,
    record: &mut Record,
    rules: &Rules,
    now: Instant,
    (stamp, end): (Stamp, usize),
    message: chunks::Message<'_>,
    tally: &mut Tally,
) {
    record.frames.advance(&stamp);
    // What a server had in store when the player came is not late.
    if stamp.boot == rules.boot && stamp.sent_at >= session.began {
        tally.latency.record(now.since(stamp.sent_at));
    }
    if let Some(tail) = message.tail {
        let mut whole = crc32fast::Hasher::new();
        whole.update(&message.head[end..]);
        whole.combine(&tail);
        if whole.finalize() != stamp.checksum {
            record.frames.corrupt += 1;
        }
    }
}

/// The state of a player when the run ended.
#[derive(Debug, Clone, Copy)]
pub struct FinalState {
    /// True if it was playing.
    pub playing: bool,
    /// Time for which nothing had come on its connection.
    pub quiet_for: Option<Duration>,
}

/// A player after the run.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The stream that it played.
    pub address: Arc<StreamAddress>,
    /// True if its messages were looked at to the end.
    pub inspected: bool,
    /// Its record.
    pub record: Record,
    /// Its final state.
    pub final_state: FinalState,
}

/// A verdict on a player.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It got what it should.
    Healthy,
    /// It was connected and got too little.
    Starved,
    /// It was not connected when it should have been.
    Failed,
}

impl Finished {
    /// The verdict: *failed* if it was not connected at the end, or had to
    /// begin again without being told to; *starved* if it never got a keyframe,
    /// had gone quiet, or got less than `min_share` of its frames.
    pub fn health(&self, rules: &Rules, min_share: f64) -> Health {
        let lost_connections: u64 = self.record.ends.values().sum();
        let Some(quiet_for) = self.final_state.quiet_for else {
            return Health::Failed;
        };
        if lost_connections > 0 && !rules.reconnect {
            return Health::Failed;
        }
        let short = self
            .record
            .frames
            .delivered()
            .is_some_and(|share| share < min_share);
        if !self.final_state.playing || quiet_for > rules.stall || short {
            return Health::Starved;
        }
        Health::Healthy
    }
}

#[cfg(test)]
mod tests;
