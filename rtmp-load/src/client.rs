//! One RTMP connection from the client's side: handshake, *connect*,
//! *createStream*, *play* or *publish*, then media. No I/O.

use std::sync::Arc;

use rtmp_proto::wire::{
    Message, MessageType,
    amf0::Value,
    chunk::{csid, encode_message},
    handshake::{Handshake, HandshakeError},
    message::{Command, Control, UserControl},
};

use crate::{
    address::StreamAddress,
    chunks::{self, ChunkError, ChunkWalker},
    media::message_type,
};

/// The size of the chunks that we send.
pub(crate) const CHUNK_BYTES: u32 = 60_000;
/// The player's buffer that is named to the server, as ffmpeg does.
const BUFFER_MS: u32 = 3_000;
const AMF_NESTING: u32 = 16;

const CONNECT: f64 = 1.0;
const RELEASE_STREAM: f64 = 2.0;
const FC_PUBLISH: f64 = 3.0;
const CREATE_STREAM: f64 = 4.0;
const PLAY_OR_PUBLISH: f64 = 5.0;

/// The role of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// To receive a stream.
    Player,
    /// To send one.
    Publisher,
}

/// An event of the server's side.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// The server agreed to *play* or *publish*.
    Agreed,
    /// Audio, video or data of the stream.
    Media(chunks::Message<'a>),
}

/// The reason for which a connection is at its end.
#[derive(Debug, thiserror::Error, PartialEq)]
pub(crate) enum ClientError {
    /// No RTMP at all.
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
    /// No chunk stream.
    #[error("{0}")]
    Chunk(#[from] ChunkError),
    /// The server said no.
    #[error("refused: {code}{}", if description.is_empty() { String::new() } else { format!(" ({description})") })]
    Refused {
        /// `NetStream.…` or `NetConnection.…`.
        code: String,
        /// The server's words.
        description: String,
    },
    /// An answer that makes no sense.
    #[error("the server answered createStream without a stream id")]
    NoStreamId,
}

/// See the module's description.
pub(crate) struct Client {
    /// Until the handshake is over.
    handshake: Option<Handshake>,
    walker: ChunkWalker,
    dialogue: Dialogue,
    received: u64,
    acknowledged: u64,
}

/// The part of a client that answers messages.
struct Dialogue {
    role: Role,
    address: Arc<StreamAddress>,
    stream_id: u32,
    agreed: bool,
    /// Bytes after which the server wants an acknowledgement; 0: never.
    window: u64,
}

impl Client {
    /// Begins on a fresh connection by appending the first packets to `out`.
    ///
    /// # Errors
    /// If no handshake can be made.
    pub(crate) fn new(
        role: Role,
        address: Arc<StreamAddress>,
        checksums: bool,
        out: &mut Vec<u8>,
    ) -> Result<Self, ClientError> {
        Ok(Self {
            handshake: Some(Handshake::client(out)?),
            walker: ChunkWalker::new(checksums),
            dialogue: Dialogue {
                role,
                address,
                stream_id: 0,
                agreed: false,
                window: 0,
            },
            received: 0,
            acknowledged: 0,
        })
    }

    /// Takes bytes as they came; appends answers to `out`.
    ///
    /// # Errors
    /// The connection is of no more use: the server refused or talks nonsense.
    pub(crate) fn receive(
        &mut self,
        mut bytes: &[u8],
        out: &mut Vec<u8>,
        mut sink: impl FnMut(Event<'_>),
    ) -> Result<(), ClientError> {
        self.count(bytes.len(), out);
        if let Some(handshake) = &mut self.handshake {
            if !handshake.read(&mut bytes, out)? {
                return Ok(());
            }
            self.handshake = None;
            self.dialogue.connect(out);
        }
        let dialogue = &mut self.dialogue;
        self.walker
            .walk(bytes, |message| dialogue.message(message, out, &mut sink))
    }

    /// Takes note of bytes that were received and thrown away unread.
    pub(crate) fn discard(&mut self, bytes: usize, out: &mut Vec<u8>) {
        self.count(bytes, out);
    }

    /// Appends a message of the stream that is being published.
    pub(crate) fn send(&self, type_id: u8, timestamp: u32, payload: Vec<u8>, out: &mut Vec<u8>) {
        let message_type = MessageType(type_id);
        let stream_id = self.dialogue.stream_id;
        let message = Message {
            timestamp,
            message_type,
            stream_id,
            payload: payload.into(),
        };
        encode_message(
            &message,
            CHUNK_BYTES,
            csid::for_message(message_type, stream_id),
            out,
        );
    }

    /// Acknowledges in time: half a window, as ffmpeg does.
    fn count(&mut self, bytes: usize, out: &mut Vec<u8>) {
        self.received += bytes as u64;
        let window = self.dialogue.window;
        if window > 0 && self.received - self.acknowledged >= window.div_ceil(2) {
            self.acknowledged = self.received;
            put(
                Control::Acknowledgement(self.received as u32).to_message(),
                out,
            );
        }
    }
}

impl Dialogue {
    fn message(
        &mut self,
        message: chunks::Message<'_>,
        out: &mut Vec<u8>,
        sink: &mut impl FnMut(Event<'_>),
    ) -> Result<(), ClientError> {
        if matches!(
            message.type_id,
            message_type::AUDIO | message_type::VIDEO | message_type::DATA_AMF0
        ) {
            sink(Event::Media(message));
            return Ok(());
        }
        let whole = Message {
            timestamp: message.timestamp,
            message_type: MessageType(message.type_id),
            stream_id: message.stream_id,
            payload: message.head.to_vec().into(),
        };
        if whole.message_type.is_command() {
            // A command without a name asks for nothing.
            return match Command::parse(&whole, AMF_NESTING) {
                Ok(command) => self.command(&command, out, sink),
                Err(_) => Ok(()),
            };
        }
        match Control::parse(&whole) {
            Some(Control::WindowAckSize(bytes)) => self.window = bytes.into(),
            Some(Control::UserControl(UserControl::PingRequest(timestamp))) => {
                let answer = UserControl::PingResponse(timestamp);
                put(Control::UserControl(answer).to_message(), out);
            }
            _ => {}
        }
        Ok(())
    }

    fn command(
        &mut self,
        command: &Command,
        out: &mut Vec<u8>,
        sink: &mut impl FnMut(Event<'_>),
    ) -> Result<(), ClientError> {
        let information = command.arguments.first().unwrap_or(&Value::Null);
        let text = |name| {
            information
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        match command.name.as_str() {
            "_result" if command.transaction_id == CONNECT => self.create_stream(out),
            "_result" if command.transaction_id == CREATE_STREAM => {
                let id = information.as_number().ok_or(ClientError::NoStreamId)?;
                self.stream_id = id as u32;
                self.play_or_publish(out);
            }
            // These two may fail with impunity; of the others, some servers
            // answer under the wrong transaction.
            "_error" if ![RELEASE_STREAM, FC_PUBLISH].contains(&command.transaction_id) => {
                return Err(refusal(text("code"), text("description")));
            }
            "onStatus" => match text("code") {
                code if text("level") == "error" => {
                    return Err(refusal(code, text("description")));
                }
                "NetStream.Play.Start" | "NetStream.Publish.Start" if !self.agreed => {
                    self.agreed = true;
                    sink(Event::Agreed);
                }
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }

    fn connect(&self, out: &mut Vec<u8>) {
        let text = |name: &str, value: &str| (name.to_owned(), Value::from(value));
        let mut object = vec![text("app", &self.address.app)];
        match self.role {
            Role::Publisher => {
                object.push(text("type", "nonprivate"));
                object.push(text("flashVer", "FMLE/3.0 (compatible; rtmp-load)"));
                object.push(text("tcUrl", &self.address.tc_url()));
            }
            Role::Player => {
                object.push(text("flashVer", "LNX 9,0,124,2"));
                object.push(text("tcUrl", &self.address.tc_url()));
                object.push(("fpad".to_owned(), Value::Boolean(false)));
                for (name, value) in [("capabilities", 15.0), ("audioCodecs", 4071.0)] {
                    object.push((name.to_owned(), Value::Number(value)));
                }
                for (name, value) in [("videoCodecs", 252.0), ("videoFunction", 1.0)] {
                    object.push((name.to_owned(), Value::Number(value)));
                }
            }
        }
        put(Control::SetChunkSize(CHUNK_BYTES).to_message(), out);
        let mut connect = Command::new("connect", CONNECT, Vec::new());
        connect.object = Value::Object(object);
        put(connect.to_message(0), out);
    }

    fn create_stream(&self, out: &mut Vec<u8>) {
        let name = || vec![Value::from(self.address.stream.as_str())];
        if self.role == Role::Publisher {
            put(
                Command::new("releaseStream", RELEASE_STREAM, name()).to_message(0),
                out,
            );
            put(
                Command::new("FCPublish", FC_PUBLISH, name()).to_message(0),
                out,
            );
        }
        put(
            Command::new("createStream", CREATE_STREAM, Vec::new()).to_message(0),
            out,
        );
    }

    fn play_or_publish(&self, out: &mut Vec<u8>) {
        let name = Value::from(self.address.stream.as_str());
        match self.role {
            Role::Player => {
                // Start −2000: live if there is a live stream of that name.
                let play =
                    Command::new("play", PLAY_OR_PUBLISH, vec![name, Value::Number(-2000.0)]);
                put(play.to_message(self.stream_id), out);
                let buffer = UserControl::SetBufferLength {
                    stream_id: self.stream_id,
                    milliseconds: BUFFER_MS,
                };
                put(Control::UserControl(buffer).to_message(), out);
            }
            Role::Publisher => {
                let arguments = vec![name, Value::from("live")];
                let publish = Command::new("publish", PLAY_OR_PUBLISH, arguments);
                put(publish.to_message(self.stream_id), out);
            }
        }
    }
}

fn refusal(code: &str, description: &str) -> ClientError {
    let code = if code.is_empty() {
        "without a code"
    } else {
        code
    };
    ClientError::Refused {
        code: code.to_owned(),
        description: description.to_owned(),
    }
}

/// Appends a message of the dialogue. The first is Set Chunk Size, which fits
/// a chunk of any size; all others are cut as it says.
fn put(message: Message, out: &mut Vec<u8>) {
    let csid = csid::for_message(message.message_type, message.stream_id);
    encode_message(&message, CHUNK_BYTES, csid, out);
}
