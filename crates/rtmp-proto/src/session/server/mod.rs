//! The server's side of a connection.

mod commands;
mod event;
mod reply;
mod streams;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

pub use event::{
    ConnectRequest, ConnectSettings, PlayRequest, PlayStart, PublishKind, PublishRequest,
    ServerEvent,
};

use self::streams::{Activity, Streams};
use super::error::SessionError;
use super::name::AppName;
use super::status::{Status, code, play_code};
use crate::wire::chunk::{ChunkReader, DEFAULT_CHUNK_SIZE, csid, encode_message};
use crate::wire::handshake::Handshake;
use crate::wire::message::{Command, Control, UserControl, aggregate};
use crate::wire::{Limit, Limits};
use crate::wire::{Message, MessageType};

/// The phase of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// The handshake is not complete.
    Handshake,
    /// No `connect` has been accepted yet.
    Connecting,
    /// `connect` has been accepted.
    Connected,
}

/// The server's side of a connection: bytes in; events and replies out.
///
/// ```text
/// while let Some(event) = session.read(&mut input, &mut out)? { … }
/// // input is used up: send out in one piece, read on from the socket
/// ```
///
/// [`ServerEvent::Connect`], [`Publish`](ServerEvent::Publish) and
/// [`Play`](ServerEvent::Play) are requests: until the caller answers (with
/// `accept_*`, `refuse_*`, or [`defer_play`](ServerSession::defer_play)), `read`
/// takes no further input, so that an answer may take its time and what the
/// client sent after its request keeps its place.
///
/// While it plays, a session holds well under 1 kB.
#[derive(Debug, Serialize, Deserialize)]
pub struct ServerSession {
    /// Those of the program that goes on with it.
    #[serde(skip)]
    limits: Limits,
    stage: Stage,
    reader: ChunkReader,
    /// Length of our chunks, in bytes.
    chunk_size: u32,
    streams: Streams,
    /// The rest of an aggregate message whose first parts have been delivered.
    parts: Option<Box<aggregate::Parts>>,
    /// Events of a command that caused more than one.
    queued: VecDeque<ServerEvent>,
}

/// State of the connection as a whole.
///
/// ```text
/// Handshake ─▶ Connecting ─ connect ─▶ ConnectRequested ─ accepted ─▶ Connected
///                                             └────────── refused ──▶ Refused
/// ```
#[derive(Debug, Serialize, Deserialize)]
enum Stage {
    Handshake(Box<Handshake>),
    /// `connect` has not come.
    Connecting,
    /// `connect` waits for its answer.
    ConnectRequested(Box<PendingConnect>),
    Connected(Box<AppName>),
    /// `connect` has been refused: nothing is read any more.
    Refused,
}

/// The parts of a `connect` that its answer needs.
#[derive(Debug, Serialize, Deserialize)]
struct PendingConnect {
    transaction_id: f64,
    object_encoding: f64,
    enhanced: bool,
    /// It carries the property `gopCache`: whoever sends that understands
    /// `marksPublications`.
    has_gop_cache: bool,
    name: AppName,
}

impl ServerSession {
    /// A session of a connection that was just accepted; it begins with the
    /// handshake.
    pub fn new(limits: &Limits) -> ServerSession {
        ServerSession {
            limits: *limits,
            stage: Stage::Handshake(Box::new(Handshake::server())),
            reader: ChunkReader::new(limits),
            chunk_size: DEFAULT_CHUNK_SIZE,
            streams: Streams::new(limits.message_streams),
            parts: None,
            queued: VecDeque::new(),
        }
    }

    /// Takes bytes off the front of `input` up to the next event; `None` when
    /// all of it has been taken, or while a request waits for its answer.
    /// Replies, acknowledgements and pongs are appended to `out`.
    ///
    /// # Errors
    /// The connection has to end; send `out` first.
    pub fn read(
        &mut self,
        input: &mut &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<ServerEvent>, SessionError> {
        loop {
            if let Some(event) = self.next_queued() {
                return Ok(Some(event));
            }
            match &mut self.stage {
                Stage::Handshake(handshake) => {
                    if !handshake.read(input, out)? {
                        return Ok(None);
                    }
                    self.stage = Stage::Connecting;
                }
                Stage::ConnectRequested(_) | Stage::Refused => return Ok(None),
                Stage::Connecting | Stage::Connected(_) => {}
            }
            if self.streams.awaits_answer() {
                return Ok(None);
            }
            let message = self.reader.read(input)?;
            if let Some(sequence_number) = self.reader.take_acknowledgement() {
                self.send(&Control::Acknowledgement(sequence_number).to_message(), out);
            }
            let allowed = self.limits.bytes_before_connect;
            if self.phase() == Phase::Connecting
                && self.reader.bytes_received() > u64::from(allowed)
            {
                let limit = Limit::BytesBeforeConnect;
                return Err(SessionError::Limit { limit, allowed });
            }
            let Some(message) = message else {
                return Ok(None);
            };
            if let Some(event) = self.take(message, out)? {
                return Ok(Some(event));
            }
        }
    }

    fn next_queued(&mut self) -> Option<ServerEvent> {
        if let Some(event) = self.queued.pop_front() {
            if self.queued.is_empty() {
                self.queued = VecDeque::new();
            }
            return Some(event);
        }
        let part = self.parts.as_mut()?.next();
        if part.is_none() {
            self.parts = None;
        }
        part.map(ServerEvent::Media)
    }

    /// One message's effect.
    fn take(
        &mut self,
        message: Message,
        out: &mut Vec<u8>,
    ) -> Result<Option<ServerEvent>, SessionError> {
        let kind = message.message_type;
        if kind.is_media() {
            if play_code(&message, &self.limits).is_some() {
                // A relay that sends on all that its source's server has said.
                return Ok(None);
            }
            return Ok(self.published(message).map(ServerEvent::Media));
        }
        if kind == MessageType::AGGREGATE {
            if let Some(message) = self.published(message) {
                self.parts = Some(Box::new(aggregate::split(message)));
            }
            return Ok(None);
        }
        if kind.is_command() {
            let allowed = self.limits.command_bytes;
            if message.payload.len() > allowed as usize {
                return Err(SessionError::Limit {
                    limit: Limit::CommandBytes,
                    allowed,
                });
            }
            // What has no readable name cannot be answered either.
            let Ok(command) = Command::parse(&message, self.limits.amf_nesting) else {
                return Ok(None);
            };
            self.command(command, message.stream_id, out)?;
            return Ok(None);
        }
        Ok(match Control::parse(&message) {
            Some(Control::Acknowledgement(sequence_number)) => {
                Some(ServerEvent::Acknowledged(sequence_number))
            }
            Some(Control::UserControl(event)) => self.user_control(event, out),
            // The reader has obeyed those that concern the chunks; a client
            // does not govern our bandwidth, the kernel does.
            _ => None,
        })
    }

    fn user_control(&mut self, event: UserControl, out: &mut Vec<u8>) -> Option<ServerEvent> {
        match event {
            UserControl::PingRequest(timestamp) => {
                self.send_user_control(UserControl::PingResponse(timestamp), out);
                None
            }
            UserControl::PingResponse(timestamp) => Some(ServerEvent::Pong(timestamp)),
            UserControl::SetBufferLength {
                stream_id,
                milliseconds,
            } => Some(ServerEvent::BufferLength {
                stream_id,
                milliseconds,
            }),
            _ => None,
        }
    }

    /// The media message, if it belongs to a stream that the client publishes.
    /// Message stream 0, which some encoders use throughout, stands for the
    /// one stream that is published.
    fn published(&self, mut message: Message) -> Option<Message> {
        if message.stream_id == 0 {
            message.stream_id = self.streams.only(Activity::Publishing)?;
        }
        (self.streams.activity(message.stream_id) == Activity::Publishing).then_some(message)
    }

    /// Accepts `connect`: from here on, our chunks have `settings`' size.
    pub fn accept_connect(&mut self, settings: &ConnectSettings, out: &mut Vec<u8>) {
        let Stage::ConnectRequested(pending) = &self.stage else {
            return;
        };
        let result = reply::connect_result(
            pending.transaction_id,
            pending.object_encoding,
            pending.enhanced,
            pending.has_gop_cache,
        );
        self.stage = Stage::Connected(Box::new(pending.name.clone()));
        for control in reply::connection_settings(settings) {
            self.send(&control.to_message(), out);
        }
        self.chunk_size = settings.chunk_size;
        if settings.in_ack_size > 0 {
            self.reader.set_ack_window(settings.in_ack_size);
        }
        self.send(&result.to_message(0), out);
        self.send(&reply::bandwidth_done().to_message(0), out);
    }

    /// From here on our chunks have this size, replies as well as what others
    /// encode; the client is told.
    pub fn set_chunk_size(&mut self, chunk_size: u32, out: &mut Vec<u8>) {
        self.send(&Control::SetChunkSize(chunk_size).to_message(), out);
        self.chunk_size = chunk_size;
    }

    /// Refuses `connect`; the caller sends `out` and closes.
    pub fn refuse_connect(&mut self, status: &Status, out: &mut Vec<u8>) {
        let Stage::ConnectRequested(pending) = &self.stage else {
            return;
        };
        let error = reply::error(pending.transaction_id, status);
        self.stage = Stage::Refused;
        self.send(&error.to_message(0), out);
    }

    /// Accepts a publish: `NetStream.Publish.Start`. `false`: no publish waits
    /// on this stream.
    pub fn accept_publish(&mut self, stream_id: u32, out: &mut Vec<u8>) -> bool {
        if self.streams.activity(stream_id) != Activity::PublishRequested {
            return false;
        }
        self.streams.set(stream_id, Activity::Publishing);
        self.send(&reply::on_fc_publish().to_message(stream_id), out);
        let status = Status::notice(code::PUBLISH_START, "Started publishing stream.");
        self.send_status(stream_id, &status, out);
        true
    }

    /// Refuses a publish, or ends one that was accepted. `false`: there is
    /// none on this stream.
    pub fn refuse_publish(&mut self, stream_id: u32, status: &Status, out: &mut Vec<u8>) -> bool {
        if !self.streams.activity(stream_id).is_publish() {
            return false;
        }
        self.streams.set(stream_id, Activity::Idle);
        self.send_status(stream_id, status, out);
        true
    }

    /// Accepts a play: stream begin, `NetStream.Play.Reset`, `.Start` and
    /// what else players expect before the media. `false`: no play waits on
    /// this stream.
    ///
    /// No data message but `|RtmpSampleAccess` is sent: ffmpeg takes each that
    /// it does not know, `NetStream.Data.Start` among them, for a track.
    pub fn accept_play(&mut self, stream_id: u32, out: &mut Vec<u8>) -> bool {
        if !self.streams.activity(stream_id).is_play_waiting() {
            return false;
        }
        self.streams.set(stream_id, Activity::Playing);
        self.send_user_control(UserControl::StreamBegin(stream_id), out);
        let reset = Status::notice(code::PLAY_RESET, "Playing and resetting stream.");
        self.send_status(stream_id, &reset, out);
        let start = Status::notice(code::PLAY_START, "Started playing stream.");
        self.send_status(stream_id, &start, out);
        self.send(&reply::sample_access(stream_id), out);
        true
    }

    /// Keeps a play request waiting without an answer, and reads on meanwhile;
    /// it ends with `accept_play` or `refuse_play`, or with
    /// [`ServerEvent::PlayEnded`] if the client ends the play.
    pub fn defer_play(&mut self, stream_id: u32) {
        if self.streams.activity(stream_id) == Activity::PlayRequested {
            self.streams.set(stream_id, Activity::PlayDeferred);
        }
    }

    /// Refuses a play, waiting or accepted (`NetStream.Play.StreamNotFound`
    /// after a wait, say). `false`: there is none on this stream.
    pub fn refuse_play(&mut self, stream_id: u32, status: &Status, out: &mut Vec<u8>) -> bool {
        if !self.streams.activity(stream_id).is_play() {
            return false;
        }
        self.streams.set(stream_id, Activity::Idle);
        self.send_status(stream_id, status, out);
        true
    }

    /// Ends an accepted play in good order (its duration is over, the stream
    /// has ended for good): stream EOF, `NetStream.Play.Stop`. `false`: nothing
    /// plays on this stream.
    pub fn end_play(&mut self, stream_id: u32, out: &mut Vec<u8>) -> bool {
        if self.streams.activity(stream_id) != Activity::Playing {
            return false;
        }
        self.streams.set(stream_id, Activity::Idle);
        self.send_user_control(UserControl::StreamEof(stream_id), out);
        let stop = Status::notice(code::PLAY_STOP, "Stopped playing stream.");
        self.send_status(stream_id, &stop, out);
        true
    }

    /// Sends a status on a stream.
    ///
    /// Beware of [`code::PLAY_UNPUBLISH_NOTIFY`]: ffmpeg takes it for the end
    /// of the stream, whether the publisher comes back or not.
    pub fn send_status(&mut self, stream_id: u32, status: &Status, out: &mut Vec<u8>) {
        self.send(&reply::on_status(status).to_message(stream_id), out);
    }

    /// Sends a message to this client alone.
    pub fn send(&mut self, message: &Message, out: &mut Vec<u8>) {
        let csid = csid::for_message(message.message_type, message.stream_id);
        encode_message(message, self.chunk_size, csid, out);
    }

    /// Asks the client for a sign of life; `timestamp` is any clock's
    /// milliseconds. The answer is [`ServerEvent::Pong`].
    pub fn ping(&mut self, timestamp: u32, out: &mut Vec<u8>) {
        self.send_user_control(UserControl::PingRequest(timestamp), out);
    }

    /// The phase of the connection.
    pub fn phase(&self) -> Phase {
        match self.stage {
            Stage::Handshake(_) => Phase::Handshake,
            Stage::Connecting | Stage::ConnectRequested(_) | Stage::Refused => Phase::Connecting,
            Stage::Connected(_) => Phase::Connected,
        }
    }

    /// True if the session can be written down (`serde`) and be read by another process
    /// that goes on with it; not so within the first packets of the handshake.
    pub fn is_portable(&self) -> bool {
        match &self.stage {
            Stage::Handshake(handshake) => handshake.is_portable(),
            _ => true,
        }
    }

    /// Bytes received after the handshake.
    pub fn bytes_received(&self) -> u64 {
        self.reader.bytes_received()
    }

    /// Bytes of memory held for messages that are not complete.
    pub fn unfinished_bytes(&self) -> usize {
        self.reader.buffered_capacity()
    }

    /// Bytes of memory held beside the session itself, without what an
    /// allocator adds.
    pub fn heap_bytes(&self) -> usize {
        let stage = match &self.stage {
            Stage::Handshake(handshake) => size_of_val(&**handshake) + handshake.heap_bytes(),
            Stage::ConnectRequested(pending) => size_of_val(&**pending) + pending.name.heap_bytes(),
            Stage::Connected(name) => size_of_val(&**name) + name.heap_bytes(),
            Stage::Connecting | Stage::Refused => 0,
        };
        stage
            + self.reader.heap_bytes()
            + self.streams.heap_bytes()
            + self.parts.as_ref().map_or(0, |parts| size_of_val(&**parts))
            + self.queued.capacity() * size_of::<ServerEvent>()
    }

    fn send_user_control(&mut self, event: UserControl, out: &mut Vec<u8>) {
        self.send(&Control::UserControl(event).to_message(), out);
    }
}
