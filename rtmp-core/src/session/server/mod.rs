//! The server's side of a connection.

mod event;

pub use event::{
    ConnectRequest, ConnectSettings, PlayRequest, PlayStart, PublishKind, PublishRequest,
    ServerEvent,
};

use super::{SessionError, Status};
use crate::wire::{Limits, Message};

/// How far a connection has come.
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
#[derive(Debug)]
pub struct ServerSession {}

#[allow(unused_variables)]
impl ServerSession {
    /// A session of a connection that was just accepted; it begins with the
    /// handshake.
    pub fn new(limits: &Limits) -> ServerSession {
        unimplemented!()
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
        unimplemented!()
    }

    /// Accepts `connect`: from here on, our chunks have `settings`' size.
    pub fn accept_connect(&mut self, settings: &ConnectSettings, out: &mut Vec<u8>) {
        unimplemented!()
    }

    /// Refuses `connect`; the caller sends `out` and closes.
    pub fn refuse_connect(&mut self, status: &Status, out: &mut Vec<u8>) {
        unimplemented!()
    }

    /// Accepts a publish: `NetStream.Publish.Start`. `false`: no publish waits
    /// on this stream.
    pub fn accept_publish(&mut self, stream_id: u32, out: &mut Vec<u8>) -> bool {
        unimplemented!()
    }

    /// Refuses a publish, or ends one that was accepted. `false`: there is
    /// none on this stream.
    pub fn refuse_publish(&mut self, stream_id: u32, status: &Status, out: &mut Vec<u8>) -> bool {
        unimplemented!()
    }

    /// Accepts a play: stream begin, `NetStream.Play.Reset`, `.Start` and
    /// what else players expect before the media. `false`: no play waits on
    /// this stream.
    pub fn accept_play(&mut self, stream_id: u32, out: &mut Vec<u8>) -> bool {
        unimplemented!()
    }

    /// Keeps a play request waiting without an answer, and reads on meanwhile;
    /// it ends with `accept_play` or `refuse_play`, or with
    /// [`ServerEvent::PlayEnded`] if the player loses patience.
    pub fn defer_play(&mut self, stream_id: u32) {
        unimplemented!()
    }

    /// Refuses a play, waiting or accepted (`NetStream.Play.StreamNotFound`
    /// after a wait, say). `false`: there is none on this stream.
    pub fn refuse_play(&mut self, stream_id: u32, status: &Status, out: &mut Vec<u8>) -> bool {
        unimplemented!()
    }

    /// Ends a play in good order (its duration is over, the stream has ended
    /// for good): stream EOF, `NetStream.Play.Stop`, `.Complete`.
    pub fn end_play(&mut self, stream_id: u32, out: &mut Vec<u8>) -> bool {
        unimplemented!()
    }

    /// Sends a status on a stream (`NetStream.Play.UnpublishNotify`, …).
    pub fn send_status(&mut self, stream_id: u32, status: &Status, out: &mut Vec<u8>) {
        unimplemented!()
    }

    /// Sends a message to this client alone.
    pub fn send(&mut self, message: &Message, out: &mut Vec<u8>) {
        unimplemented!()
    }

    /// Asks the client for a sign of life; `timestamp` is any clock's
    /// milliseconds. The answer is [`ServerEvent::Pong`].
    pub fn ping(&mut self, timestamp: u32, out: &mut Vec<u8>) {
        unimplemented!()
    }

    /// How far the connection has come.
    pub fn phase(&self) -> Phase {
        unimplemented!()
    }

    /// Bytes received after the handshake.
    pub fn bytes_received(&self) -> u64 {
        unimplemented!()
    }
}
