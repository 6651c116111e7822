//! Recordings (`dvr`): streams in files, of FLV or of fragmented MP4.
//!
//! A recording's way: [`begin`] with a publication, or [`sweep`] → a `recorder` on one of
//! the `threads`, which copies the stream's log of FLV tags ([`TagReader`]) to a `file` in its
//! `format` → `on_dvr` once that is finished. A `keeper` looks after the files that there are.
//!
//! [`TagReader`]: crate::stream::TagReader

mod file;
mod flv;
mod format;
mod keeper;
mod mp4;
mod recorder;
mod recording;
mod recovery;
mod threads;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rtmp_proto::session::StreamKey;
use tokio::time::timeout;

use super::Server;
use super::hooks::FileEvent;
use crate::config::{self, Vhost};
use crate::stream::{Stream, lock};
use keeper::Keeper;
use recorder::{Owner, Recorder, Told};
use recording::Settings;
pub(crate) use recording::{DvrTotals, Recording, RecordingState};
use threads::Threads;

/// The server's end waits for the disks so long at most.
const MAX_FINISH: Duration = Duration::from_secs(5);
/// The most streams that are recorded, or not, by order.
const MAX_ORDERS: usize = 10_000;

/// What a server knows of recordings.
#[derive(Debug, Default)]
pub(crate) struct Dvr {
    /// Those that run, by the ids of their streams.
    recordings: Mutex<HashMap<u64, Arc<Recording>>>,
    /// Streams that are recorded (true), or are not, whatever the configuration says.
    orders: Mutex<HashMap<StreamKey, bool>>,
    totals: Arc<DvrTotals>,
    threads: Threads,
    keeper: Keeper,
}

impl Dvr {
    /// The recordings that run, in the order of their streams' names.
    pub(crate) fn list(&self) -> Vec<Arc<Recording>> {
        let mut recordings: Vec<_> = lock(&self.recordings).values().cloned().collect();
        recordings.sort_by(|left, right| left.key.cmp(&right.key));
        recordings
    }

    /// Totals of all recordings.
    pub(crate) fn totals(&self) -> &DvrTotals {
        &self.totals
    }

    /// Has the stream `key` recorded, or not, until the server's end or the next order.
    /// Returns false if there are too many orders.
    pub(crate) fn order(&self, key: StreamKey, record: bool) -> bool {
        let mut orders = lock(&self.orders);
        if orders.len() >= MAX_ORDERS && !orders.contains_key(&key) {
            return false;
        }
        orders.insert(key, record);
        true
    }

    /// The streams that are recorded (true), or are not, by order.
    pub(super) fn orders(&self) -> Vec<(StreamKey, bool)> {
        let orders = lock(&self.orders);
        orders
            .iter()
            .map(|(key, record)| (key.clone(), *record))
            .collect()
    }

    /// The vhosts of streams that are recorded by order.
    fn ordered_vhosts(&self) -> HashSet<String> {
        let orders = lock(&self.orders);
        let recorded = orders.iter().filter(|(_, is_recorded)| **is_recorded);
        recorded.map(|(key, _)| key.vhost.clone()).collect()
    }

    /// Finishes all files. A disk that is too slow is not waited for.
    pub(crate) async fn finish(&self) {
        if timeout(MAX_FINISH, self.threads.finish()).await.is_err() {
            log::warn!("the disk is too slow: recordings keep the names of unfinished ones");
        }
    }

    /// True if the stream `key` of a vhost with these settings is to be recorded.
    fn is_wanted(&self, config: &config::Dvr, key: &StreamKey) -> bool {
        let order = lock(&self.orders).get(key).copied();
        order.unwrap_or_else(|| config.applies_to(key))
    }
}

/// True if `stream` of `vhost` is to be recorded. An edge records nothing, as in SRS.
fn is_recorded(server: &Server, stream: &Stream, vhost: &Vhost) -> bool {
    vhost.upstream.is_none() && server.dvr.is_wanted(&vhost.dvr, stream.key())
}

/// Begins to record `stream` if it is to be. A publication begins with what comes next: the
/// publisher's messages are not taken before this has returned.
pub(super) async fn begin(server: &Arc<Server>, stream: &Arc<Stream>, vhost: &Arc<Vhost>) {
    if !is_recorded(server, stream, vhost) {
        return;
    }
    let (server, stream, vhost) = (server.clone(), stream.clone(), vhost.clone());
    // The newest group of the publication before may be copied.
    let begun = tokio::task::spawn_blocking(move || start(&server, &stream, &vhost, true));
    // An error means that the server ends.
    let _ = begun.await;
}

/// Begins the recordings that are to be and are not there, and stops those that are not to
/// be, or whose settings have changed.
pub(super) fn sweep(server: &Arc<Server>) {
    let config = server.config();
    let dvr = &server.dvr;
    let owners = keeper::owners(&config, &dvr.ordered_vhosts());
    dvr.keeper.sweep(&owners, &dvr.totals, Instant::now());
    let is_used = config.vhosts.values().any(|vhost| vhost.dvr.enabled)
        || !lock(&server.dvr.orders).is_empty()
        || !lock(&server.dvr.recordings).is_empty();
    if !is_used {
        return;
    }
    for stream in &server.registry.list() {
        let vhost = config.vhost(&stream.key().vhost);
        let vhost = vhost.filter(|vhost| is_recorded(server, stream, vhost));
        let recording = lock(&server.dvr.recordings).get(&stream.id()).cloned();
        match (recording, vhost) {
            (Some(recording), vhost) => {
                if vhost.is_none_or(|vhost| Settings::of(&vhost.dvr) != recording.settings) {
                    recording.stop();
                }
            }
            (None, Some(vhost)) if stream.has_encoder() => {
                let (server, stream, vhost) = (server.clone(), stream.clone(), vhost.clone());
                tokio::task::spawn_blocking(move || start(&server, &stream, &vhost, false));
            }
            (None, _) => {}
        }
    }
}

/// Starts a recorder of `stream`, if there is none.
fn start(server: &Arc<Server>, stream: &Arc<Stream>, vhost: &Vhost, from_now: bool) {
    let (key, totals) = (stream.key().clone(), server.dvr.totals.clone());
    let settings = Settings::of(&vhost.dvr);
    let recording = Recording::new(stream.id(), key, settings, totals);
    let recording = Arc::new(recording);
    {
        let mut recordings = lock(&server.dvr.recordings);
        if recordings.contains_key(&stream.id()) {
            return;
        }
        recordings.insert(stream.id(), recording.clone());
    }
    let owner = ServerOwner {
        server: server.clone(),
        stream: stream.clone(),
        recording: recording.clone(),
    };
    let recorder = Recorder::new(stream.clone(), recording, from_now, Box::new(owner));
    if let Err(error) = server.dvr.threads.run(recorder) {
        lock(&server.dvr.recordings).remove(&stream.id());
        log::warn!("{}: no thread for its recording: {error}", stream.key());
    }
}

/// The server as a recorder's owner.
struct ServerOwner {
    server: Arc<Server>,
    stream: Arc<Stream>,
    recording: Arc<Recording>,
}

impl Owner for ServerOwner {
    fn begin_file(&self) -> Told {
        let (server, stream) = (self.server.clone(), self.stream.clone());
        let publisher = server.clients.publisher(stream.key());
        let parameters = stream.parameters();
        Box::new(move |path: &Path| {
            let config = server.config();
            let Some(vhost) = config.vhost(&stream.key().vhost) else {
                return;
            };
            let event = FileEvent {
                publisher: publisher.as_deref(),
                parameters: &parameters,
                stream: &stream,
                file: &path.display().to_string(),
            };
            server.hooks.notify(&vhost.http_hooks.on_dvr, &event);
        })
    }

    fn forget(&self) -> bool {
        let mut recordings = lock(&self.server.dvr.recordings);
        // A publisher that has come meanwhile has found this recorder.
        if !self.recording.is_stopped() && self.stream.has_encoder() {
            return false;
        }
        recordings.remove(&self.recording.stream_id);
        true
    }
}
