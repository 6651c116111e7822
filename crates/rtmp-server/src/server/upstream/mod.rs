//! An edge's side of its origins: one connection per stream, for as long as
//! somebody plays it.

pub(super) mod dial;
pub(super) mod forward;
mod origin;
pub(super) mod permission;
pub mod pull;
mod route;
pub(super) mod threads;

use std::future::pending;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use rtmp_proto::session::Parameters;
use service_kit::sleep_until;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Server;
use crate::config::{Config, Upstream};
use crate::stream::{Stream, lock};
use origin::{Event, Origin};
use pull::{Action, Input, Pull, Vain};

/// Makes sure that `stream` is being pulled. `parameters` are those of a player
/// that has just come; the next connection to an origin carries them.
pub(super) fn ensure(
    server: &Arc<Server>,
    stream: &Arc<Stream>,
    settings: &Upstream,
    parameters: &Parameters,
) {
    stream.set_parameters(parameters);
    if stream.claim_pull() {
        let puller = Puller {
            server: server.clone(),
            stream: stream.clone(),
            settings: settings.clone(),
        };
        server.pulls.spawn(puller.run());
    }
}

/// The number of the origin that last had a stream of `vhost`.
fn first_origin(server: &Server, vhost: &str, settings: &Upstream) -> usize {
    let good = lock(&server.good_origins);
    let number = |good| settings.origins.iter().position(|origin| origin == good);
    good.get(vhost).and_then(number).unwrap_or(0)
}

/// The task that pulls one stream.
struct Puller {
    server: Arc<Server>,
    stream: Arc<Stream>,
    settings: Upstream,
}

/// Why a pull has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Nobody wants the stream any more.
    Unwanted,
    /// The configuration names other origins, or another way to ask.
    Reconfigured,
}

/// A running connection; dropped, it ends.
struct Running {
    task: JoinHandle<()>,
    events: mpsc::Receiver<Event>,
}

impl Running {
    fn start(origin: Origin) -> Self {
        let (sender, events) = mpsc::channel(4);
        Self {
            task: tokio::spawn(origin.run(sender)),
            events,
        }
    }

    /// What it says next.
    async fn next(running: &mut Option<Self>) -> Input {
        let Some(running) = running else {
            return pending().await;
        };
        match running.events.recv().await {
            Some(Event::Connected) => Input::Connected,
            Some(Event::Announced(has_publisher)) => Input::Announced(has_publisher),
            Some(Event::Flowing) => Input::Flowing,
            Some(Event::Lost) | None => Input::Lost,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Puller {
    async fn run(mut self) {
        loop {
            while self.pull().await == Outcome::Reconfigured {}
            self.stream.release_pull();
            // Somebody may have come between the decision to end and here, and
            // have found the stream still fed.
            let wanted = *self.stream.subscriptions().borrow() > 0;
            if !wanted || !self.stream.claim_pull() {
                return;
            }
        }
    }

    /// Pulls until nobody wants the stream, or from elsewhere.
    async fn pull(&mut self) -> Outcome {
        let mut config = self.server.config.subscribe();
        self.take_settings(&config.borrow_and_update().clone());
        let seed = RandomState::new().hash_one(self.stream.id());
        let (origins, linger) = (self.settings.origins.len(), self.settings.linger);
        let first = first_origin(&self.server, &self.stream.key().vhost, &self.settings);
        let mut pull = Pull::new(origins, first, linger, seed);
        let mut audience = self.stream.subscriptions();
        let mut running: Option<Running> = None;
        let mut input = Input::Audience(*audience.borrow_and_update());
        loop {
            match pull.handle(Instant::now().into_std(), input) {
                Some(Action::Connect(number)) => {
                    running = Some(Running::start(self.origin(number)));
                }
                Some(Action::Finish) => {
                    log::info!("{}: no longer pulled, nobody plays it", self.stream.key());
                    return Outcome::Unwanted;
                }
                None if !pull.is_connected() => running = None,
                None => {}
            }
            if let Some(Vain { answered }) = pull.take_vain() {
                self.stream
                    .all_origins_failed(answered, std::time::Instant::now());
            }
            let deadline = pull.deadline();
            input = tokio::select! {
                biased;
                // That the stream flows counts before that its player, who has
                // had its media, has gone: the connection is kept then.
                input = Running::next(&mut running) => input,
                _ = config.changed() => {
                    let config = config.borrow_and_update().clone();
                    if self.take_settings(&config) {
                        let key = self.stream.key();
                        log::info!("{key}: now pulled from {}", self.settings.origins.join(", "));
                        return Outcome::Reconfigured;
                    }
                    Input::Audience(*audience.borrow_and_update())
                }
                // We hold the stream, so its sender lives.
                _ = audience.changed() => Input::Audience(*audience.borrow_and_update()),
                () = sleep_until(deadline) => Input::Time,
            };
        }
    }

    /// Takes over what the configuration says of the stream's upstream;
    /// whether the stream has to be asked for anew.
    fn take_settings(&mut self, config: &Config) -> bool {
        let vhost = config.vhost(&self.stream.key().vhost);
        let Some(settings) = vhost.and_then(|vhost| vhost.upstream.clone()) else {
            return false;
        };
        let asks = |settings: &Upstream| {
            (
                settings.origins.clone(),
                settings.vhost.clone(),
                settings.token_traverse,
            )
        };
        let anew = asks(&settings) != asks(&self.settings);
        self.settings = settings;
        anew
    }

    fn origin(&self, number: usize) -> Origin {
        Origin {
            address: self.settings.origins[number].clone(),
            server: self.server.clone(),
            stream: self.stream.clone(),
            settings: self.settings.clone(),
            parameters: self.stream.parameters(),
        }
    }
}
