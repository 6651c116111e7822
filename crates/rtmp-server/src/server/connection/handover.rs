//! A player's way to its fan-out worker, and back.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rtmp_proto::session::{PlayRequest, ServerEvent};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::end::{End, log_end, log_play};
use super::{Connection, Engagement};
use crate::server::Server;
use crate::server::clients::{Activity, StatsSnapshot};
use crate::server::hooks::StreamEvent;
use crate::server::player::PlayerDialogue;
use crate::server::socket::prepare_playing;
use crate::stream::Subscription;
use crate::stream::fanout::{Departed, Dialogue, Joining, Reason, Request};

/// A play that waits for its stream, or is on its way to a worker.
pub(super) struct Play {
    pub(super) request: Box<PlayRequest>,
    pub(super) subscription: Subscription,
    pub(super) options: PlayOptions,
}

/// What a player has asked of its delivery while it waited.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlayOptions {
    paused: bool,
    audio: bool,
    video: bool,
}

impl Default for PlayOptions {
    fn default() -> Self {
        Self {
            paused: false,
            audio: true,
            video: true,
        }
    }
}

impl PlayOptions {
    /// Takes note of `event`.
    pub(super) fn apply(&mut self, event: &ServerEvent) {
        match *event {
            ServerEvent::Pause { paused, .. } => self.paused = paused,
            ServerEvent::ReceiveAudio { receive, .. } => self.audio = receive,
            ServerEvent::ReceiveVideo { receive, .. } => self.video = receive,
            _ => {}
        }
    }

    /// What the worker is asked for.
    fn requests(self) -> Vec<Request> {
        let options = [
            (!self.audio, Request::Audio(false)),
            (!self.video, Request::Video(false)),
            (self.paused, Request::Pause(true)),
        ];
        let options = options.into_iter().filter(|(wished, _)| *wished);
        options.map(|(_, request)| request).collect()
    }
}

impl Connection {
    /// A connection that comes back from its fan-out worker; none if there is
    /// nothing more to say to it.
    pub(in crate::server) fn take_back(
        server: Arc<Server>,
        departed: Departed<PlayerDialogue>,
    ) -> Option<Self> {
        let Departed {
            socket,
            mut dialogue,
            unsent,
            reason,
            ..
        } = departed;
        let client = dialogue.client.clone();
        let key = dialogue.subscription.stream().key().clone();
        // The web server to be told may be another by now.
        dialogue.vhost = server.in_force(dialogue.vhost);
        let mut out = unsent;
        let (verdict, silent) = match reason {
            Reason::Asked => {
                // Where it asked for something else on another message
                // stream: one thing at a time.
                dialogue.session.end_play(dialogue.stream_id, &mut out);
                (None, false)
            }
            Reason::Closed => (Some(End::Closed), true),
            Reason::Broken(kind) => (Some(End::Lost(kind.into())), true),
            Reason::Misbehaved(why) => (Some(End::Misbehaved(why)), false),
            Reason::Stalled => (Some(End::Stalled), true),
            Reason::StreamEnded => {
                dialogue.session.end_play(dialogue.stream_id, &mut out);
                (Some(End::StreamEnded), false)
            }
            Reason::Complete => {
                dialogue.session.end_play(dialogue.stream_id, &mut out);
                (None, false)
            }
            Reason::Dismissed => {
                dialogue.session.end_play(dialogue.stream_id, &mut out);
                (Some(End::Dismissed), false)
            }
        };
        log_play(&client, &key, &dialogue.begun, verdict.as_ref());
        dialogue.tell_stop(&server);
        client.set_activity(Activity::Idle);
        // Commands go to and fro again.
        let socket = socket
            .set_nodelay(true)
            .and_then(|()| TcpStream::from_std(socket));
        let socket = match socket {
            Ok(socket) if !silent => socket,
            _ => {
                log_end(
                    &server,
                    &client,
                    Some(&dialogue.vhost),
                    &dialogue.connect_info,
                    verdict.as_ref().unwrap_or(&End::Closed),
                );
                return None;
            }
        };
        let (unanswered, unread) = match dialogue.left_with {
            Some((request, unread)) => (request, unread),
            None => (None, Vec::new()),
        };
        Some(Self {
            server,
            client,
            socket,
            session: dialogue.session,
            held: dialogue.held,
            vhost: Some(dialogue.vhost),
            connect_info: dialogue.connect_info,
            engagement: Engagement::None,
            input: BytesMut::from(unread.as_slice()),
            out,
            accepted: Instant::now(),
            verdict,
            unanswered,
        })
    }

    /// Hands the connection to a fan-out worker.
    pub(super) fn hand_over(mut self, play: Play) {
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
        // The log's chunks may be of another size than the connection's, when
        // the configuration has changed since one of them began.
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
            left_with: None,
        };
        let mut requests = options.requests();
        let socket = self.socket.into_std();
        let socket = socket.and_then(|socket| prepare_playing(&socket).map(|()| socket));
        let heard = dialogue.receive(&self.input, &mut unsent, &mut requests);
        let socket = match (socket, heard) {
            (Ok(socket), Ok(())) => socket,
            (Err(error), _) => return dialogue.never_played(&self.server, &End::Lost(error)),
            (_, Err(why)) => return dialogue.never_played(&self.server, &End::Misbehaved(why)),
        };
        log::info!("{}: play {}", self.client, stream.key());
        self.client
            .set_activity(Activity::Playing(stream.key().clone()));
        self.server.fanout.join(Joining {
            id: self.client.id,
            socket,
            dialogue,
            stream,
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
    fn never_played(&self, server: &Server, end: &End) {
        self.tell_stop(server);
        let (vhost, connect_info) = (Some(&*self.vhost), &self.connect_info);
        log_end(server, &self.client, vhost, connect_info, end);
    }

    /// Tells `on_stop` that the client plays no more.
    fn tell_stop(&self, server: &Server) {
        let event = StreamEvent {
            action: "on_stop",
            client: &self.client,
            connect_info: &self.connect_info,
            parameters: &self.parameters,
            stream: self.subscription.stream(),
            ends_publication: false,
        };
        server.hooks.tell(&self.vhost.http_hooks.on_stop, &event);
    }
}
