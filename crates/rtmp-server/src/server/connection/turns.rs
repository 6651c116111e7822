//! The connection's publication goes on air, or waits while another one is.

use super::Connection;
use super::publishing::PublishTarget;
use super::role::ConnectionRole;
use crate::server::turns::Turn;

impl Connection {
    /// Makes known that its publication has gone on air, or waits now.
    pub(super) fn note_turn(&mut self) {
        let ConnectionRole::Publishing(publishing) = &mut self.role else {
            return;
        };
        let PublishTarget::Log { publication, .. } = &mut publishing.target else {
            return;
        };
        let turn = Turn {
            server: &self.server,
            client: &self.client,
            vhost: self.vhost.as_deref(),
            stream: &publishing.stream,
            parameters: self.connect_info.parameters(&publishing.parameters),
            is_on_air: &mut publishing.is_on_air,
        };
        turn.note(publication);
    }
}
