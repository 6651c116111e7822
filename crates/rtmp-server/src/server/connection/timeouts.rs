//! The time limits of a connection, one for each of its states.

use rtmp_proto::session::{Phase, Status};
use tokio::time::Instant;

use super::Connection;
use super::close::CloseReason;
use super::publishing::PublishState;
use super::role::ConnectionRole;
use super::waiting::{PlayWait, Waiting};

impl Connection {
    /// Time at which the connection ends unless something comes, and the
    /// directive that says so. `None` while nothing limits it.
    pub(super) fn deadline(&self, last_input: Instant) -> Option<(Instant, &'static str)> {
        let config = self.server.config();
        Some(match (&self.role, &self.vhost) {
            (ConnectionRole::Waiting(waiting), _) => match &waiting.wait {
                PlayWait::Until(until) => (*until, "play_wait_timeout"),
                PlayWait::ForPublisher => return None,
                PlayWait::ForOrigins(_) => (
                    last_input + config.idle_timeout,
                    "idle_timeout, for the origins",
                ),
            },
            (ConnectionRole::Publishing(publishing), Some(vhost)) => match publishing.state {
                PublishState::AwaitingMedia => (
                    last_input + vhost.publish_1stpkt_timeout,
                    "publish_1stpkt_timeout",
                ),
                PublishState::Receiving | PublishState::Superseded => (
                    last_input + vhost.publish_normal_timeout,
                    "publish_normal_timeout",
                ),
            },
            _ => match self.session.phase() {
                Phase::Handshake => (
                    self.accepted + config.handshake_timeout,
                    "handshake_timeout",
                ),
                Phase::Connecting => (self.accepted + config.connect_timeout, "connect_timeout"),
                Phase::Connected => (last_input + config.idle_timeout, "idle_timeout"),
            },
        })
    }

    /// The deadline of `directive` has passed: tells a player that waits.
    pub(super) fn on_timeout(&mut self, directive: &'static str) -> CloseReason {
        if let ConnectionRole::Waiting(Waiting { play, .. }) = &self.role {
            let key = play.subscription.stream().key();
            let status = Status::stream_not_found(format!("nobody publishes {key}"));
            self.session
                .refuse_play(play.request.stream_id, &status, &mut self.out);
            return CloseReason::Refused(status);
        }
        CloseReason::TimedOut(directive)
    }
}
