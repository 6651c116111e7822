//! The packagers of a server's streams: when they run.

mod failed;
mod settings;
mod task;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rtmp_proto::session::StreamKey;
use tokio::sync::{mpsc, oneshot};

use super::asked::container;
use super::files::StreamFiles;
use super::part::PackagerPart;
use crate::config::{self, Config, Vhost};
use crate::hand_over::{HandOverError, Inherited};
use crate::server::Server;
use crate::server::http::wanted::{Refusal, Wanted};
use crate::server::upstream;
use crate::stream::{HlsOutput, StartedPackager, Stream, Subscription, lock};
use failed::Failed;
use settings::settings;
pub(super) use task::FrozenPackager;
use task::{Freeze, PackagerTask};

/// The segments of a stream for which nobody has asked for so long are given back. They are
/// made again for the next who asks.
const MIN_KEPT_UNUSED: Duration = Duration::from_secs(30);
/// The same in target durations.
const KEPT_UNUSED_TARGETS: u32 = 4;

/// What is known of packagers beyond their streams.
#[derive(Debug, Default)]
pub(super) struct Packagers {
    /// Those that run, by the ids of their streams.
    running: Mutex<HashMap<u64, Running>>,
    /// Those that have failed lately, by the ids of their streams.
    failed: Mutex<HashMap<u64, Failed>>,
    /// Streams that viewers without a session play: they want the stream, and get what is
    /// left of it when it has ended.
    without_session: Mutex<HashMap<StreamKey, Subscription>>,
}

/// The segments of `stream`, which has something to play or has ended. A packager is started
/// if there is none.
///
/// # Errors
/// No memory or no descriptor left.
pub(super) async fn obtain(
    server: &Arc<Server>,
    stream: &Arc<Stream>,
    vhost: &Arc<Vhost>,
) -> Result<Arc<HlsOutput>, Refusal> {
    match stream.hls() {
        Some(output) => Ok(output),
        // Boxed, as few start one.
        None => Box::pin(obtain_new(server, stream, vhost)).await,
    }
}

async fn obtain_new(
    server: &Arc<Server>,
    stream: &Arc<Stream>,
    vhost: &Arc<Vhost>,
) -> Result<Arc<HlsOutput>, Refusal> {
    if stream.has_ended() {
        return Err(Refusal::nobody_publishes(stream.key()));
    }
    if !server.hls.packagers.may_start(stream, Instant::now()) {
        return Err(Refusal::new(503, "no segments can be made at the moment"));
    }
    let starting = stream.hls_start().await;
    if let Some(output) = stream.hls() {
        return Ok(output);
    }
    let task = {
        let (server, stream) = (server.clone(), stream.clone());
        let vhost = vhost.clone();
        // It goes on if who has asked goes.
        tokio::task::spawn_blocking(move || {
            let started = start(&server, &stream, &vhost);
            drop(starting);
            started
        })
    };
    let started = task
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)));
    started.map_err(|error| {
        log::warn!("{}: no HLS: {error}", stream.key());
        server.hls.packagers.failed(stream, Instant::now());
        Refusal::no_memory()
    })
}

/// Starts the packager of `stream`.
fn start(
    server: &Arc<Server>,
    stream: &Arc<Stream>,
    vhost: &Vhost,
) -> std::io::Result<Arc<HlsOutput>> {
    let hls = &vhost.hls;
    let started = stream.start_hls(settings(hls, stream.key()))?;
    let files = new_files(stream, hls);
    log::info!("{}: HLS begins", stream.key());
    Ok(spawn(server, stream, hls, started, files))
}

/// The files that `stream` is to be written to.
fn new_files(stream: &Stream, hls: &config::Hls) -> Option<Arc<StreamFiles>> {
    let config = hls.files.clone()?;
    let is_removed = !hls.dispose.is_zero();
    let (key, keys) = (stream.key().clone(), hls.keys.clone());
    let files = StreamFiles::new(key, config, keys, container(hls), is_removed);
    Some(Arc::new(files))
}

/// Goes on with a packager that this process has had before. Nobody may publish yet.
///
/// # Errors
/// It is of another form, or has other settings: the next one begins when it is wanted.
pub(super) fn resume(
    server: &Arc<Server>,
    stream: &Arc<Stream>,
    part: PackagerPart,
    inherited: &mut Inherited,
) -> Result<(), HandOverError> {
    let missing = |what: &str| HandOverError::Missing(what.to_owned());
    let config = server.config();
    let vhost = config.vhost(&stream.key().vhost);
    let hls = vhost.map(|vhost| &vhost.hls).filter(|hls| hls.enabled);
    let hls = hls.ok_or_else(|| missing("HLS of its vhost"))?;
    let files = new_files(stream, hls);
    match (&files, &hls.files, part.files) {
        (None, _, None) => {}
        (Some(files), Some(config), Some(part)) if part.is_of(config, hls.keys.as_ref()) => {
            files.take_over(part);
        }
        _ => return Err(missing("file of its by the settings of the vhost")),
    }
    let settings = settings(hls, stream.key());
    let started = stream.take_over_hls(&part.hls, settings, inherited)?;
    spawn(server, stream, hls, started, files);
    Ok(())
}

/// Has a packager run.
fn spawn(
    server: &Arc<Server>,
    stream: &Arc<Stream>,
    hls: &config::Hls,
    started: StartedPackager,
    files: Option<Arc<StreamFiles>>,
) -> Arc<HlsOutput> {
    let StartedPackager {
        packager,
        reader,
        finished,
    } = started;
    let output = packager.output().clone();
    if let Some(files) = &files {
        server.hls.files.register(files);
    }
    let (freeze, frozen) = mpsc::unbounded_channel();
    let running = Running {
        stream: stream.clone(),
        hls: hls.clone(),
        output: output.clone(),
        freeze,
    };
    lock(&server.hls.packagers.running).insert(stream.id(), running);
    let task = PackagerTask {
        server: server.clone(),
        stream: stream.clone(),
        packager,
        files,
        dispose: hls.dispose,
        frozen,
    };
    task.report(&finished);
    tokio::spawn(task.run(reader));
    output
}

/// A packager that runs, as those see it that start and end packagers.
#[derive(Debug)]
struct Running {
    stream: Arc<Stream>,
    hls: config::Hls,
    output: Arc<HlsOutput>,
    /// Asks for what it has.
    freeze: mpsc::UnboundedSender<Freeze>,
}

impl Packagers {
    /// Has all packagers package what is queued. They have nothing to do until somebody
    /// publishes again.
    ///
    /// # Errors
    /// One cannot be written down.
    pub(super) async fn freeze(&self) -> Result<Vec<FrozenPackager>, HandOverError> {
        let asked = |running: &Running| {
            let (sender, answer) = oneshot::channel();
            // Where it has ended meanwhile, there is no answer.
            let _ = running.freeze.send(sender);
            answer
        };
        let answers: Vec<_> = lock(&self.running).values().map(asked).collect();
        let mut frozen = Vec::new();
        for answer in answers {
            if let Ok(packager) = answer.await {
                frozen.extend(packager?);
            }
        }
        Ok(frozen)
    }

    /// Ids of the streams that viewers without a session play.
    pub(super) fn without_session(&self) -> Vec<u64> {
        let known = lock(&self.without_session);
        known.values().map(|it| it.stream().id()).collect()
    }

    /// The stream that a viewer without a session asks for.
    pub(super) fn subscribe(&self, server: &Arc<Server>, wanted: &Wanted) -> Subscription {
        let stream = server.stream(&wanted.key, &wanted.vhost);
        let known = lock(&self.without_session);
        let present = known.get(&wanted.key).map(Subscription::stream);
        // A stream that has ended is played to its end while nobody publishes it anew.
        if let Some(present) = present.filter(|it| it.has_ended() && !stream.is_published()) {
            return present.add_subscription();
        }
        drop(known);
        let subscription = stream.add_subscription();
        if let Some(settings) = &wanted.vhost.upstream {
            upstream::ensure_pull(server, &stream, settings, &wanted.parameters);
        }
        subscription
    }

    /// A stream that a viewer without a session plays is wanted until nobody asks for it any
    /// more.
    pub(super) fn keep(&self, subscription: Subscription) {
        let key = (**subscription.stream().key()).clone();
        lock(&self.without_session).insert(key, subscription);
    }

    /// The stream `key` with its segments, if there are any.
    pub(super) fn find(
        &self,
        server: &Server,
        key: &StreamKey,
    ) -> Option<(Arc<Stream>, Arc<HlsOutput>)> {
        let known = lock(&self.without_session);
        let known = known.get(key).map(|it| it.stream().clone());
        let with_output = |stream: Arc<Stream>| Some((stream.clone(), stream.hls()?));
        known
            .and_then(with_output)
            .or_else(|| with_output(server.registry.find(key)?))
    }

    /// A packager of `stream` has failed.
    fn failed(&self, stream: &Stream, now: Instant) {
        let mut failed = lock(&self.failed);
        let before = failed.remove(&stream.id());
        failed.insert(stream.id(), Failed::again(before, now));
    }

    /// False while the next packager of `stream` has to wait, as others have failed.
    fn may_start(&self, stream: &Stream, now: Instant) -> bool {
        let failed = lock(&self.failed);
        failed.get(&stream.id()).is_none_or(|it| now >= it.until)
    }

    /// Ends packagers that nobody has asked for lately, or whose settings have changed, and
    /// starts those that write files, for which nobody needs to ask.
    pub(super) fn sweep(&self, server: &Arc<Server>) {
        let now = Instant::now();
        let config = server.config();
        let settings = |stream: &Stream| {
            let vhost = config.vhost(&stream.key().vhost)?;
            vhost.hls.enabled.then_some(&vhost.hls)
        };
        let ending: Vec<_> = {
            let running = lock(&self.running);
            let ending = running.values().filter(|running| {
                let hls = settings(&running.stream);
                let writes_files = hls.is_some_and(|hls| hls.files.is_some());
                Some(&running.hls) != hls || (!writes_files && is_unused(&running.output, now))
            });
            let ending = ending.map(|it| (it.stream.clone(), it.output.clone()));
            ending.collect()
        };
        for (stream, output) in ending {
            stream.end_hls(&output);
        }
        lock(&self.failed).retain(|_, failed| !failed.is_over(now));
        let writes_files = |vhost: &Vhost| vhost.hls.enabled && vhost.hls.files.is_some();
        if config.vhosts.values().any(|vhost| writes_files(vhost)) {
            self.start_writing_files(server, &config, now);
        }
        lock(&self.without_session).retain(|_, subscription| {
            let output = subscription.stream().hls();
            output.is_some_and(|output| !is_unused(&output, now))
        });
    }

    /// Starts the packagers of streams whose segments are written to files.
    fn start_writing_files(&self, server: &Arc<Server>, config: &Config, now: Instant) {
        let waiting = server.registry.select(|stream| {
            let vhost = config.vhost(&stream.key().vhost);
            let is_written = vhost.is_some_and(|it| it.hls.enabled && it.hls.files.is_some());
            is_written && stream.hls().is_none() && stream.state().borrow().live
        });
        for stream in waiting {
            let Some(vhost) = config.vhost(&stream.key().vhost).cloned() else {
                continue;
            };
            if self.may_start(&stream, now) {
                let server = server.clone();
                tokio::spawn(async move { obtain(&server, &stream, &vhost).await });
            }
        }
    }
}

/// True if nobody has asked for segments lately.
fn is_unused(output: &HlsOutput, now: Instant) -> bool {
    let kept = (output.target_duration() * KEPT_UNUSED_TARGETS).max(MIN_KEPT_UNUSED);
    output.unused_for(now) >= kept
}
