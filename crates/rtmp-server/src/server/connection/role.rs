//! The state of a connection between its requests.

use std::future::pending;
use std::sync::Arc;

use rtmp_proto::session::status::code;
use rtmp_proto::session::{Parameters, Status};
use tokio::time::{Instant, timeout};

use super::Connection;
use super::close::{CloseReason, DISMISSED, GRACEFUL_CLOSE_TIMEOUT, log_publish};
use super::play::Play;
use super::publishing::{PublishState, PublishTarget, Publishing, StreamChange};
use super::waiting::{PlayWait, WaitUpdate, Waiting};
use crate::config::Vhost;
use crate::server::client::Activity;
use crate::server::hooks::StreamEvent;
use crate::server::peer::PeerKind;
use crate::server::slate;
use crate::server::upstream::OriginError;
use crate::stream::Stream;

/// State of a connection.
///
/// ```text
///           publish accepted                 end of the publish
///   Idle ──────────────────────▶ Publishing ────────────────────▶ Idle
///     │
///     │ play, stream not live              stream live
///     ├──────────────────────▶ Waiting ──────────────────┐
///     │                          │ end of the play       ▼
///     │                          └────────▶ Idle      Playing ──▶ fan-out worker
///     │ play, stream live                                ▲            │
///     └──────────────────────────────────────────────────┘            │
///   Idle ◀──────────────── the worker gives the connection back ──────┘
/// ```
///
/// A connection that ends leaves each of them by [`Connection::end_role`].
#[derive(Default)]
pub(super) enum ConnectionRole {
    /// It neither publishes nor plays.
    #[default]
    Idle,
    Publishing(Publishing),
    /// The stream that it is to play has nothing to play yet.
    Waiting(Waiting),
    /// The play has been accepted: on to a fan-out worker.
    Playing(Play),
}

impl ConnectionRole {
    /// Waits for an event of the stream, or of the origin that it is forwarded
    /// to. It may be dropped unfinished.
    pub(super) async fn next_event(&mut self) -> StreamChange {
        match self {
            Self::Publishing(publishing) => publishing.next_event().await,
            Self::Waiting(waiting) => {
                // An error cannot be: the sender lives as long as the stream,
                // which the play holds.
                let _ = waiting.stream_state.changed().await;
                StreamChange::State
            }
            Self::Idle | Self::Playing(_) => pending().await,
        }
    }
}

impl Connection {
    /// Accepts the play if its stream is live, or makes the player wait for it.
    pub(super) fn play_or_wait(&mut self, play: Play, vhost: &Vhost) {
        let stream = play.subscription.stream();
        let stream_state = stream.state();
        if stream_state.borrow().live {
            self.accept_play(play);
            return;
        }
        self.client
            .set_activity(Activity::Waiting(stream.key().clone()));
        self.session.defer_play(play.request.stream_id);
        let waiting = Waiting::new(play, stream_state, vhost, Instant::now());
        if waiting.wait == PlayWait::ForPublisher {
            self.announce_publisher(waiting.play.request.stream_id, true);
        }
        self.role = ConnectionRole::Waiting(waiting);
    }

    fn accept_play(&mut self, play: Play) {
        self.session
            .accept_play(play.request.stream_id, &mut self.out);
        self.role = ConnectionRole::Playing(play);
    }

    /// Reacts to a new state of the stream that is published or waited for.
    pub(super) fn on_stream_state_changed(&mut self) -> Result<(), CloseReason> {
        let waiting = match &mut self.role {
            ConnectionRole::Publishing(publishing) => {
                publishing.follow_stream()?;
                self.note_turn();
                return Ok(());
            }
            ConnectionRole::Waiting(waiting) => waiting,
            ConnectionRole::Idle | ConnectionRole::Playing(_) => return Ok(()),
        };
        match waiting.update(self.vhost.as_deref(), Instant::now()) {
            WaitUpdate::Play => {
                if let ConnectionRole::Waiting(waiting) = std::mem::take(&mut self.role) {
                    self.accept_play(waiting.play);
                }
            }
            WaitUpdate::Refuse => return self.refuse_waiting().map_or(Ok(()), Err),
            WaitUpdate::Wait => {}
            WaitUpdate::Publisher(has_publisher) => {
                let stream_id = waiting.play.request.stream_id;
                self.announce_publisher(stream_id, has_publisher);
            }
        }
        Ok(())
    }

    /// Tells a server of ours that waits for the stream if it has a publisher, so
    /// that its own players wait on. To other clients the status would mean that
    /// the stream begins or ends.
    fn announce_publisher(&mut self, stream_id: u32, has_publisher: bool) {
        if self.connect_info.peer != PeerKind::OurServer {
            return;
        }
        let status = if has_publisher {
            Status::notice(code::PLAY_PUBLISH_NOTIFY, "The stream has a publisher.")
        } else {
            Status::notice(code::PLAY_UNPUBLISH_NOTIFY, "The publisher has gone.")
        };
        self.session.send_status(stream_id, &status, &mut self.out);
    }

    /// The origin no longer takes the stream: tells its publisher.
    pub(super) fn on_origin_lost(&mut self, error: OriginError) -> CloseReason {
        if let ConnectionRole::Publishing(publishing) = &mut self.role {
            let status = publishing.on_origin_lost(&error);
            self.session
                .refuse_publish(publishing.stream_id, &status, &mut self.out);
        }
        CloseReason::Forwarding(error)
    }

    /// Sends the status of `reason` to a peer that publishes, or waits to play.
    pub(super) fn notify_peer(&mut self, reason: &CloseReason) {
        match &self.role {
            ConnectionRole::Publishing(publishing) => {
                if let Some(status) = reason.publisher_status() {
                    self.session
                        .refuse_publish(publishing.stream_id, &status, &mut self.out);
                }
            }
            ConnectionRole::Waiting(waiting) if matches!(reason, CloseReason::Dismissed) => {
                let status = Status::play_failed(DISMISSED);
                let stream_id = waiting.play.request.stream_id;
                self.session.refuse_play(stream_id, &status, &mut self.out);
            }
            ConnectionRole::Idle | ConnectionRole::Waiting(_) | ConnectionRole::Playing(_) => {}
        }
    }

    /// Ends the publish or play of the connection, and notifies the hooks.
    pub(super) fn end_role(&mut self) {
        match std::mem::take(&mut self.role) {
            ConnectionRole::Publishing(publishing) => self.end_publish(publishing),
            ConnectionRole::Waiting(Waiting { play, .. }) | ConnectionRole::Playing(play) => {
                self.notify_stop(&play);
            }
            ConnectionRole::Idle => {}
        }
        self.client.set_activity(Activity::Idle);
    }

    fn end_publish(&self, publishing: Publishing) {
        let Publishing {
            stream,
            parameters,
            target,
            begun,
            state,
            ..
        } = publishing;
        log_publish(&self.server, &self.client, stream.key(), &begun);
        let ends_publication = match target {
            PublishTarget::Log { publication, .. } => {
                // Before the hook is queued, which is left out if the stream is
                // published when its turn comes.
                drop(publication);
                slate::arm(&self.server, &stream);
                true
            }
            PublishTarget::Origin(origin) => {
                tokio::spawn(timeout(GRACEFUL_CLOSE_TIMEOUT, origin.close()));
                false
            }
        };
        if state == PublishState::Superseded {
            return;
        }
        if let Some(vhost) = &self.vhost {
            let event = StreamEvent {
                action: "on_unpublish",
                ends_publication,
                ..self.stream_event(&stream, &parameters)
            };
            let urls = &vhost.http_hooks.on_unpublish;
            self.server.hooks.notify(urls, &event);
        }
    }

    /// Notifies `on_stop` for a client that `on_play` has let in, even if it
    /// never got to play.
    fn notify_stop(&self, play: &Play) {
        let Some(vhost) = &self.vhost else { return };
        let event = StreamEvent {
            action: "on_stop",
            ..self.stream_event(play.subscription.stream(), &play.request.parameters)
        };
        self.server.hooks.notify(&vhost.http_hooks.on_stop, &event);
    }

    /// The hook event of the client and `stream`, which it has asked for with
    /// `parameters`; its action is for the caller to fill in.
    pub(super) fn stream_event<'a>(
        &'a self,
        stream: &'a Arc<Stream>,
        parameters: &'a Parameters,
    ) -> StreamEvent<'a> {
        StreamEvent {
            action: "",
            client: &self.client,
            connect_info: &self.connect_info,
            parameters,
            stream,
            ends_publication: false,
        }
    }
}
