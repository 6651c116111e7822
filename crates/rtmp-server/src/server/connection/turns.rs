//! A publisher goes on air, or waits while another one is.

use super::Connection;
use super::publishing::PublishTarget;
use super::role::ConnectionRole;
use crate::server::client::Activity;
use crate::server::hooks::SwitchEvent;
use crate::stream::{Publication, Stream};

/// Present use of the connection of `publication`.
pub(super) fn activity(stream: &Stream, publication: &Publication) -> Activity {
    let key = stream.key().clone();
    match publication.is_on_air() {
        true => Activity::Publishing(key),
        false => Activity::StandingBy(key),
    }
}

impl Connection {
    /// Makes known that its publication has gone on air, or waits now.
    pub(super) fn note_turn(&mut self) {
        let ConnectionRole::Publishing(publishing) = &mut self.role else {
            return;
        };
        let PublishTarget::Log { publication, .. } = &mut publishing.target else {
            return;
        };
        let is_on_air = publication.is_on_air();
        if is_on_air != publishing.is_on_air {
            publishing.is_on_air = is_on_air;
            self.client
                .set_activity(activity(&publishing.stream, publication));
        }
        // Another one may have been on air meanwhile, unnoticed.
        let Some(switch) = publication.take_switch() else {
            return;
        };
        let parameters = self.connect_info.parameters(&publishing.parameters);
        publishing.stream.set_parameters(parameters);
        self.server.switches.count(switch.reason);
        if let Some(vhost) = &self.vhost {
            let event = SwitchEvent {
                switch,
                publisher: Some(&self.client),
                parameters,
                stream: &publishing.stream,
            };
            let urls = &vhost.http_hooks.on_switch;
            self.server.hooks.notify(urls, &event);
        }
    }
}
