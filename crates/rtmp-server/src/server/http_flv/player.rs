//! A player of HTTP-FLV or WebSocket-FLV while a fan-out worker serves it, and its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http_flv::websocket::{self, Event, FrameReader};
use rtmp_proto::session::Parameters;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::config::Vhost;
use crate::hand_over::{Blob, HandOverError};
use crate::server::Server;
use crate::server::client::{Activity, Client, StatsSnapshot};
use crate::server::connection::close::{CloseReason, GRACEFUL_CLOSE_TIMEOUT, log_play};
use crate::server::hooks::StreamEvent;
use crate::server::http::close::log_end;
use crate::server::player::ConnectInfo;
use crate::server::socket::close_gracefully;
use crate::stream::Subscription;
use crate::stream::fanout::{Dialogue, Reason, Request};
use crate::transport::{StdTransport, Transport};

/// A playing connection, without its socket.
#[derive(Debug)]
pub(in crate::server) struct FlvPlayer {
    pub(super) client: Arc<Client>,
    pub(super) vhost: Arc<Vhost>,
    /// Parameters of the request.
    pub(super) parameters: Parameters,
    /// What the request says of the client, as `connect` does in RTMP.
    pub(super) connect_info: ConnectInfo,
    pub(super) subscription: Subscription,
    /// Counters of the connection when this play began.
    pub(super) begun: StatsSnapshot,
    /// Reader of its frames; `None` for HTTP-FLV.
    pub(super) websocket: Option<FrameReader>,
    /// True if its close has been answered.
    pub(super) closed: bool,
}

/// An [`FlvPlayer`] for the program that the process becomes.
#[derive(Serialize, Deserialize)]
pub(in crate::server) struct FlvPlayerPart {
    vhost: String,
    parameters: Parameters,
    connect_info: ConnectInfo,
    begun: StatsSnapshot,
    websocket: Option<FrameReader>,
    closed: bool,
}

impl FlvPlayer {
    /// Goes on with a player that this process has had before.
    ///
    /// # Errors
    /// Its vhost is no longer configured.
    pub(in crate::server) fn take_over(
        part: FlvPlayerPart,
        server: &Server,
        client: Arc<Client>,
        subscription: Subscription,
    ) -> Result<Self, HandOverError> {
        let vhost = server.config().vhost(&part.vhost).cloned();
        let missing = || HandOverError::Missing(format!("vhost {}", part.vhost));
        Ok(Self {
            client,
            vhost: vhost.ok_or_else(missing)?,
            parameters: part.parameters,
            connect_info: part.connect_info,
            subscription,
            begun: part.begun,
            websocket: part.websocket,
            closed: part.closed,
        })
    }
}

impl Dialogue for FlvPlayer {
    fn part(&self) -> Result<Blob, HandOverError> {
        Blob::of(&FlvPlayerPart {
            vhost: self.vhost.name.clone(),
            parameters: self.parameters.clone(),
            connect_info: self.connect_info.clone(),
            begun: self.begun,
            websocket: self.websocket.clone(),
            closed: self.closed,
        })
    }

    fn receive(
        &mut self,
        mut input: &[u8],
        replies: &mut Vec<u8>,
        requests: &mut Vec<Request>,
    ) -> Result<(), String> {
        self.client
            .received
            .fetch_add(input.len() as u64, Ordering::Relaxed);
        // What follows an HTTP request is ignored: the answer never ends.
        let Some(reader) = self.websocket.as_mut().filter(|_| !self.closed) else {
            return Ok(());
        };
        while let Some(event) = reader.read(&mut input).map_err(|error| error.to_string())? {
            match event {
                Event::Ping(payload) => websocket::write_pong(&payload, replies),
                Event::Close => {
                    websocket::write_close(websocket::NORMAL_CLOSURE, replies);
                    self.closed = true;
                    requests.push(Request::Leave);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Neither HTTP nor FLV has a word for it.
    fn announce_drain(&mut self, _: &mut Vec<u8>) {}
}

impl FlvPlayer {
    /// Notifies `on_stop` that the client plays no more.
    pub(super) fn notify_stop(&self, server: &Server) {
        // The hooks may have been reconfigured meanwhile.
        let vhost = server.current_vhost(self.vhost.clone());
        let event = StreamEvent {
            action: "on_stop",
            client: &self.client,
            connect_info: &self.connect_info,
            parameters: &self.parameters,
            stream: self.subscription.stream(),
            ends_publication: false,
        };
        server.hooks.notify(&vhost.http_hooks.on_stop, &event);
    }

    /// Ends the connection of a player that has left its worker.
    pub(in crate::server) async fn end(
        self,
        server: Arc<Server>,
        socket: StdTransport,
        unsent: Vec<u8>,
        reason: Reason,
    ) {
        let gone = reason.is_lost();
        let code = match reason {
            Reason::Closed | Reason::Broken(_) | Reason::Stalled => None,
            Reason::Misbehaved(_) => Some(websocket::PROTOCOL_ERROR),
            Reason::Dismissed | Reason::LogLost | Reason::KeyExhausted => {
                Some(websocket::GOING_AWAY)
            }
            Reason::Asked | Reason::StreamEnded | Reason::Complete => {
                Some(websocket::NORMAL_CLOSURE)
            }
        };
        let reason = CloseReason::from(reason);
        let key = self.subscription.stream().key();
        log_play(&self.client, key, &self.begun, Some(&reason));
        self.notify_stop(&server);
        let Self {
            client,
            subscription,
            websocket,
            closed,
            ..
        } = self;
        // The close takes up to a second, in which nobody plays.
        drop(subscription);
        client.set_activity(Activity::Idle);
        let mut out = unsent;
        if let Some(code) = code.filter(|_| websocket.is_some() && !closed) {
            websocket::write_close(code, &mut out);
        }
        if !gone && let Ok(mut socket) = Transport::from_std(socket) {
            let closing = close_gracefully(&mut socket, &out);
            let _ = timeout(GRACEFUL_CLOSE_TIMEOUT, closing).await;
        }
        log_end(&server, &client, &reason);
    }
}
