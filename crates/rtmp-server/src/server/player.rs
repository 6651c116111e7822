//! What a player says while a fan-out worker serves it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rtmp_proto::session::{Parameters, ServerEvent, ServerSession};

use super::clients::{Client, StatsSnapshot};
use super::memory::holds_too_much;
use super::peer::PeerKind;
use super::via::Via;
use crate::config::Vhost;
use crate::stream::Subscription;
use crate::stream::fanout::{Dialogue, Request};
use crate::stream::memory::Holding;

/// What a client has said of itself with `connect`, for what it asks later.
#[derive(Debug, Default)]
pub struct ConnectInfo {
    /// The application, as `connect` named it.
    pub(super) app: String,
    /// The page that it sits in.
    pub(super) page_url: String,
    /// Where it has connected to.
    pub(super) tc_url: String,
    /// The application's parameters, which stand in where a stream has none.
    pub(super) parameters: Parameters,
    /// Where it wants to begin, if it is an edge of ours.
    pub(super) gop_cache: Option<bool>,
    /// What it is.
    pub(super) peer: PeerKind,
    /// Which of our servers it has come through.
    pub(super) via: Via,
}

impl ConnectInfo {
    /// What the client says beside a stream's name: with the name, or else with
    /// the application's, as `rtmp://host/live?token=x` and a stream key do.
    pub(super) fn parameters<'a>(&'a self, of_stream: &'a Parameters) -> &'a Parameters {
        if of_stream.is_empty() {
            &self.parameters
        } else {
            of_stream
        }
    }
}

/// A playing connection, without its socket.
#[derive(Debug)]
pub struct PlayerDialogue {
    pub(super) session: ServerSession,
    /// What it holds of messages that are not complete.
    pub(super) held: Holding,
    pub(super) client: Arc<Client>,
    pub(super) vhost: Arc<Vhost>,
    /// What it said beside the stream's name.
    pub(super) parameters: Parameters,
    /// What its `connect` said of it.
    pub(super) connect_info: ConnectInfo,
    pub(super) subscription: Subscription,
    /// Where the connection stood when this play began.
    pub(super) begun: StatsSnapshot,
    /// The message stream that it plays on.
    pub(super) stream_id: u32,
    /// Once it leaves: the request that is not the worker's to answer, if it
    /// was one, and what came after it.
    pub(super) left_with: Option<(Option<Box<ServerEvent>>, Vec<u8>)>,
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
        if let Some((_, unread)) = &mut self.left_with {
            unread.extend_from_slice(input);
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
                // A connection's media while it plays: it was not asked for any.
                ServerEvent::Media(_)
                | ServerEvent::PublishEnded { .. }
                | ServerEvent::BufferLength { .. }
                | ServerEvent::Acknowledged(_)
                | ServerEvent::Pong(_) => {}
                ServerEvent::PlayEnded { .. } => {
                    self.left_with = Some((None, input.to_vec()));
                    requests.push(Request::Leave);
                    return Ok(());
                }
                ServerEvent::Connect(_) | ServerEvent::Publish(_) | ServerEvent::Play(_) => {
                    self.left_with = Some((Some(Box::new(event)), input.to_vec()));
                    requests.push(Request::Leave);
                    return Ok(());
                }
            }
        }
        self.held.set(self.session.unfinished_bytes() as u64);
        if holds_too_much(&self.held) {
            return Err("no memory is left for its unfinished messages".to_owned());
        }
        Ok(())
    }
}
