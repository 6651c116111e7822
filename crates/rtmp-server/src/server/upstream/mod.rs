//! An edge's connections to its origins: one pull per stream for as long as
//! somebody plays it, one forward per publish.

pub(super) mod forward;
mod origin_connection;
mod origin_pull;
pub(super) mod permission;
mod pull;
mod redirect;
pub(super) mod threads;

use std::future::pending;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use rtmp_proto::session::Parameters;
use service_kit::sleep_until;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::{EventKind, Server};
use crate::config::{Config, Origin, Upstream};
use crate::stream::Stream;
pub(super) use origin_connection::{OriginConnection, OriginError};
use origin_pull::{OriginPull, PullEvent};
use pull::{Action, AllOriginsFailed, Input, Pull};

/// Makes sure that `stream` is being pulled. `parameters` are those of a player
/// that has just come; the next connection to an origin carries them.
pub(super) fn ensure_pull(
    server: &Arc<Server>,
    stream: &Arc<Stream>,
    settings: &Upstream,
    parameters: &Parameters,
) {
    stream.set_parameters(parameters);
    if stream.claim_pull() {
        let task = PullTask {
            server: server.clone(),
            stream: stream.clone(),
            settings: settings.clone(),
        };
        server.pull_runtime.spawn(task.run());
    }
}

/// The task that pulls one stream.
struct PullTask {
    server: Arc<Server>,
    stream: Arc<Stream>,
    settings: Upstream,
}

/// Reason why a pull has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PullEnd {
    /// Nobody plays the stream any more.
    NoAudience,
    /// The configuration names other origins, or another way to ask.
    Reconfigured,
}

/// The task of a connection to an origin; dropped, the connection ends.
struct OriginTask {
    _task: AbortOnDropHandle<()>,
    events: mpsc::Receiver<PullEvent>,
}

impl OriginTask {
    fn start(origin: OriginPull) -> Self {
        let (sender, events) = mpsc::channel(4);
        Self {
            _task: AbortOnDropHandle::new(tokio::spawn(origin.run(sender))),
            events,
        }
    }

    /// Waits for the next event of the connection, if there is one.
    async fn next_event(task: &mut Option<Self>) -> Input {
        let Some(task) = task else {
            return pending().await;
        };
        match task.events.recv().await {
            Some(PullEvent::Connected) => Input::Connected,
            Some(PullEvent::PublisherAnnounced(has_publisher)) => {
                Input::PublisherAnnounced(has_publisher)
            }
            Some(PullEvent::Flowing) => Input::Flowing,
            Some(PullEvent::Lost) | None => Input::Lost,
        }
    }
}

impl PullTask {
    async fn run(mut self) {
        loop {
            while self.pull().await == PullEnd::Reconfigured {}
            self.server.pulls.remove(self.stream.id());
            self.stream.release_pull();
            // A player may have come between the decision to end and here, and
            // have found the stream still pulled.
            let wanted = *self.stream.subscriptions().borrow() > 0;
            if !wanted || !self.stream.claim_pull() {
                return;
            }
        }
    }

    /// Pulls until nobody plays the stream, or until it is to be pulled from
    /// elsewhere.
    async fn pull(&mut self) -> PullEnd {
        let mut config = self.server.config.subscribe();
        self.take_settings(&config.borrow_and_update().clone());
        let seed = RandomState::new().hash_one(self.stream.id());
        let (origins, linger) = (self.settings.origins.len(), self.settings.linger);
        let vhost = &self.stream.key().vhost;
        let first = self.server.first_origin(vhost, &self.settings);
        let mut pull = Pull::new(origins, first, linger, seed);
        let mut audience = self.stream.subscriptions();
        let mut connection: Option<OriginTask> = None;
        let mut input = Input::Audience(*audience.borrow_and_update());
        loop {
            match pull.handle(Instant::now().into_std(), input) {
                Some(Action::Connect(number)) => {
                    connection = Some(OriginTask::start(self.origin(number)));
                }
                Some(Action::Finish) => {
                    let key = self.stream.key();
                    log::info!("{key}: no longer pulled, nobody plays it");
                    let events = self.server.events();
                    events.record(EventKind::PullEnded, Some(key), None, "nobody plays it");
                    return PullEnd::NoAudience;
                }
                None if !pull.is_connected() => connection = None,
                None => {}
            }
            let origin = &self.settings.origins[pull.origin()];
            let pulls = &self.server.pulls;
            pulls.set(self.stream.id(), &origin.to_string(), pull.state_name());
            if let Some(AllOriginsFailed { answered }) = pull.take_all_failed() {
                self.stream
                    .all_origins_failed(answered, std::time::Instant::now());
            }
            let deadline = pull.deadline();
            input = tokio::select! {
                biased;
                // That media flows counts before that its player, who has had
                // it, has gone: the connection lingers then.
                input = OriginTask::next_event(&mut connection) => input,
                _ = config.changed() => {
                    let config = config.borrow_and_update().clone();
                    if self.take_settings(&config) {
                        let key = self.stream.key();
                        log::info!("{key}: now pulled from {}", join(&self.settings.origins));
                        return PullEnd::Reconfigured;
                    }
                    Input::Audience(*audience.borrow_and_update())
                }
                // An error cannot be: the sender is the stream's, which we hold.
                _ = audience.changed() => Input::Audience(*audience.borrow_and_update()),
                () = sleep_until(deadline) => Input::Time,
            };
        }
    }

    /// Takes the upstream's settings from the configuration. Returns true if the
    /// stream has to be asked for anew.
    fn take_settings(&mut self, config: &Config) -> bool {
        let vhost = config.vhost(&self.stream.key().vhost);
        let Some(settings) = vhost.and_then(|vhost| vhost.upstream.clone()) else {
            return false;
        };
        let changed = settings.origins != self.settings.origins
            || settings.ca != self.settings.ca
            || settings.vhost != self.settings.vhost
            || settings.token_traverse != self.settings.token_traverse;
        self.settings = settings;
        changed
    }

    fn origin(&self, number: usize) -> OriginPull {
        OriginPull {
            address: self.settings.origins[number].clone(),
            server: self.server.clone(),
            stream: self.stream.clone(),
            settings: self.settings.clone(),
            parameters: self.stream.parameters(),
        }
    }
}

/// The origins as one text.
fn join(origins: &[Origin]) -> String {
    let origins: Vec<_> = origins.iter().map(ToString::to_string).collect();
    origins.join(", ")
}
