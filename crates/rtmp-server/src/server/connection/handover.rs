//! Handing a player to its fan-out worker, and taking it back.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use super::Connection;
use super::close::{CloseReason, log_close, log_play};
use super::play::Play;
use super::role::ConnectionRole;
use crate::server::Server;
use crate::server::client::{Activity, StatsSnapshot};
use crate::server::hooks::StreamEvent;
use crate::server::player::{Left, PlayerDialogue};
use crate::server::socket::prepare_playing;
use crate::server::upgrade::Participant;
use crate::server::viewer::Viewer;
use crate::stream::PerTrack;
use crate::stream::fanout::{Delivery, Dialogue, Joining, Reason, ReturnedPlayer};
use crate::transport::Transport;

impl Connection {
    /// The connection of a player that has left its fan-out worker; `None` if
    /// nothing more is to be sent to it.
    pub(in crate::server) fn from_worker(
        server: Arc<Server>,
        returned: ReturnedPlayer<PlayerDialogue>,
        participant: Participant,
    ) -> Option<Self> {
        let ReturnedPlayer {
            id,
            socket,
            mut dialogue,
            unsent,
            reason,
        } = returned;
        let client = dialogue.client.clone();
        debug_assert_eq!(id, client.id, "the worker returned another player");
        let key = dialogue.subscription.stream().key().clone();
        // The hooks may have been reconfigured meanwhile.
        dialogue.vhost = server.current_vhost(dialogue.vhost);
        let mut out = unsent;
        if matches!(
            reason,
            Reason::Asked | Reason::StreamEnded | Reason::Complete | Reason::Dismissed
        ) {
            dialogue.session.end_play(dialogue.stream_id, &mut out);
        }
        let gone = reason.is_lost();
        let close_reason = match reason {
            // It may have asked for something else on another message stream: a
            // connection plays or publishes one stream at a time.
            Reason::Asked | Reason::Complete => None,
            reason => Some(CloseReason::from(reason)),
        };
        log_play(&client, &key, &dialogue.begun, close_reason.as_ref());
        dialogue.notify_stop(&server);
        client.set_activity(Activity::Idle);
        // Commands are exchanged again, and must not wait for full packets.
        let nodelay = socket.tcp().set_nodelay(true);
        let socket = nodelay.and_then(|()| Transport::from_std(socket));
        let socket = match socket {
            Ok(socket) if !gone => socket,
            _ => {
                log_close(
                    &server,
                    &client,
                    Some(&dialogue.vhost),
                    &dialogue.connect_info,
                    close_reason.as_ref().unwrap_or(&CloseReason::Closed),
                );
                return None;
            }
        };
        let Left { request, unread } = *dialogue.left.unwrap_or_default();
        Some(Self {
            server,
            participant,
            under_way: None,
            client,
            socket,
            session: dialogue.session,
            held: dialogue.held,
            vhost: Some(dialogue.vhost),
            connect_info: dialogue.connect_info,
            role: ConnectionRole::Idle,
            input: BytesMut::from(unread.as_slice()),
            out,
            accepted: Instant::now(),
            last_input: Instant::now(),
            close_reason,
            pending_request: request,
        })
    }

    /// Hands the connection to a fan-out worker.
    pub(super) fn hand_to_worker(mut self, play: Play) {
        let Play {
            request,
            subscription,
            options,
        } = play;
        let Some(vhost) = self.vhost.take() else {
            return;
        };
        let stream = subscription.stream().clone();
        let gop_cache = self.connect_info.gop_cache;
        let at_once = self.connect_info.peer.is_server();
        let mut unsent = self.out;
        // The log's chunk size may differ from the connection's: the
        // configuration may have changed after one of them began.
        self.session
            .set_chunk_size(stream.chunk_size(), &mut unsent);
        let mut dialogue = PlayerDialogue {
            session: self.session,
            held: self.held,
            client: self.client.clone(),
            vhost: vhost.clone(),
            parameters: request.parameters,
            connect_info: self.connect_info,
            subscription,
            begun: StatsSnapshot::of(&self.client, std::time::Instant::now()),
            stream_id: request.stream_id,
            left: None,
        };
        let mut requests = options.requests();
        let socket = self.socket.into_std();
        // Another server's players share its connection.
        let max_pacing_rate = if at_once { 0 } else { vhost.max_pacing_rate };
        let socket = socket.and_then(|socket| {
            prepare_playing(socket.tcp(), max_pacing_rate, vhost.send_timeout).map(|()| socket)
        });
        let received = dialogue.receive(&self.input, &mut unsent, &mut requests);
        let socket = match (socket, received) {
            (Ok(socket), Ok(())) => socket,
            (Err(error), _) => {
                return dialogue.end_unplayed(&self.server, &CloseReason::Lost(error));
            }
            (_, Err(why)) => {
                return dialogue.end_unplayed(&self.server, &CloseReason::Misbehaved(why));
            }
        };
        log::info!("{}: play {}", self.client, stream.key());
        self.client
            .set_activity(Activity::Playing(stream.key().clone()));
        self.server.fanout.join(Joining {
            id: self.client.id,
            socket,
            dialogue: Viewer::Rtmp(dialogue),
            stream,
            delivery: Delivery::Chunks,
            tracks: PerTrack::BOTH,
            stream_id: request.stream_id,
            unsent,
            requests,
            meter: self.client.meter.clone(),
            gop_cache,
            at_once,
            send_timeout: vhost.send_timeout,
            duration: request
                .duration_ms
                .map(|length| Duration::from_millis(length.into())),
        });
    }
}

impl PlayerDialogue {
    /// Ends a connection whose play was accepted and could not begin.
    fn end_unplayed(&self, server: &Server, reason: &CloseReason) {
        self.notify_stop(server);
        let (vhost, connect_info) = (Some(&*self.vhost), &self.connect_info);
        log_close(server, &self.client, vhost, connect_info, reason);
    }

    /// Notifies `on_stop` that the client plays no more.
    fn notify_stop(&self, server: &Server) {
        let event = StreamEvent {
            action: "on_stop",
            client: &self.client,
            connect_info: &self.connect_info,
            parameters: &self.parameters,
            stream: self.subscription.stream(),
            ends_publication: false,
        };
        server.hooks.notify(&self.vhost.http_hooks.on_stop, &event);
    }
}
