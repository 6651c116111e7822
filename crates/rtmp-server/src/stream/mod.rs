//! Streams: one log each, written once, read by every player at its own pace.
//!
//! A publisher's messages are encoded to chunks once (`writer`) and appended to a
//! file in memory ([`mod@file`]); [`index`] knows which message lies where, [`timeline`]
//! when it is to be shown, `pictures` whether it can be, [`headers`] what a joining
//! player needs before it.
//! [`fanout`] sends the file to the players; [`registry`] finds streams.

mod encoding;
pub mod fanout;
pub mod file;
pub mod headers;
pub mod index;
pub mod logs;
pub mod memory;
mod pictures;
mod publication;
mod readdressed;
pub mod registry;
pub mod timeline;
mod writer;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rtmp_proto::session::{Parameters, StreamKey};
use tokio::sync::watch;

use fanout::Wakers;
use file::LogFile;
use index::{Index, Retention, View};
use logs::Logs;
use memory::Holding;
pub use publication::{AppendError, Busy, Publication};
pub use writer::Source;
use writer::Writer;

/// The message stream that every publisher's messages are encoded for: the one
/// that nearly every player plays on.
pub const MESSAGE_STREAM: u32 = 1;

/// A worker reads a log twice: for players that get each message at once, and
/// for those whose messages are gathered.
const READERS_PER_WORKER: usize = 2;

/// The number by which the index knows these players of a worker.
fn reader(worker: usize, at_once: bool) -> usize {
    READERS_PER_WORKER * worker + usize::from(at_once)
}

/// What a stream takes from its vhost's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSettings {
    /// Length of the chunks in the log, in bytes; fixed for the stream's life.
    pub chunk_size: u32,
    /// How long messages are gathered before they are sent.
    pub mw_latency: Duration,
    /// Whether players begin at the newest keyframe, or wait for the next.
    pub gop_cache: bool,
    /// Whether players' sockets send small packets at once where messages are
    /// gathered, too. Where they are not they do in any case.
    pub nodelay: bool,
    /// How long a publication's pictures are held back for want of a keyframe.
    pub keyframe_timeout: Duration,
    /// How much of the past is kept.
    pub retention: Retention,
}

/// Whether there is anything to play.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamState {
    /// Counts publishers; the present one holds the newest number.
    pub generation: u64,
    /// The publisher has sent something.
    pub live: bool,
    /// The publisher of that generation is there.
    pub present: bool,
    /// So many may be about to publish: a hook is asked about them, or an
    /// origin that the stream is pulled from has them.
    pub expected: usize,
    /// The stream has ended for good: it is on its way out of the registry.
    pub ended: bool,
    /// How often all origins have been asked for it in vain.
    pub failed_rounds: u64,
}

impl StreamState {
    /// Whether somebody publishes the stream or may be about to, so that
    /// whoever waits for it waits on.
    #[must_use]
    pub fn has_publisher(&self) -> bool {
        self.present || self.expected > 0
    }
}

/// Who publishes at present.
#[derive(Debug)]
struct Presence {
    generation: u64,
    /// Whether the publisher of that generation is still there.
    present: bool,
    /// When the last message came, or the last publisher came or went.
    last_sign: Instant,
}

/// One worker's interest in a stream.
#[derive(Debug, Default)]
struct Watch {
    players: AtomicUsize,
    /// The worker has been told of news and has not looked yet.
    told: AtomicBool,
}

/// Totals of a stream, for reports.
#[derive(Debug, Default)]
pub struct Totals {
    /// Bytes of media received.
    pub bytes_in: AtomicU64,
    /// Messages received.
    pub messages_in: AtomicU64,
    /// Publishers so far.
    pub publishers: AtomicU64,
}

/// A stream: its log, its publisher, its players' view of it.
#[derive(Debug)]
pub struct Stream {
    id: u64,
    key: Arc<StreamKey>,
    chunk_size: u32,
    mw_latency_us: AtomicU64,
    gop_cache: AtomicBool,
    nodelay: AtomicBool,
    keyframe_timeout_us: AtomicU64,
    writer: Mutex<Writer>,
    index: Mutex<Index>,
    log: LogFile,
    logs: Arc<Logs>,
    /// What the log takes of the memory that all logs share.
    held: Holding,
    presence: Mutex<Presence>,
    state: watch::Sender<StreamState>,
    subscriptions: watch::Sender<usize>,
    /// What the newest player of a pulled stream said beside its name.
    parameters: Mutex<Parameters>,
    /// Whether a pull from an origin feeds it.
    is_pulled: AtomicBool,
    /// Whether that pull could talk to no origin lately.
    origins_unreachable: AtomicBool,
    watches: Box<[Watch]>,
    wakers: Wakers,
    totals: Totals,
}

/// Somebody who plays a stream or waits to: as long as it is held, the stream
/// is wanted.
#[derive(Debug)]
pub struct Subscription {
    stream: Arc<Stream>,
}

impl Subscription {
    /// The stream that it is a subscription for.
    #[must_use]
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.stream
            .subscriptions
            .send_modify(|subscriptions| *subscriptions -= 1);
    }
}

/// Somebody who may be about to publish: as long as it is held, those who wait
/// for the stream wait on.
#[derive(Debug)]
pub struct ExpectedPublisher {
    stream: Arc<Stream>,
}

impl Drop for ExpectedPublisher {
    fn drop(&mut self) {
        self.stream.state.send_modify(|state| state.expected -= 1);
    }
}

/// Locks `mutex`. A panic elsewhere must not take every stream with it: what
/// the locks guard here is whole between any two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Stream {
    /// A stream without publisher, whose players the workers behind
    /// `wakers` will serve, and whose log shares the memory of `logs`.
    #[must_use]
    pub fn new(
        id: u64,
        key: StreamKey,
        settings: &StreamSettings,
        wakers: Wakers,
        logs: Arc<Logs>,
        now: Instant,
    ) -> Self {
        let log = LogFile::new(&format!("rtmp:{key}"));
        let workers = wakers.workers();
        let state = StreamState {
            generation: 0,
            live: false,
            present: false,
            expected: 0,
            ended: false,
            failed_rounds: 0,
        };
        let stream = Self {
            id,
            key: Arc::new(key),
            chunk_size: settings.chunk_size,
            mw_latency_us: AtomicU64::new(0),
            gop_cache: AtomicBool::new(settings.gop_cache),
            nodelay: AtomicBool::new(settings.nodelay),
            keyframe_timeout_us: AtomicU64::new(0),
            writer: Mutex::new(Writer::new()),
            index: Mutex::new(Index::new(settings.retention, READERS_PER_WORKER * workers)),
            log,
            held: Holding::new(logs.pool().clone()),
            logs,
            presence: Mutex::new(Presence {
                generation: 0,
                present: false,
                last_sign: now,
            }),
            state: watch::Sender::new(state),
            subscriptions: watch::Sender::new(0),
            parameters: Mutex::default(),
            is_pulled: AtomicBool::new(false),
            origins_unreachable: AtomicBool::new(false),
            watches: (0..workers).map(|_| Watch::default()).collect(),
            wakers,
            totals: Totals::default(),
        };
        stream.apply(settings);
        stream
    }

    /// Takes over changed settings, all but the chunk size.
    pub fn apply(&self, settings: &StreamSettings) {
        self.mw_latency_us
            .store(microseconds(settings.mw_latency), Ordering::Relaxed);
        self.keyframe_timeout_us
            .store(microseconds(settings.keyframe_timeout), Ordering::Relaxed);
        self.gop_cache.store(settings.gop_cache, Ordering::Relaxed);
        // Without gathering nothing may wait for an acknowledgement, which the
        // peer may delay by 40 ms.
        let nodelay = settings.nodelay || settings.mw_latency.is_zero();
        self.nodelay.store(nodelay, Ordering::Relaxed);
        lock(&self.index).set_retention(settings.retention);
    }

    /// Unique among the streams of this process.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The stream's name.
    #[must_use]
    pub fn key(&self) -> &Arc<StreamKey> {
        &self.key
    }

    /// What has come in.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// How many players it has.
    #[must_use]
    pub fn players(&self) -> usize {
        self.watches
            .iter()
            .map(|watch| watch.players.load(Ordering::Relaxed))
            .sum()
    }

    /// The bytes of memory that the log holds.
    ///
    /// # Errors
    /// The kernel's refusal to say.
    pub fn memory(&self) -> io::Result<u64> {
        self.log.memory()
    }

    /// Whether somebody has published something here, ever.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        !self.log.is_empty()
    }

    /// Follows whether there is something to play.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<StreamState> {
        self.state.subscribe()
    }

    /// Becomes one of those who want the stream.
    #[must_use]
    pub fn add_subscription(self: &Arc<Self>) -> Subscription {
        self.subscriptions
            .send_modify(|subscriptions| *subscriptions += 1);
        Subscription {
            stream: self.clone(),
        }
    }

    /// Somebody may be about to publish the stream.
    #[must_use]
    pub fn expect_publisher(self: &Arc<Self>) -> ExpectedPublisher {
        self.state.send_modify(|state| state.expected += 1);
        ExpectedPublisher {
            stream: self.clone(),
        }
    }

    /// Follows how many want the stream: players, and those who wait to be.
    #[must_use]
    pub fn subscriptions(&self) -> watch::Receiver<usize> {
        self.subscriptions.subscribe()
    }

    /// Claims the task of feeding the stream from an origin; `false` if
    /// somebody has it.
    #[must_use]
    pub fn claim_pull(&self) -> bool {
        !self.is_pulled.swap(true, Ordering::SeqCst)
    }

    /// Gives that task back.
    pub fn release_pull(&self) {
        self.is_pulled.store(false, Ordering::SeqCst);
    }

    /// Has the next pull ask with `parameters`: a token may have expired with
    /// which an earlier one did.
    pub fn set_parameters(&self, parameters: &Parameters) {
        lock(&self.parameters).clone_from(parameters);
    }

    /// What a pull is to ask with.
    #[must_use]
    pub fn parameters(&self) -> Parameters {
        lock(&self.parameters).clone()
    }

    /// All origins have been asked for the stream at `now`, and none has it;
    /// `answered`: one of them at least could be talked to.
    pub fn all_origins_failed(&self, answered: bool, now: Instant) {
        let were_unreachable = self.origins_unreachable.swap(!answered, Ordering::Relaxed);
        if were_unreachable && answered {
            // Its publisher may need a while to return to where it is missed.
            lock(&self.presence).last_sign = now;
        }
        self.state.send_modify(|state| state.failed_rounds += 1);
    }

    /// Whether no origin that it is pulled from can be talked to.
    #[must_use]
    pub fn origins_unreachable(&self) -> bool {
        self.origins_unreachable.load(Ordering::Relaxed)
    }

    /// Length of the chunks in the log, in bytes.
    #[must_use]
    pub fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    /// Whether a publisher is there.
    #[must_use]
    pub fn is_published(&self) -> bool {
        lock(&self.presence).present
    }

    /// How long there has been no publisher; `None` while there is one, or one
    /// is expected.
    #[must_use]
    pub fn unpublished_for(&self, now: Instant) -> Option<Duration> {
        if self.state.borrow().expected > 0 {
            return None;
        }
        let presence = lock(&self.presence);
        (!presence.present).then(|| now.saturating_duration_since(presence.last_sign))
    }

    /// There is something to play.
    fn set_live(&self) {
        if !self.state.borrow().live {
            self.state.send_modify(|state| state.live = true);
        }
    }

    /// Ends the stream for good: its players are told and let go.
    pub fn end(&self) {
        self.state.send_modify(|state| state.ended = true);
        self.tell_workers();
    }

    /// Whether the stream has ended for good.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.state.borrow().ended
    }

    /// Tells each worker with players of this stream, once until it looks.
    fn tell_workers(&self) {
        for (worker, watch) in self.watches.iter().enumerate() {
            if watch.players.load(Ordering::SeqCst) > 0 && !watch.told.swap(true, Ordering::SeqCst)
            {
                self.wakers.wake_for(worker, self.id);
            }
        }
    }

    /// The log as it is now, for a worker that has been told or has a player
    /// join: see [`Index::look`]. `at_once`: for those players of the worker
    /// that get each message at once.
    fn look(&self, worker: usize, at_once: bool, low_water: u64) -> View {
        self.watches[worker].told.store(false, Ordering::SeqCst);
        lock(&self.index).look(reader(worker, at_once), low_water)
    }

    /// The worker has no such player any more.
    fn look_no_more(&self, worker: usize, at_once: bool) {
        lock(&self.index).leave(reader(worker, at_once));
    }

    /// Gives back of the log what nobody can need any more; returns what is
    /// kept, in bytes.
    fn give_back(&self, mut index: MutexGuard<'_, Index>) -> u64 {
        let unneeded = index.trim();
        let kept = index.kept_bytes();
        let log_bytes = index.end() - file::releasable(unneeded);
        self.held.set(log_bytes + index.entry_bytes());
        drop(index);
        if let Err(error) = self.log.release(unneeded) {
            log::warn!(
                "{}: memory of the log cannot be given back: {error}",
                self.key
            );
        }
        kept
    }

    /// Gives up the oldest group of the log; returns what is kept, in bytes.
    fn give_up_oldest(&self) -> u64 {
        let mut index = self.index();
        index.give_up_oldest();
        let kept = self.give_back(index);
        // What a player is about to read is kept until its worker has looked.
        self.tell_workers();
        kept
    }

    fn mw_latency(&self) -> Duration {
        Duration::from_micros(self.mw_latency_us.load(Ordering::Relaxed))
    }

    /// How long a publication's pictures are held back for want of a keyframe.
    fn keyframe_timeout(&self) -> Duration {
        Duration::from_micros(self.keyframe_timeout_us.load(Ordering::Relaxed))
    }

    /// Whether players' sockets send small packets at once.
    fn nodelay(&self) -> bool {
        self.nodelay.load(Ordering::Relaxed)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        lock(&self.index)
    }

    fn player_joined(&self, worker: usize) {
        self.watches[worker].players.fetch_add(1, Ordering::SeqCst);
    }

    fn player_left(&self, worker: usize) {
        self.watches[worker].players.fetch_sub(1, Ordering::SeqCst);
    }
}
