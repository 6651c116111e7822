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
mod owner;
mod recorder;
mod recording;
mod recovery;
mod threads;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rtmp_proto::session::StreamKey;
use tokio::time::timeout;

use super::Server;
use crate::config::{self, Vhost};
use crate::hand_over::{HandOverError, HandedOver, Inherited};
use crate::stream::{Stream, TakenStream, lock};
use keeper::Keeper;
use owner::ServerOwner;
use recorder::Recorder;
pub(super) use recorder::RecorderPart;
use recording::Settings;
pub(crate) use recording::{DvrTotals, Progress, Recording, RecordingState};
use threads::{Paused, Threads};

/// The server's end waits for the disks so long at most.
const MAX_FINISH: Duration = Duration::from_secs(5);
/// An upgrade waits for the disks so long at most, while media flows.
const MAX_PAUSE: Duration = Duration::from_secs(2);
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
    /// The recorders that stand still for an upgrade.
    paused: Mutex<Option<Paused>>,
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

    /// Has the recorders stand still until [`Dvr::go_on`]: what comes meanwhile waits in the
    /// streams' logs. Returns false if one does not, since its disk is too slow.
    pub(super) async fn pause(&self) -> bool {
        let paused = self.threads.pause(MAX_PAUSE).await;
        let all_stand_still = !paused.is_late;
        *lock(&self.paused) = Some(paused);
        all_stand_still
    }

    /// The recorders that stand still, for the program that the process becomes.
    pub(super) fn parts(&self, handed_over: &mut HandedOver) -> Vec<RecorderPart> {
        let mut paused = lock(&self.paused);
        let written = paused.as_mut().map(|it| std::mem::take(&mut it.written));
        let written = written.unwrap_or_default();
        handed_over.extend(&written.handed_over);
        written.parts
    }

    /// Has the recorders go on.
    pub(super) fn go_on(&self) {
        lock(&self.paused).take();
    }

    /// Adds a recording; false if its stream has one.
    fn add(&self, recording: &Arc<Recording>) -> bool {
        match lock(&self.recordings).entry(recording.stream_id) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(recording.clone());
                true
            }
        }
    }

    /// Starts the recorder of a recording that has been added.
    fn run(&self, recorder: Recorder) {
        let stream = recorder.stream().clone();
        if let Err(error) = self.threads.run(recorder) {
            lock(&self.recordings).remove(&stream.id());
            log::warn!("{}: no thread for its recording: {error}", stream.key());
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

/// Goes on with the recordings of a stream, which are `parts`, that this process has had before. Those that are
/// not to be, or whose settings have changed, are stopped by the next [`sweep`].
pub(super) fn take_over(
    server: &Arc<Server>,
    taken: &TakenStream,
    parts: &[RecorderPart],
    inherited: &mut Inherited,
) {
    let stream = &taken.stream;
    for part in parts {
        if let Err(error) = resume(server, taken, part, inherited) {
            let key = stream.key();
            log::warn!("{key}: its recording {error}: another file begins");
        }
    }
}

/// Goes on with a recording, if there is no other of its stream.
fn resume(
    server: &Arc<Server>,
    taken: &TakenStream,
    part: &RecorderPart,
    inherited: &mut Inherited,
) -> Result<(), HandOverError> {
    let stream = &taken.stream;
    let recording = Arc::new(part.recording(stream, server.dvr.totals.clone()));
    let recorder = Recorder::take_over(
        part,
        stream.clone(),
        taken.is_new_log,
        recording.clone(),
        owner(server, stream, &recording),
        inherited,
    )?;
    if server.dvr.add(&recording) {
        server.dvr.run(recorder);
    }
    Ok(())
}

/// Starts a recorder of `stream`, if there is none.
fn start(server: &Arc<Server>, stream: &Arc<Stream>, vhost: &Vhost, from_now: bool) {
    let recording = Arc::new(Recording::new(
        stream.id(),
        stream.key().clone(),
        Settings::of(&vhost.dvr),
        Progress::default(),
        server.dvr.totals.clone(),
    ));
    if server.dvr.add(&recording) {
        let owner = owner(server, stream, &recording);
        let recorder = Recorder::new(stream.clone(), recording, from_now, owner);
        server.dvr.run(recorder);
    }
}

fn owner(
    server: &Arc<Server>,
    stream: &Arc<Stream>,
    recording: &Arc<Recording>,
) -> Box<ServerOwner> {
    Box::new(ServerOwner {
        server: server.clone(),
        stream: stream.clone(),
        recording: recording.clone(),
    })
}
