//! The client's side of a connection: pulls a stream, or publishes one.

use super::{SessionError, Status};
use crate::wire::amf0::Value;
use crate::wire::{Limits, Message};

/// What a client connects for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// To play the stream.
    Play,
    /// To publish it.
    Publish,
}

/// What a client asks of the server.
#[derive(Clone, PartialEq, Debug)]
pub struct ClientConfig {
    /// To play or to publish.
    pub purpose: Purpose,
    /// `rtmp://host[:port]/app[?parameters]`
    pub tc_url: String,
    /// The application, with its parameters if they are to travel.
    pub app: String,
    /// The stream, with its parameters if they are to travel.
    pub stream: String,
    /// What the client says it is.
    pub flash_ver: String,
    /// More properties for `connect`'s command object.
    pub connect_properties: Vec<(String, Value)>,
    /// Length of our chunks, in bytes.
    pub chunk_size: u32,
    /// The buffer a player says it has, in milliseconds.
    pub buffer_length_ms: u32,
}

impl ClientConfig {
    /// A client for `rtmp://host/app/stream`, with everything else at its
    /// default.
    pub fn new(purpose: Purpose, tc_url: &str, app: &str, stream: &str) -> ClientConfig {
        ClientConfig {
            purpose,
            tc_url: tc_url.to_owned(),
            app: app.to_owned(),
            stream: stream.to_owned(),
            flash_ver: format!("Millrace/{}", env!("CARGO_PKG_VERSION")),
            connect_properties: Vec::new(),
            chunk_size: 60_000,
            buffer_length_ms: 1_000,
        }
    }
}

/// What came out of the server's bytes.
#[derive(Clone, PartialEq, Debug)]
pub enum ClientEvent {
    /// `connect` has been accepted.
    Connected,
    /// The stream plays, or will as soon as there is something to play.
    Playing,
    /// Media may be sent.
    Publishing,
    /// Audio, video or data of the stream played.
    Media(Message),
    /// The server has refused `connect`, the play or the publish, or has ended
    /// one of them for a reason (`level` error). Nothing more is to come.
    Rejected(Status),
    /// Another status (`NetStream.Play.UnpublishNotify`, …).
    Status(Status),
    /// The server says that the stream has ended (stream EOF,
    /// `NetStream.Play.Stop` or `.Complete`).
    Ended,
}

/// The client's side of a connection, for one stream.
#[derive(Debug)]
pub struct ClientSession {}

#[allow(unused_variables)]
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
        unimplemented!()
    }

    /// Takes bytes off the front of `input` up to the next event; `None` when
    /// all of it has been taken. What the dialogue needs next is appended to
    /// `out`.
    ///
    /// # Errors
    /// The connection has to end.
    pub fn read(
        &mut self,
        input: &mut &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<ClientEvent>, SessionError> {
        unimplemented!()
    }

    /// Sends media of the stream that is published; its message stream is
    /// filled in. `false`: nothing may be sent (any more).
    pub fn publish(&mut self, message: &Message, out: &mut Vec<u8>) -> bool {
        unimplemented!()
    }

    /// Takes leave: FCUnpublish, deleteStream.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        unimplemented!()
    }

    /// Bytes received after the handshake.
    pub fn bytes_received(&self) -> u64 {
        unimplemented!()
    }
}
