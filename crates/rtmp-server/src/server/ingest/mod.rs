//! Streams that the server fetches by itself (`ingest`).
//!
//! A stream's way: [`run`] follows the configuration → a [`task`] for each output of an
//! `ingest`, which tries again and again → `rtsp`, `flv_file` or `rtmp` reads the source →
//! [`Publisher`], a publisher of the stream like any other, within the process. What none
//! of them reads, ffmpeg does (`programs`), and publishes by RTMP.
//!
//! [`Publisher`]: publisher::Publisher

mod error;
mod flv_file;
mod publisher;
mod report;
mod rtmp;
mod rtsp;
mod task;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Server;
use crate::config::{Config, IngestJob};
use crate::stream::lock;
pub(crate) use report::{IngestReport, IngestState, IngestTotals};
use task::IngestTask;

/// Time for a task to end: a program has three seconds.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Vhost, name and number of an output of an `ingest`.
type JobId = (String, String, usize);

/// What a server knows of the streams that it fetches.
#[derive(Debug, Default)]
pub(crate) struct Ingests {
    running: Mutex<BTreeMap<JobId, Running>>,
    totals: Arc<IngestTotals>,
    /// Ends all of them.
    stop: CancellationToken,
}

/// A stream that is fetched.
#[derive(Debug)]
struct Running {
    log_level: String,
    report: Arc<IngestReport>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Ingests {
    /// Those that run, by vhost and name.
    pub(crate) fn list(&self) -> Vec<Arc<IngestReport>> {
        let running = lock(&self.running);
        running.values().map(|it| it.report.clone()).collect()
    }

    /// Totals of all that have run.
    pub(crate) fn totals(&self) -> &IngestTotals {
        &self.totals
    }

    /// Ends all of them. None begins any more.
    pub(super) async fn finish(&self) {
        self.stop.cancel();
        let running = std::mem::take(&mut *lock(&self.running));
        end(running.into_values()).await;
    }

    /// Ends those that the configuration no longer has as they are, and begins those that it
    /// has anew.
    async fn follow(&self, server: &Arc<Server>, config: &Config) {
        let mut wanted = jobs(config);
        let removed: Vec<_> = {
            let mut running = lock(&self.running);
            let is_wanted = |id: &JobId, it: &Running| {
                wanted.get(id) == Some(&it.report.job) && it.log_level == config.ff_log_level
            };
            running
                .extract_if(.., |id, it| !is_wanted(id, it))
                .collect()
        };
        for (_, removed) in &removed {
            log::info!(
                "{}: ends: it is another now, or none",
                removed.report.name()
            );
        }
        end(removed.into_iter().map(|(_, running)| running)).await;
        let mut running = lock(&self.running);
        wanted.retain(|id, _| !running.contains_key(id));
        for (id, job) in wanted {
            // Checked with the table locked: whoever finishes takes what is in it.
            if self.stop.is_cancelled() {
                return;
            }
            let report = Arc::new(IngestReport::new(job, self.totals.clone()));
            let stop = self.stop.child_token();
            let task = IngestTask {
                server: server.clone(),
                report: report.clone(),
                log_level: config.ff_log_level.clone(),
                stop: stop.clone(),
            };
            let started = Running {
                log_level: config.ff_log_level.clone(),
                report,
                stop,
                task: tokio::spawn(task.run()),
            };
            running.insert(id, started);
        }
    }
}

/// Ends tasks: all at once, then waits for each.
async fn end(running: impl Iterator<Item = Running>) {
    let running: Vec<_> = running.collect();
    for running in &running {
        running.stop.cancel();
    }
    for mut running in running {
        if timeout(END_TIMEOUT, &mut running.task).await.is_err() {
            log::warn!("{}: does not end by itself", running.report.name());
            running.task.abort();
        }
    }
}

/// The streams that `config` has fetched: an edge's are its origin's to fetch.
fn jobs(config: &Config) -> BTreeMap<JobId, IngestJob> {
    let vhosts = config.vhosts.values();
    let vhosts = vhosts.filter(|vhost| vhost.enabled && vhost.upstream.is_none());
    let jobs = vhosts.flat_map(|vhost| {
        let ingests = vhost.ingests.iter();
        ingests.flat_map(|ingest| ingest.jobs(&vhost.name, &config.listen))
    });
    let with_id = |job: IngestJob| {
        let id = (job.vhost.clone(), job.name.clone(), job.number);
        (id, job)
    };
    jobs.map(with_id).collect()
}

/// Fetches the streams that the configuration names, whatever it becomes.
pub(super) async fn run(server: Arc<Server>) {
    // Whoever asked for a stream before an upgrade has taken it over would make another one.
    server.safepoint.running().await;
    let mut config = server.config.subscribe();
    loop {
        let current = config.borrow_and_update().clone();
        server.ingests.follow(&server, &current).await;
        // An error cannot be: the sender is the server's.
        if config.changed().await.is_err() {
            return;
        }
    }
}
