//! The time limits of a connection, one for each of its states.

use rtmp_proto::session::{Phase, Status};
use tokio::time::Instant;

use super::Connection;
use super::close::CloseReason;
use super::publishing::PublishState;
use super::role::ConnectionRole;
use super::waiting::PlayWait;
use crate::server::refusal::{RefusalReason, RefusedRequest};

impl Connection {
    /// Time at which the connection ends unless something comes. `None` while
    /// nothing limits it.
    pub(super) fn deadline(&self, last_input: Instant) -> Option<Instant> {
        let ConnectionRole::Waiting(waiting) = &self.role else {
            return Some(self.time_limit(last_input).0);
        };
        match waiting.wait {
            PlayWait::Until(until) => Some(until),
            PlayWait::ForPublisher => None,
            PlayWait::ForOrigins(_) => Some(last_input + self.server.config().idle_timeout),
        }
    }

    /// Deadline of a connection that does not wait for a stream, and the directive
    /// that sets it.
    fn time_limit(&self, last_input: Instant) -> (Instant, &'static str) {
        let config = self.server.config();
        if let (ConnectionRole::Publishing(publishing), Some(vhost)) = (&self.role, &self.vhost) {
            return match publishing.state {
                PublishState::AwaitingMedia => (
                    last_input + vhost.publish_1stpkt_timeout,
                    "publish_1stpkt_timeout",
                ),
                PublishState::Receiving | PublishState::Superseded => (
                    last_input + vhost.publish_normal_timeout,
                    "publish_normal_timeout",
                ),
            };
        }
        match self.session.phase() {
            Phase::Handshake => (
                self.accepted + config.handshake_timeout,
                "handshake_timeout",
            ),
            Phase::Connecting => (self.accepted + config.connect_timeout, "connect_timeout"),
            Phase::Connected => (last_input + config.idle_timeout, "idle_timeout"),
        }
    }

    /// Reason to end the connection when its deadline has passed. A player that
    /// waits is refused.
    pub(super) fn on_timeout(&mut self, last_input: Instant) -> CloseReason {
        self.refuse_waiting()
            .unwrap_or_else(|| CloseReason::TimedOut(self.time_limit(last_input).1))
    }

    /// Refuses the play that waits for its stream, if there is one.
    pub(super) fn refuse_waiting(&mut self) -> Option<CloseReason> {
        let ConnectionRole::Waiting(waiting) = &self.role else {
            return None;
        };
        let status = Status::stream_not_found(waiting.refusal());
        let stream_id = waiting.play.request.stream_id;
        self.session.refuse_play(stream_id, &status, &mut self.out);
        let reason = RefusalReason::NoStream;
        Some(CloseReason::Refused(RefusedRequest { reason, status }))
    }
}
