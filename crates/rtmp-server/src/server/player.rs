//! The session of a player while a fan-out worker serves it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rtmp_proto::session::status::code;
use rtmp_proto::session::{Parameters, ServerEvent, ServerSession, Status};
use serde::{Deserialize, Serialize};

use super::Server;
use super::client::{Client, StatsSnapshot};
use super::connection::close::CloseReason;
use super::loop_guard::LoopGuard;
use super::memory::exceeds_memory_share;
use super::peer::PeerKind;
use crate::config::Vhost;
use crate::hand_over::{Blob, HandOverError};
use crate::stream::Subscription;
use crate::stream::fanout::{Dialogue, Request};
use crate::stream::memory::Holding;

/// A client's description of itself in `connect`, for its later requests.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct ConnectInfo {
    /// The application, as `connect` named it.
    pub(super) app: String,
    /// The page that embeds the player.
    pub(super) page_url: Arc<str>,
    /// The URL that it has connected to.
    pub(super) tc_url: Arc<str>,
    /// The application's parameters, for streams without their own.
    pub(super) parameters: Parameters,
    /// The property `gopCache`: true to begin at the newest keyframe, false at the
    /// next. Our edges send it.
    pub(super) gop_cache: Option<bool>,
    /// The kind of program.
    pub(super) peer: PeerKind,
    /// The servers of ours that it has come through.
    pub(super) loop_guard: LoopGuard,
    /// It connects again when it is asked to, and has not been asked.
    pub(super) reconnects: bool,
}

impl ConnectInfo {
    /// The parameters of a stream: those behind its name, else the application's, as
    /// with `rtmp://host/live?token=x` and a stream key.
    pub(super) fn parameters<'a>(&'a self, of_stream: &'a Parameters) -> &'a Parameters {
        if of_stream.is_empty() {
            &self.parameters
        } else {
            of_stream
        }
    }

    /// Asks a client that can to connect again, once (Enhanced RTMP v2, *Reconnect
    /// Request*): to the same URL, since a balancer or another address of its name leads
    /// elsewhere.
    pub(super) fn request_reconnect(&mut self, session: &mut ServerSession, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.reconnects) {
            let description = "The server is about to stop: connect again.";
            let status = Status::notice(code::CONNECT_RECONNECT_REQUEST, description);
            session.send_status(0, &status, out);
        }
    }
}

/// A playing connection, without its socket.
#[derive(Debug)]
pub(super) struct PlayerDialogue {
    pub(super) session: ServerSession,
    /// Memory that its incomplete messages take.
    pub(super) held: Holding,
    pub(super) client: Arc<Client>,
    pub(super) vhost: Arc<Vhost>,
    /// Parameters behind the stream's name.
    pub(super) parameters: Parameters,
    /// Its description of itself in `connect`.
    pub(super) connect_info: ConnectInfo,
    pub(super) subscription: Subscription,
    /// Counters of the connection when this play began.
    pub(super) begun: StatsSnapshot,
    /// The message stream that it plays on.
    pub(super) stream_id: u32,
    /// Set once it leaves the worker by its own request. Boxed: most stay.
    pub(super) left: Option<Box<Left>>,
}

/// Rest of the input of a player that has left its worker.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// The request that the worker cannot answer, unless it was the end of the play.
    pub(super) request: Option<Box<ServerEvent>>,
    /// The input behind it.
    pub(super) unread: Vec<u8>,
}

/// A [`PlayerDialogue`], written (`&ServerSession`) or read.
#[derive(Serialize, Deserialize)]
pub(super) struct DialoguePart<S> {
    session: S,
    vhost: String,
    parameters: Parameters,
    connect_info: ConnectInfo,
    begun: StatsSnapshot,
}

impl PlayerDialogue {
    /// Goes on with a dialogue that this process has had before, of `client`, which plays what
    /// is subscribed to on the message stream `stream_id`.
    pub(super) fn take_over(
        part: DialoguePart<ServerSession>,
        server: &Server,
        client: Arc<Client>,
        subscription: Subscription,
        stream_id: u32,
    ) -> Result<Self, HandOverError> {
        let vhost = server.config().vhost(&part.vhost).cloned();
        let missing = || HandOverError::Missing(format!("vhost {}", part.vhost));
        let dialogue = Self {
            session: part.session,
            held: Holding::new(server.messages.clone()),
            client,
            vhost: vhost.ok_or_else(missing)?,
            parameters: part.parameters,
            connect_info: part.connect_info,
            subscription,
            begun: part.begun,
            stream_id,
            left: None,
        };
        dialogue
            .held
            .set(dialogue.session.unfinished_bytes() as u64);
        Ok(dialogue)
    }

    /// It leaves the worker, by a request unless it has only ended its play; `unread` is behind.
    fn leave(
        &mut self,
        request: Option<Box<ServerEvent>>,
        unread: &[u8],
        requests: &mut Vec<Request>,
    ) {
        self.left = Some(Box::new(Left {
            request,
            unread: unread.to_vec(),
        }));
        requests.push(Request::Leave);
    }
}

impl Dialogue for PlayerDialogue {
    fn receive(
        &mut self,
        mut input: &[u8],
        replies: &mut Vec<u8>,
        requests: &mut Vec<Request>,
    ) -> Result<(), String> {
        self.client
            .received
            .fetch_add(input.len() as u64, Ordering::Relaxed);
        if let Some(left) = &mut self.left {
            left.unread.extend_from_slice(input);
            return Ok(());
        }
        while let Some(event) = self
            .session
            .read(&mut input, replies)
            .map_err(|error| error.to_string())?
        {
            match event {
                ServerEvent::Pause { paused, .. } => requests.push(Request::Pause(paused)),
                ServerEvent::ReceiveAudio { receive, .. } => requests.push(Request::Audio(receive)),
                ServerEvent::ReceiveVideo { receive, .. } => requests.push(Request::Video(receive)),
                ServerEvent::Refused(status) => self.client.log_refusal(&status),
                // Media of a connection that plays is ignored.
                ServerEvent::Media(_)
                | ServerEvent::PublishEnded { .. }
                | ServerEvent::BufferLength { .. }
                | ServerEvent::Acknowledged(_)
                | ServerEvent::Pong(_) => {}
                ServerEvent::PlayEnded { .. } => {
                    self.leave(None, input, requests);
                    return Ok(());
                }
                ServerEvent::Connect(_) | ServerEvent::Publish(_) | ServerEvent::Play(_) => {
                    self.leave(Some(Box::new(event)), input, requests);
                    return Ok(());
                }
            }
        }
        self.held.set(self.session.unfinished_bytes() as u64);
        if exceeds_memory_share(&self.held) {
            return Err(CloseReason::NoMemory.to_string());
        }
        Ok(())
    }

    fn part(&self) -> Result<Blob, HandOverError> {
        Blob::of(&DialoguePart {
            session: &self.session,
            vhost: self.vhost.name.clone(),
            parameters: self.parameters.clone(),
            connect_info: self.connect_info.clone(),
            begun: self.begun,
        })
    }

    fn announce_drain(&mut self, out: &mut Vec<u8>) {
        self.connect_info.request_reconnect(&mut self.session, out);
    }
}
