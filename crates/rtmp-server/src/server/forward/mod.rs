//! Forwards (`forward`): streams that are published at other servers, too.
//!
//! A forward's way: [`begin`] with a publication, or [`sweep`] → a [`StreamForwards`] for the
//! stream, which knows the servers, from the configuration or from a `backend` → a `target`
//! for each, which reads the stream's log at a pace of its own
//! ([`MessageReader`](crate::stream::MessageReader)).

mod backend;
mod backoff;
mod part;
mod progress;
mod target;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use service_kit::sleep_until;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Server;
use crate::config::{self, Destination, Vhost};
use crate::hand_over::Inherited;
use crate::stream::{Stream, StreamState, TakenStream, lock};
use backend::Backend;
use backoff::Backoff;
pub(super) use part::ForwardPart;
use progress::Progress;
pub(crate) use progress::{Forward, ForwardState, ForwardTotals};
use target::{Step, Target};

/// A slate is waited for so long beyond `slate_after`.
const SLATE_DELAY: Duration = Duration::from_secs(1);

/// Time for the last messages of a publication, and for the connection's end.
const FINISH_TIMEOUT: Duration = Duration::from_secs(3);
/// Interval at which the server's end looks whether there are forwards left.
const FINISH_INTERVAL: Duration = Duration::from_millis(20);

/// What a server knows of forwards.
#[derive(Debug, Default)]
pub(crate) struct Forwards {
    /// The ids of the streams that have a [`StreamForwards`].
    streams: Mutex<HashSet<u64>>,
    forwards: Mutex<Vec<Arc<Forward>>>,
    totals: Arc<ForwardTotals>,
}

impl Forwards {
    /// The present forwards, in the order of their streams' names.
    pub(crate) fn list(&self) -> Vec<Arc<Forward>> {
        let mut forwards = lock(&self.forwards).clone();
        forwards.sort_by(|left, right| left.stream.key().cmp(right.stream.key()));
        forwards
    }

    /// Waits until all have ended whose publications have, for a bounded time: a server that
    /// is told of the end does not wait for more.
    pub(crate) async fn finish(&self) {
        let ended = async {
            while !lock(&self.forwards).is_empty() {
                sleep(FINISH_INTERVAL).await;
            }
        };
        // One that is too slow finds the connection closed.
        let _ = timeout(FINISH_TIMEOUT, ended).await;
    }

    /// Totals of all forwards.
    pub(crate) fn totals(&self) -> &ForwardTotals {
        &self.totals
    }

    fn add(
        &self,
        stream: Arc<Stream>,
        destination: Destination,
        progress: Progress,
    ) -> Arc<Forward> {
        let totals = self.totals.clone();
        let forward = Arc::new(Forward::new(stream, destination, progress, totals));
        lock(&self.forwards).push(forward.clone());
        forward
    }

    fn remove(&self, forward: &Arc<Forward>) {
        lock(&self.forwards).retain(|it| !Arc::ptr_eq(it, forward));
    }
}

/// The settings by which streams of `vhost` are forwarded, if they are. An edge forwards
/// nothing, as in SRS.
fn settings(vhost: &Vhost) -> Option<&config::Forward> {
    let forward = &vhost.forward;
    (forward.enabled && vhost.upstream.is_none()).then_some(forward)
}

/// Begins to forward `stream`, which is published, if it is to be.
pub(super) fn begin(server: &Arc<Server>, stream: &Arc<Stream>, vhost: &Vhost) {
    if settings(vhost).is_some() && lock(&server.forwards.streams).insert(stream.id()) {
        tokio::spawn(StreamForwards::new(server, stream).run());
    }
}

/// Goes on with the forwards of a stream, which are `parts`, that this process has had before. Those that the
/// configuration no longer has end in good order.
pub(super) fn take_over(
    server: &Arc<Server>,
    TakenStream {
        stream, is_new_log, ..
    }: &TakenStream,
    parts: &[ForwardPart],
    inherited: &mut Inherited,
) {
    let mut forwards = StreamForwards::new(server, stream);
    for part in parts {
        forwards.resume(part, *is_new_log, inherited);
    }
    if !forwards.targets.is_empty() {
        lock(&server.forwards.streams).insert(stream.id());
        tokio::spawn(forwards.run());
    }
}

/// Begins the forwards that are to be and are not there: a reload has told of them, or the
/// stream is published by the server itself.
pub(super) fn sweep(server: &Arc<Server>) {
    let config = server.config();
    if !config.vhosts.values().any(|it| settings(it).is_some()) {
        return;
    }
    for stream in &server.registry.list() {
        if let Some(vhost) = config.vhost(&stream.key().vhost)
            && stream.has_encoder()
        {
            begin(server, stream, vhost);
        }
    }
}

/// The forwards of one stream, from the beginning of a publication to its end. What takes over
/// meanwhile, such as a standby or a slate, goes on along the same connections.
struct StreamForwards {
    server: Arc<Server>,
    stream: Arc<Stream>,
    state: watch::Receiver<StreamState>,
    backend: Option<Backend>,
    targets: Vec<RunningTarget>,
}

/// A forward that runs.
struct RunningTarget {
    forward: Arc<Forward>,
    authorities: Option<PathBuf>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl StreamForwards {
    fn new(server: &Arc<Server>, stream: &Arc<Stream>) -> Self {
        Self {
            server: server.clone(),
            stream: stream.clone(),
            state: stream.state(),
            backend: None,
            targets: Vec::new(),
        }
    }

    async fn run(mut self) {
        let mut config = self.server.config.subscribe();
        loop {
            // Nothing is begun or ended before an upgrade.
            self.server.safepoint.pass().await;
            let settings = self.settings(&config.borrow_and_update().clone());
            let deadline = self.end();
            match settings {
                Some(settings) if deadline.is_none_or(|end| Instant::now() < end) => {
                    self.apply(&settings);
                }
                _ => {
                    self.stop_all().await;
                    if self.forget() {
                        return;
                    }
                    continue;
                }
            }
            tokio::select! {
                // Errors cannot be: the senders are the server's and the stream's, which we
                // hold.
                _ = config.changed() => {}
                _ = self.state.changed() => {}
                () = Backend::answered(&mut self.backend) => {}
                () = sleep_until(deadline) => {}
            }
        }
    }

    fn settings(&self, config: &config::Config) -> Option<config::Forward> {
        let vhost = config.vhost(&self.stream.key().vhost)?;
        settings(vhost).cloned()
    }

    /// Time at which the forwards end, if nobody publishes the stream: at once, or after the
    /// time within which a slate goes on air.
    fn end(&mut self) -> Option<Instant> {
        let now = Instant::now();
        if self.state.borrow_and_update().ended {
            return Some(now);
        }
        let absence = self.stream.unpublished_for(now)?;
        let config = self.server.config();
        let vhost = config.vhost(&self.stream.key().vhost);
        let slate_after = vhost.and_then(|vhost| {
            let shows_slate = vhost.slate.is_some() && self.stream.players() > 0;
            shows_slate.then_some(vhost.slate_after + SLATE_DELAY)
        });
        Some(now + slate_after.unwrap_or_default().saturating_sub(absence))
    }

    /// Begins and ends forwards as `settings` say.
    fn apply(&mut self, settings: &config::Forward) {
        let destinations = match &settings.backend {
            None => {
                self.backend = None;
                settings.destinations.clone()
            }
            Some(url) => {
                let is_asked = self.backend.as_ref().is_some_and(|it| it.url() == url);
                if !is_asked {
                    let (server, stream) = (self.server.clone(), self.stream.clone());
                    self.backend = Some(Backend::ask(server, stream, url.clone()));
                }
                let named = self.backend.as_ref().and_then(Backend::destinations);
                // Until another backend has answered, what the former one said holds.
                let Some(named) = named else { return };
                named
            }
        };
        let server = self.server.clone();
        self.targets.retain(|target| {
            let is_wanted = destinations.contains(&target.forward.destination)
                && target.authorities == settings.ca;
            if !is_wanted {
                target.stop.cancel();
            }
            is_wanted
        });
        for destination in destinations {
            if !self.has(&destination) {
                let (stream, none) = (self.stream.clone(), Progress::default());
                let forward = server.forwards.add(stream, destination, none);
                let backoff = Backoff::new(RandomState::new().hash_one(self.stream.key()));
                let (ca, step) = (settings.ca.clone(), Step::Connect);
                let target = RunningTarget::start(&server, forward, ca, backoff, step);
                self.targets.push(target);
            }
        }
    }

    fn has(&self, destination: &Destination) -> bool {
        let mut targets = self.targets.iter();
        targets.any(|it| it.forward.destination == *destination)
    }

    /// Goes on with a forward that this process has had before; where its connection cannot,
    /// another one is made.
    fn resume(&mut self, part: &ForwardPart, is_new_log: bool, inherited: &mut Inherited) {
        let Some(destination) = part.destination().filter(|it| !self.has(it)) else {
            return;
        };
        let (server, stream) = (&self.server, &self.stream);
        let step = part.step(stream, is_new_log, inherited);
        let step = step.unwrap_or_else(|error| {
            let key = stream.key();
            log::warn!("{key}: its forward to {destination} {error}: it is begun anew");
            Step::Connect
        });
        let progress = part.progress.clone();
        let forward = server.forwards.add(stream.clone(), destination, progress);
        let (ca, backoff) = (part.authorities.clone(), part.backoff.clone());
        let target = RunningTarget::start(server, forward, ca, backoff, step);
        self.targets.push(target);
    }

    /// Ends all forwards, once they have sent what the publication has left.
    async fn stop_all(&mut self) {
        self.backend = None;
        self.targets.iter().for_each(|target| target.stop.cancel());
        for target in self.targets.drain(..) {
            // An error means that it has panicked, and has ended as well.
            let _ = target.task.await;
        }
    }

    /// Ends unless the stream is published again. A publisher that has come meanwhile has
    /// found this task.
    fn forget(&self) -> bool {
        let mut streams = lock(&self.server.forwards.streams);
        let settings = self.settings(&self.server.config());
        let is_published = self.stream.is_published() && !self.stream.has_ended();
        if settings.is_some() && is_published {
            return false;
        }
        streams.remove(&self.stream.id());
        true
    }
}

impl RunningTarget {
    /// Starts its task, which does `step` first.
    fn start(
        server: &Arc<Server>,
        forward: Arc<Forward>,
        authorities: Option<PathBuf>,
        backoff: Backoff,
        step: Step,
    ) -> Self {
        let stop = CancellationToken::new();
        let target = Target {
            server: server.clone(),
            forward: forward.clone(),
            authorities: authorities.clone(),
            stop: stop.clone(),
            participant: server.safepoint.join(),
            backoff,
        };
        let (server, over) = (server.clone(), forward.clone());
        let task = tokio::spawn(async move {
            target.run(step).await;
            server.forwards.remove(&over);
        });
        Self {
            forward,
            authorities,
            stop,
            task,
        }
    }
}
