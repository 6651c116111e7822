//! A publisher goes on air, or waits while another one is.

use std::sync::Arc;

use rtmp_proto::session::Parameters;

use super::Server;
use super::client::{Activity, Client};
use super::hooks::SwitchEvent;
use super::programs::published;
use crate::config::Vhost;
use crate::stream::{Publication, Stream};

/// Present use of a client whose publication this is.
pub(super) fn activity(publication: &Publication) -> Activity {
    let key = publication.stream().key().clone();
    match publication.is_on_air() {
        true => Activity::Publishing(key),
        false => Activity::StandingBy(key),
    }
}

/// A client that publishes, and what of it others have been told.
pub(super) struct Turn<'a> {
    pub(super) server: &'a Server,
    pub(super) client: &'a Client,
    pub(super) vhost: Option<&'a Vhost>,
    pub(super) stream: &'a Arc<Stream>,
    /// The parameters that it publishes with.
    pub(super) parameters: &'a Parameters,
    /// True if it is on air, as far as has been made known.
    pub(super) is_on_air: &'a mut bool,
}

impl Turn<'_> {
    /// Makes known that `publication` has gone on air, or waits now.
    pub(super) fn note(self, publication: &mut Publication) {
        let is_on_air = publication.is_on_air();
        if is_on_air != *self.is_on_air {
            *self.is_on_air = is_on_air;
            self.client.set_activity(activity(publication));
        }
        // Another one may have been on air meanwhile, unnoticed.
        let Some(switch) = publication.take_switch() else {
            return;
        };
        self.stream.set_parameters(self.parameters);
        published::switch(self.server, self.stream, self.client, self.parameters);
        self.server.switches.count(switch.reason);
        if let Some(vhost) = self.vhost {
            let event = SwitchEvent {
                switch,
                publisher: Some(self.client),
                parameters: self.parameters,
                stream: self.stream,
            };
            let urls = &vhost.http_hooks.on_switch;
            self.server.hooks.notify(urls, &event);
        }
    }
}
