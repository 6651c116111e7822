//! An edge's connections to its origins: a pull per stream for as long as somebody
//! plays it, from one origin or from several at once, and one forward per publish.

pub(super) mod forward;
mod leg;
pub(super) mod origin_connection;
mod origin_pull;
pub(super) mod permission;
mod pull;
mod redirect;
mod resumed;
pub(super) mod threads;
pub(super) mod url_pull;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rtmp_proto::session::Parameters;
use service_kit::sleep_until;
use tokio::time::Instant;

use super::{EventKind, Server};
use crate::config::{Config, Origin, Upstream};
use crate::hand_over::Inherited;
use crate::stream::{MergedRelay, Stream};
use leg::{Leg, LegInput, OriginTask};
pub(super) use origin_connection::{OriginConnection, OriginConnectionPart, OriginError};
use origin_pull::OriginPull;
pub(super) use origin_pull::{PullPart, announces_publisher};
use pull::{Action, AllOriginsFailed, Input, Pull};
pub(super) use resumed::PullParts;
use resumed::Resumed;

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
            resumed: None,
        };
        server.pull_runtime.spawn(task.run());
    }
}

/// Goes on with the pull of `stream` that this process has had before, as far as `parts` have
/// it. Returns the number of its publication in the stream, if media flows.
pub(super) fn resume_pull(
    server: &Arc<Server>,
    stream: &Arc<Stream>,
    settings: &Upstream,
    parts: &PullParts,
    inherited: &mut Inherited,
) -> Option<u64> {
    // Its task has a runtime of its own, whose sockets are that one's.
    let _runtime = server.pull_runtime.enter();
    let resumed = Resumed::take_over(stream, settings, parts, inherited);
    let publication = resumed.publication();
    if stream.claim_pull() {
        let task = PullTask {
            server: server.clone(),
            stream: stream.clone(),
            settings: settings.clone(),
            resumed: Some(resumed),
        };
        server.pull_runtime.spawn(task.run());
    }
    publication
}

/// The task that pulls one stream.
struct PullTask {
    server: Arc<Server>,
    stream: Arc<Stream>,
    settings: Upstream,
    /// What it goes on with.
    resumed: Option<Resumed>,
}

/// Reason why a pull has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PullEnd {
    /// Nobody plays the stream any more.
    NoAudience,
    /// The configuration names other origins, or another way to ask.
    Reconfigured,
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
        let count = connections(&self.settings);
        let Resumed {
            connections,
            merged,
            counted,
        } = self.take_resumed(count);
        let pulls = &self.server.pulls;
        pulls.begin(self.stream.id(), &counted, merged.clone());
        let mut legs: Vec<_> = (0..count)
            .map(|number| Leg::new(self.new_pull(number)))
            .collect();
        for (number, resumed) in connections.into_iter().enumerate() {
            if let Some((origin, pull)) = resumed {
                let leg = &mut legs[number];
                let now = Instant::now().into_std();
                leg.pull.resume(origin, pull.flows(), now);
                let origin = self.origin(origin, number, merged.as_ref());
                leg.connection = Some(OriginTask::start(origin, Some(pull)));
            }
        }
        let mut audience = self.stream.subscriptions();
        let mut inputs = LegInput::to_all(count, Input::Audience(*audience.borrow_and_update()));
        loop {
            // Nothing is begun or ended before an upgrade.
            self.server.safepoint.pass().await;
            for LegInput { leg, input } in inputs {
                self.handle(&mut legs, leg, input, merged.as_ref());
            }
            let players = *audience.borrow();
            self.look_beside_slate(&mut legs, players);
            if legs.iter().all(|leg| leg.pull.is_finished()) {
                let key = self.stream.key();
                log::info!("{key}: no longer pulled, nobody plays it");
                let events = self.server.events();
                events.record(EventKind::PullEnded, Some(key), None, "nobody plays it");
                return PullEnd::NoAudience;
            }
            if let Some(AllOriginsFailed { answered }) = Leg::take_all_failed(&mut legs) {
                self.stream
                    .all_origins_failed(answered, std::time::Instant::now());
            }
            let deadline = legs.iter().filter_map(|leg| leg.pull.deadline()).min();
            inputs = tokio::select! {
                biased;
                // That media flows counts before that its player, who has had
                // it, has gone: the connection lingers then.
                input = Leg::next_event(&mut legs) => vec![input],
                _ = config.changed() => {
                    // Nothing that may have been written down ends before an upgrade.
                    self.server.safepoint.pass().await;
                    let config = config.borrow_and_update().clone();
                    if self.take_settings(&config) {
                        let key = self.stream.key();
                        log::info!("{key}: now pulled from {}", join(&self.settings.origins));
                        return PullEnd::Reconfigured;
                    }
                    LegInput::to_all(legs.len(), Input::Audience(*audience.borrow_and_update()))
                }
                // An error cannot be: the sender is the stream's, which we hold.
                _ = audience.changed() => {
                    LegInput::to_all(legs.len(), Input::Audience(*audience.borrow_and_update()))
                }
                () = sleep_until(deadline) => LegInput::to_all(legs.len(), Input::Time),
            };
        }
    }

    /// What it goes on with, once; `count` connections that are to be made otherwise.
    fn take_resumed(&mut self, count: usize) -> Resumed {
        // Another configuration may have come in between.
        let resumed = self.resumed.take();
        let resumed = resumed.filter(|it| it.connections.len() == count);
        resumed.unwrap_or_else(|| Resumed::nothing(&self.stream, count))
    }

    /// The pull of the leg numbered `number`.
    fn new_pull(&self, number: usize) -> Pull {
        let seed = RandomState::new().hash_one((self.stream.id(), number));
        let (origins, linger) = (self.settings.origins.len(), self.settings.linger);
        let vhost = &self.stream.key().vhost;
        let first = self.server.first_origin(vhost, &self.settings);
        Pull::new(origins, first + number, linger, seed)
    }

    /// Has a leg take an event, and carries out the consequence.
    fn handle(
        &self,
        legs: &mut [Leg],
        number: usize,
        input: Input,
        merged: Option<&Arc<MergedRelay>>,
    ) {
        if legs[number].pull.is_finished() && matches!(input, Input::Audience(1..)) {
            // Another leg has lingered meanwhile, and a player has come.
            legs[number] = Leg::new(self.new_pull(number));
        }
        let elsewhere = legs.iter().enumerate();
        let elsewhere = elsewhere.filter(|&(other, _)| other != number);
        let elsewhere = elsewhere.map(|(_, leg)| leg.pull.origin()).next();
        let is_beside = self.is_beside_slate(number);
        let leg = &mut legs[number];
        // The one that shows a slate may go wherever that other one is: it ends then.
        let elsewhere = elsewhere.filter(|_| is_beside || merged.is_some());
        leg.pull.leave_out(elsewhere);
        match leg.pull.handle(Instant::now().into_std(), input) {
            Some(Action::Connect(origin)) => {
                let origin = self.origin(origin, number, merged);
                leg.connection = Some(OriginTask::start(origin, None));
            }
            _ if !leg.pull.is_connected() => leg.connection = None,
            _ => {}
        }
        if !is_beside {
            self.report(number, leg);
        }
    }

    fn report(&self, number: usize, leg: &Leg) {
        let origin = &self.settings.origins[leg.pull.origin()];
        let (id, state) = (self.stream.id(), leg.pull.state_name());
        self.server
            .pulls
            .set(id, number, &origin.to_string(), state);
    }

    /// True if the leg with this number looks for a programme beside a slate.
    fn is_beside_slate(&self, number: usize) -> bool {
        number >= connections(&self.settings)
    }

    /// While the only origin that is pulled from shows a slate, asks the others for a programme
    /// by one more connection, which takes the place of the first when that flows.
    fn look_beside_slate(&self, legs: &mut Vec<Leg>, players: usize) {
        let count = connections(&self.settings);
        if count > 1 {
            return;
        }
        let shows_slate = legs.first().is_some_and(|leg| leg.pull.shows_slate());
        if !shows_slate || self.settings.origins.len() == 1 {
            legs.truncate(count);
            return;
        }
        match legs.get(count) {
            None => {
                legs.push(Leg::new(self.new_pull(count)));
                self.handle(legs, count, Input::Audience(players), None);
            }
            Some(beside) if beside.pull.flows() => {
                let key = self.stream.key();
                log::info!("{key}: an origin has a programme, and takes the place of a slate");
                legs.remove(0);
                self.report(0, &legs[0]);
            }
            Some(_) => {}
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
            || settings.redundancy != self.settings.redundancy
            || settings.ca != self.settings.ca
            || settings.vhost != self.settings.vhost
            || settings.token_traverse != self.settings.token_traverse;
        self.settings = settings;
        changed
    }

    /// The pull of the leg numbered `leg` from the origin numbered `number`.
    fn origin(&self, number: usize, leg: usize, merged: Option<&Arc<MergedRelay>>) -> OriginPull {
        OriginPull {
            address: self.settings.origins[number].clone(),
            merged: merged.map(|merged| (merged.clone(), leg)),
            is_beside_slate: AtomicBool::new(self.is_beside_slate(leg)),
            server: self.server.clone(),
            stream: self.stream.clone(),
            settings: self.settings.clone(),
            parameters: self.stream.parameters(),
        }
    }
}

/// Number of connections by which a stream is pulled.
fn connections(settings: &Upstream) -> usize {
    settings.redundancy.min(settings.origins.len())
}

/// The origins as one text.
fn join(origins: &[Origin]) -> String {
    let origins: Vec<_> = origins.iter().map(ToString::to_string).collect();
    origins.join(", ")
}
