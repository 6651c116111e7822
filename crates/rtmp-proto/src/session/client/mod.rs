//! The client's side of a connection: pulls a stream, or publishes one.

mod config;

pub use config::{ClientConfig, Purpose};
use serde::{Deserialize, Serialize};

use super::error::SessionError;
use super::properties::MARKS_PUBLICATIONS;
use super::status::{Level, Status, code, play_code};
use crate::wire::amf0::Value;
use crate::wire::chunk::{ChunkReader, ChunkWriter, csid};
use crate::wire::handshake::Handshake;
use crate::wire::message::{Command, Control, UserControl, aggregate};
use crate::wire::{Limit, Limits};
use crate::wire::{Message, MessageType};

/// An event of the server's side.
#[derive(Clone, PartialEq, Debug)]
pub enum ClientEvent {
    /// `connect` has been accepted.
    Connected,
    /// The stream plays, or will as soon as there is something to play.
    Playing,
    /// Media may be sent.
    Publishing,
    /// Audio, video or data of the stream played. Aggregates have been split.
    Media(Message),
    /// The server has refused `connect`, the play or the publish, or has ended
    /// one of them for a reason. Nothing more is to come.
    Rejected(Status),
    /// The server says, while the stream plays, that it begins anew: another
    /// publication follows. nginx-rtmp and our servers do.
    StreamBegin,
    /// Another status (`NetStream.Play.UnpublishNotify`, …).
    Status(Status),
    /// The server says that the stream has ended: stream EOF,
    /// `NetStream.Play.Stop` or `.Complete`, of which one follows another. Some
    /// servers go on with the same stream when its publisher returns.
    Ended,
}

/// The client's side of a connection, for one stream: bytes in; events and
/// commands out.
///
/// ```text
/// while let Some(event) = session.read(&mut input, &mut out)? { … }
/// // input is used up: send out in one piece, read on from the socket
/// ```
///
/// The caller sends what [`ClientSession::new`] has appended, then what each
/// `read` appends; the session asks for the stream by itself. After
/// [`ClientEvent::Publishing`] the caller may [`publish`](ClientSession::publish);
/// before it closes the socket it calls [`close`](ClientSession::close).
#[derive(Debug, Serialize, Deserialize)]
pub struct ClientSession {
    config: ClientConfig,
    /// Those of the program that goes on with it.
    #[serde(skip)]
    limits: Limits,
    stage: Stage,
    reader: ChunkReader,
    writer: ChunkWriter,
    last_transaction: u32,
    /// The server has said that it does so.
    marks_publications: bool,
    /// The rest of an aggregate message whose first parts have been delivered.
    parts: Option<aggregate::Parts>,
}

/// State of the connection and its stream.
///
/// ```text
/// Handshake ─▶ Connecting ─▶ CreatingStream ─▶ Requested ─┬─▶ Playing
///     │            │               │               │      └─▶ Publishing
///     └────────────┴───────────────┴───────────────┴──────────┴─▶ Over
/// ```
#[derive(Debug, Serialize, Deserialize)]
enum Stage {
    Handshake(Box<Handshake>),
    /// Waits for the result of this transaction.
    Connecting(u32),
    /// Waits for the result of this transaction.
    CreatingStream(u32),
    /// `play` or `publish` has been sent on this message stream.
    Requested(u32),
    Playing(u32),
    Publishing(u32),
    /// Refused, or closed by us.
    Over,
}

impl ClientSession {
    /// A session of a connection that was just made; appends the handshake's
    /// first packets to `out`.
    ///
    /// # Errors
    /// If no handshake can be made.
    pub fn new(
        config: ClientConfig,
        limits: &Limits,
        out: &mut Vec<u8>,
    ) -> Result<ClientSession, SessionError> {
        Ok(ClientSession {
            config,
            limits: *limits,
            stage: Stage::Handshake(Box::new(Handshake::client(out)?)),
            reader: ChunkReader::new(limits),
            writer: ChunkWriter::new(),
            last_transaction: 0,
            marks_publications: false,
            parts: None,
        })
    }

    /// Takes bytes off the front of `input` up to the next event; `None` when
    /// all of it has been taken. What the dialogue needs next is appended to
    /// `out`. After a rejection or [`close`](Self::close), input is thrown
    /// away.
    ///
    /// # Errors
    /// The connection has to end.
    pub fn read(
        &mut self,
        input: &mut &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<ClientEvent>, SessionError> {
        loop {
            if matches!(self.stage, Stage::Over) {
                *input = &[];
                return Ok(None);
            }
            if let Some(part) = self.parts.as_mut().and_then(Iterator::next) {
                return Ok(Some(ClientEvent::Media(part)));
            }
            self.parts = None;
            if let Stage::Handshake(handshake) = &mut self.stage {
                if !handshake.read(input, out)? {
                    return Ok(None);
                }
                self.connect(out);
            }
            let message = self.reader.read(input)?;
            if let Some(sequence_number) = self.reader.take_acknowledgement() {
                self.send_control(&Control::Acknowledgement(sequence_number), out);
            }
            let Some(message) = message else {
                return Ok(None);
            };
            if let Some(event) = self.take(message, out)? {
                return Ok(Some(event));
            }
        }
    }

    /// Sends media of the stream that is published; its message stream is
    /// filled in. `false`: nothing may be sent yet, or any more.
    pub fn publish(&mut self, message: &Message, out: &mut Vec<u8>) -> bool {
        let Stage::Publishing(stream_id) = self.stage else {
            return false;
        };
        self.send(
            &Message {
                stream_id,
                ..message.clone()
            },
            out,
        );
        true
    }

    /// Ends the publish or play: `FCUnpublish` of a publisher, `deleteStream` of either.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let (Stage::Requested(stream_id)
        | Stage::Playing(stream_id)
        | Stage::Publishing(stream_id)) = stage
        else {
            return;
        };
        if self.config.purpose == Purpose::Publish {
            self.call("FCUnpublish", vec![self.stream_name()], out);
        }
        let stream_id = Value::Number(f64::from(stream_id));
        let delete = Command::new("deleteStream", 0.0, vec![stream_id]);
        self.send(&delete.to_message(0), out);
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

    /// True if the server has said that it tells of each publication that
    /// begins ([`ClientEvent::StreamBegin`]), and gives a player no picture
    /// before a keyframe that it has not waited for: as ours do where
    /// [`ClientConfig::gop_cache`] is set.
    pub fn marks_publications(&self) -> bool {
        self.marks_publications
    }

    fn connect(&mut self, out: &mut Vec<u8>) {
        let transaction = self.next_transaction();
        self.send(&self.config.connect_command(transaction).to_message(0), out);
        self.stage = Stage::Connecting(transaction);
    }

    /// One message's effect.
    fn take(
        &mut self,
        message: Message,
        out: &mut Vec<u8>,
    ) -> Result<Option<ClientEvent>, SessionError> {
        let kind = message.message_type;
        if kind.is_command() {
            let allowed = self.limits.command_bytes;
            if message.payload.len() > allowed as usize {
                return Err(SessionError::Limit {
                    limit: Limit::CommandBytes,
                    allowed,
                });
            }
            let Ok(command) = Command::parse(&message, self.limits.amf_nesting) else {
                return Ok(None);
            };
            return Ok(self.command(&command, out));
        }
        if kind.is_media() || kind == MessageType::AGGREGATE {
            return Ok(self.media(message));
        }
        Ok(match Control::parse(&message) {
            Some(Control::UserControl(UserControl::PingRequest(timestamp))) => {
                let pong = UserControl::PingResponse(timestamp);
                self.send_control(&Control::UserControl(pong), out);
                None
            }
            Some(Control::UserControl(UserControl::StreamEof(_))) => self.ended(),
            Some(Control::UserControl(UserControl::StreamBegin(_))) => {
                matches!(self.stage, Stage::Playing(_)).then_some(ClientEvent::StreamBegin)
            }
            _ => None,
        })
    }

    fn command(&mut self, command: &Command, out: &mut Vec<u8>) -> Option<ClientEvent> {
        let answers = |transaction: u32| command.transaction_id == f64::from(transaction);
        match (command.name.as_str(), &self.stage) {
            ("_result", &Stage::Connecting(transaction)) if answers(transaction) => {
                let told = command.object.get(MARKS_PUBLICATIONS);
                let told = told.and_then(Value::as_bool);
                self.marks_publications = told.unwrap_or_default();
                self.connected(out);
                Some(ClientEvent::Connected)
            }
            ("_result", &Stage::CreatingStream(transaction)) if answers(transaction) => {
                let id = command.arguments.first().and_then(Value::as_number);
                match id.filter(|id| (0.0..=f64::from(u32::MAX)).contains(id)) {
                    Some(id) => self.request(id as u32, out),
                    None => return Some(self.rejected(&Value::Null, "createStream failed")),
                }
                None
            }
            ("_error", &(Stage::Connecting(transaction) | Stage::CreatingStream(transaction)))
                if answers(transaction) =>
            {
                let info = command.arguments.first().unwrap_or(&command.object);
                Some(self.rejected(info, "the server answered with an error"))
            }
            ("onStatus", _) => self.status(command.arguments.first().unwrap_or(&Value::Null)),
            ("close", _) => Some(self.rejected(&Value::Null, "the server closes the connection")),
            _ => None,
        }
    }

    fn connected(&mut self, out: &mut Vec<u8>) {
        match self.config.purpose {
            Purpose::Publish => {
                self.send_control(&Control::SetChunkSize(self.config.chunk_size), out);
                self.writer.set_chunk_size(self.config.chunk_size);
                self.call("releaseStream", vec![self.stream_name()], out);
                self.call("FCPublish", vec![self.stream_name()], out);
            }
            Purpose::Play => {
                self.send_control(&Control::WindowAckSize(self.config.window_ack_size), out);
            }
        }
        let transaction = self.call("createStream", vec![], out);
        self.stage = Stage::CreatingStream(transaction);
    }

    /// Publishes or plays on the message stream that was created.
    fn request(&mut self, stream_id: u32, out: &mut Vec<u8>) {
        let transaction = f64::from(self.next_transaction());
        let command = match self.config.purpose {
            Purpose::Publish => Command::new(
                "publish",
                transaction,
                vec![self.stream_name(), "live".into()],
            ),
            Purpose::Play => {
                Command::new("play", transaction, vec![self.stream_name(), LIVE.into()])
            }
        };
        self.send(&command.to_message(stream_id), out);
        if self.config.purpose == Purpose::Play {
            let milliseconds = self.config.buffer_length_ms;
            let buffer = UserControl::SetBufferLength {
                stream_id,
                milliseconds,
            };
            self.send_control(&Control::UserControl(buffer), out);
        }
        self.stage = Stage::Requested(stream_id);
    }

    fn status(&mut self, info: &Value) -> Option<ClientEvent> {
        let status = Status::parse(info);
        match (&*status.code, &self.stage) {
            (code::PLAY_START, &Stage::Requested(stream_id))
                if self.config.purpose == Purpose::Play =>
            {
                self.stage = Stage::Playing(stream_id);
                Some(ClientEvent::Playing)
            }
            (code::PUBLISH_START, &Stage::Requested(stream_id))
                if self.config.purpose == Purpose::Publish =>
            {
                self.stage = Stage::Publishing(stream_id);
                Some(ClientEvent::Publishing)
            }
            (code::PLAY_STOP | code::PLAY_COMPLETE, _) => self.ended(),
            _ if status.level == Level::Error || is_refusal(&status.code) => {
                self.stage = Stage::Over;
                Some(ClientEvent::Rejected(status))
            }
            _ => Some(ClientEvent::Status(status)),
        }
    }

    fn media(&mut self, message: Message) -> Option<ClientEvent> {
        if self.config.purpose != Purpose::Play {
            return None;
        }
        if let Some(code) = play_code(&message, &self.limits) {
            return (code == code::PLAY_COMPLETE)
                .then(|| self.ended())
                .flatten();
        }
        if !matches!(self.stage, Stage::Requested(_) | Stage::Playing(_)) {
            return None;
        }
        if message.message_type == MessageType::AGGREGATE {
            let mut parts = aggregate::split(message);
            let first = parts.next();
            self.parts = Some(parts);
            return first.map(ClientEvent::Media);
        }
        Some(ClientEvent::Media(message))
    }

    /// The server says that the stream has ended.
    fn ended(&self) -> Option<ClientEvent> {
        matches!(self.stage, Stage::Requested(_) | Stage::Playing(_)).then_some(ClientEvent::Ended)
    }

    fn rejected(&mut self, info: &Value, otherwise: &str) -> ClientEvent {
        self.stage = Stage::Over;
        let mut status = Status::parse(info);
        status.level = Level::Error;
        if status.code.is_empty() {
            status.code = code::CALL_FAILED.into();
        }
        if status.description.is_empty() {
            status.description = otherwise.to_owned();
        }
        ClientEvent::Rejected(status)
    }

    fn stream_name(&self) -> Value {
        Value::String(self.config.stream.clone())
    }

    fn next_transaction(&mut self) -> u32 {
        self.last_transaction += 1;
        self.last_transaction
    }

    /// Calls a procedure of the connection; returns the transaction.
    fn call(&mut self, name: &str, arguments: Vec<Value>, out: &mut Vec<u8>) -> u32 {
        let transaction = self.next_transaction();
        let command = Command::new(name, f64::from(transaction), arguments);
        self.send(&command.to_message(0), out);
        transaction
    }

    fn send_control(&mut self, control: &Control, out: &mut Vec<u8>) {
        self.send(&control.to_message(), out);
    }

    fn send(&mut self, message: &Message, out: &mut Vec<u8>) {
        let csid = csid::for_message(message.message_type, message.stream_id);
        self.writer.write(message, csid, out);
    }
}

/// `play`'s start: live, or else recorded, in milliseconds as clients send it.
const LIVE: f64 = -2000.0;

/// Codes that end the request whatever level the server gives them.
fn is_refusal(code: &str) -> bool {
    matches!(
        code,
        code::CONNECT_REJECTED
            | code::CONNECT_INVALID_APP
            | code::PUBLISH_BAD_NAME
            | code::PUBLISH_DENIED
            | code::PLAY_FAILED
            | code::PLAY_STREAM_NOT_FOUND
    )
}
