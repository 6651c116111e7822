//! Streams: one log each, written once, read by every player at its own pace.
//!
//! A publisher's messages ([`Publication`]) are encoded to chunks once
//! (`writer`) and appended to a file in memory (`log`); `log::index` knows which
//! message lies where, `timeline` when it is to be shown, `pictures` whether it
//! can be, `log::headers` what a joining player needs before it. [`fanout`]
//! sends the file to the players; those that take FLV read a second log, which is
//! written beside the first while somebody needs it ([`FlvLog`]); [`Registry`] finds streams, [`Logs`] bounds
//! the memory that their logs take together.

pub(crate) mod fanout;
mod hls;
mod log;
mod logs;
mod media;
pub(crate) mod memory;
mod merge;
mod part;
mod pictures;
mod publication;
mod publishers;
mod recording;
mod registry;
mod settings;
mod silence;
pub(crate) mod slate_mark;
mod standby;
mod state;
mod subscription;
mod sync;
mod timeline;
mod track;
mod writer;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rtmp_proto::session::{Parameters, StreamKey};
use tokio::sync::watch;

pub(crate) use self::hls::{
    FeedItem, FeedReader, Finished, HlsKeySettings, HlsLog, HlsOutput, HlsPart, HlsSettings,
    KeyUri, Packager, Queries, StartedPackager,
};
pub(crate) use self::log::FlvFraming;
pub(crate) use self::log::LAYOUT as LOG_LAYOUT;
use self::log::Log;
pub(crate) use self::log::headers::{Header, Headers};
pub(crate) use self::log::index::{EntryKind, Retention};
pub(crate) use self::log::tags::LogTag;
pub(crate) use self::log::waker::Wakers;
pub(crate) use logs::Logs;
pub(crate) use media::MediaMessage;
pub(crate) use merge::{LegPublication, LegReport, MergedRelay, MergedRelayPart};
pub(crate) use part::{StreamPart, TakenStream};
pub(crate) use publication::{AppendError, Candidate, Publication};
use publishers::Publishers;
pub(crate) use publishers::{Busy, OrderError, Rank, SecondPublisher, Switch, SwitchReason, Turns};
pub(crate) use recording::{
    Cutter, MessageRead, MessageReader, MessageReaderPart, Plan, TagRead, TagReader, TagReaderPart,
    Verdict, tag_message,
};
pub(crate) use registry::{Registry, RegistryPart};
pub(crate) use settings::StreamSettings;
pub use state::StreamState;
pub(crate) use subscription::{ExpectedPublisher, Subscription};
pub(crate) use sync::lock;
pub(crate) use track::PerTrack;
pub(crate) use writer::Source;
use writer::Writer;

/// Totals of a stream, for reports.
#[derive(Debug, Default)]
pub struct Totals {
    /// Bytes of media received.
    pub bytes_in: AtomicU64,
    /// Messages received.
    pub messages_in: AtomicU64,
    /// Publishers so far.
    pub publishers: AtomicU64,
    /// Number of times that players were too slow and skipped to a keyframe.
    pub skips: AtomicU64,
    /// Bytes sent to players that have gone, and by HLS.
    sent: AtomicU64,
    /// The most bytes sent to players that have been reported.
    reported_sent: AtomicU64,
}

/// A stream's log of FLV tags in one framing, which is written as long as somebody holds it.
#[derive(Debug, Clone)]
pub(crate) struct FlvLog {
    log: Arc<Log>,
    framing: FlvFraming,
}

/// A stream: its log, its publisher, its players' view of it.
///
/// Locks are taken in this order: `writer` or `publishers`, the lock within `state`, the
/// index of the log.
#[derive(Debug)]
pub struct Stream {
    id: u64,
    log: Arc<Log>,
    /// Length of the chunks in `log`, in bytes.
    chunk_size: u32,
    logs: Arc<Logs>,
    mw_latency_us: AtomicU64,
    spreads: AtomicBool,
    gop_cache: AtomicBool,
    nodelay: AtomicBool,
    keyframe_timeout_us: AtomicU64,
    writer: Mutex<Writer>,
    /// The writer may have a log of FLV tags in a framing. Written only while `writer` is
    /// locked.
    has_flv_log: [AtomicBool; FlvFraming::COUNT],
    /// What the packager of HLS has made, while there is one.
    hls: Mutex<Option<Arc<HlsOutput>>>,
    /// The number that the next packager's segments begin with at least.
    next_hls_segment: AtomicU64,
    /// Keyframes come further apart than they first did.
    hls_irregular: AtomicBool,
    /// Locked while a packager is started.
    hls_start: Arc<tokio::sync::Mutex<()>>,
    state: watch::Sender<StreamState>,
    publishers: Mutex<Publishers>,
    /// Time when the last message came, or the last publisher came or went, ms
    /// on the clock of `logs`. Written only while `state` is locked, so that
    /// one who has been replaced does not speak for the present publisher.
    last_sign_ms: AtomicU64,
    /// Time when the present or last publisher came, on the same clock and with the same
    /// lock.
    published_since_ms: AtomicU64,
    subscriptions: watch::Sender<usize>,
    /// The parameters with which the newest player of a pulled stream asked for
    /// it.
    parameters: Mutex<Parameters>,
    /// A pull from an origin has the task of feeding it.
    is_pulled: AtomicBool,
    /// A task shows a slate while nobody publishes it.
    has_slate_task: AtomicBool,
    /// That pull could talk to no origin lately.
    origins_unreachable: AtomicBool,
    totals: Totals,
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Stream {
    /// A stream without publisher, whose players the workers behind `wakers`
    /// will serve, and whose log shares the memory of `logs`.
    #[must_use]
    pub fn new(
        id: u64,
        key: StreamKey,
        settings: &StreamSettings,
        wakers: Wakers,
        logs: Arc<Logs>,
        now: Instant,
    ) -> Self {
        let log = Arc::new(Log::new(
            id,
            Arc::new(key),
            settings.chunk_size,
            settings.retention,
            wakers,
            logs.pool().clone(),
        ));
        logs.add(&log);
        let stream = Self {
            id,
            log,
            chunk_size: settings.chunk_size,
            mw_latency_us: AtomicU64::new(0),
            spreads: AtomicBool::new(false),
            gop_cache: AtomicBool::new(settings.gop_cache),
            nodelay: AtomicBool::new(settings.nodelay),
            keyframe_timeout_us: AtomicU64::new(0),
            writer: Mutex::new(Writer::new(settings.chunk_size)),
            has_flv_log: Default::default(),
            hls: Mutex::default(),
            next_hls_segment: AtomicU64::new(0),
            hls_irregular: AtomicBool::new(false),
            hls_start: Arc::default(),
            state: watch::Sender::default(),
            publishers: Mutex::new(Publishers::new(settings.turns)),
            last_sign_ms: AtomicU64::new(logs.milliseconds(now)),
            published_since_ms: AtomicU64::new(0),
            logs,
            subscriptions: watch::Sender::new(0),
            parameters: Mutex::default(),
            is_pulled: AtomicBool::new(false),
            has_slate_task: AtomicBool::new(false),
            origins_unreachable: AtomicBool::new(false),
            totals: Totals::default(),
        };
        stream.apply(settings);
        stream
    }

    /// Takes over changed settings, all but the chunk size.
    pub fn apply(&self, settings: &StreamSettings) {
        self.mw_latency_us
            .store(microseconds(settings.mw_latency), Ordering::Relaxed);
        self.spreads.store(settings.spreads, Ordering::Relaxed);
        self.keyframe_timeout_us
            .store(microseconds(settings.keyframe_timeout), Ordering::Relaxed);
        self.gop_cache.store(settings.gop_cache, Ordering::Relaxed);
        lock(&self.publishers).turns = settings.turns;
        // Without gathering nothing may wait for an acknowledgement, which the
        // peer may delay by 40 ms.
        let nodelay = settings.nodelay || settings.mw_latency.is_zero();
        self.nodelay.store(nodelay, Ordering::Relaxed);
        self.log.index().set_retention(settings.retention);
        for flv in self.present_flv_logs() {
            flv.index().set_retention(settings.retention);
        }
    }

    /// Unique among the streams of this process.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The stream's name.
    #[must_use]
    pub fn key(&self) -> &Arc<StreamKey> {
        self.log.key()
    }

    /// Totals of what has come in.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Counts bytes that a player was sent, which has gone or comes by HLS.
    pub(crate) fn count_sent(&self, bytes: u64) {
        self.totals.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes sent to players that have gone, and by HLS.
    pub(crate) fn sent_to_former_players(&self) -> u64 {
        self.totals.sent.load(Ordering::Relaxed)
    }

    /// The bytes sent to players, of which `counted` were counted one player after the
    /// other: one that went meanwhile may be missing. A counter must never fall.
    pub(crate) fn report_sent(&self, counted: u64) -> u64 {
        let reported = &self.totals.reported_sent;
        reported.fetch_max(counted, Ordering::Relaxed).max(counted)
    }

    /// Number of pictures that have come.
    pub(crate) fn pictures(&self) -> u64 {
        self.log.index().pictures()
    }

    /// Metadata and decoders' configurations in force.
    pub(crate) fn headers(&self) -> Arc<Headers> {
        self.log.index().headers()
    }

    /// Number of its players.
    #[must_use]
    pub fn players(&self) -> usize {
        self.log.readers().players()
    }

    /// The bytes of memory that the logs hold.
    ///
    /// # Errors
    /// The kernel's refusal to say.
    pub fn memory(&self) -> io::Result<u64> {
        let flv = self.present_flv_logs();
        let flv: io::Result<u64> = flv.iter().map(|flv| flv.memory()).sum();
        let hls = self.hls().map_or(Ok(0), |hls| hls.log().memory());
        Ok(self.log.memory()? + flv? + hls?)
    }

    /// The log of FLV tags in this framing, for as long as it is held. It is made for the
    /// first who asks, and begins with a copy of the newest group of pictures.
    ///
    /// # Errors
    /// No descriptor or no memory left.
    pub(crate) fn flv_log(&self, framing: FlvFraming) -> io::Result<FlvLog> {
        let mut writer = lock(&self.writer);
        let log = writer.obtain_flv(framing, &self.log, &self.logs)?;
        self.has_flv_log[framing as usize].store(true, Ordering::Relaxed);
        Ok(FlvLog { log, framing })
    }

    /// True if [`Stream::flv_log`] most likely has nothing to copy.
    #[must_use]
    pub(crate) fn has_flv_log(&self, framing: FlvFraming) -> bool {
        self.has_flv_log[framing as usize].load(Ordering::Relaxed)
    }

    /// True if the writer may have a log of FLV tags.
    fn has_any_flv_log(&self) -> bool {
        self.has_flv_log
            .iter()
            .any(|has_log| has_log.load(Ordering::Relaxed))
    }

    /// The logs of FLV tags that there are. Most streams have none, and their writers are
    /// not locked.
    fn present_flv_logs(&self) -> Vec<Arc<Log>> {
        match self.has_any_flv_log() {
            true => lock(&self.writer).flv().cloned().collect(),
            false => Vec::new(),
        }
    }

    /// Gives the logs of FLV tags back that nobody has held for a while.
    fn sweep_flv_logs(&self, now: Instant) {
        let mut writer = lock(&self.writer);
        let unneeded = writer.sweep_flv(now);
        for framing in [FlvFraming::Bare, FlvFraming::WebSocket] {
            let has_log = writer.flv_in(framing).is_some();
            self.has_flv_log[framing as usize].store(has_log, Ordering::Relaxed);
        }
        drop(writer);
        // Last: to free much memory takes time, and the publisher waits for the writer.
        drop(unneeded);
    }

    /// The media that a player will get, as far as the newest group and the
    /// headers in force tell.
    #[must_use]
    pub(crate) fn media(&self) -> PerTrack<bool> {
        self.log.index().media()
    }

    /// True if somebody has published something here, ever.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        !self.log.file().is_empty()
    }

    /// Follows what there is to play.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<StreamState> {
        self.state.subscribe()
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

    /// Claims the task of showing a slate; `false` if somebody has it.
    #[must_use]
    pub(crate) fn claim_slate(&self) -> bool {
        !self.has_slate_task.swap(true, Ordering::SeqCst)
    }

    /// Gives that task back.
    pub(crate) fn release_slate(&self) {
        self.has_slate_task.store(false, Ordering::SeqCst);
    }

    /// Has the next pull ask with `parameters`: a token may have expired with
    /// which an earlier one did.
    pub fn set_parameters(&self, parameters: &Parameters) {
        lock(&self.parameters).clone_from(parameters);
    }

    /// The parameters that a pull is to ask with.
    #[must_use]
    pub fn parameters(&self) -> Parameters {
        lock(&self.parameters).clone()
    }

    /// All origins have been asked for the stream at `now`, and none has it;
    /// `answered`: one of them at least could be talked to.
    pub fn all_origins_failed(&self, answered: bool, now: Instant) {
        let were_unreachable = self.origins_unreachable.swap(!answered, Ordering::Relaxed);
        self.state.send_modify(|state| {
            if were_unreachable && answered {
                // Its publisher may need a while to return to where it is missed.
                self.note_sign(now);
            }
            state.failed_rounds += 1;
        });
    }

    /// True if no origin that it is pulled from can be talked to.
    #[must_use]
    pub fn origins_unreachable(&self) -> bool {
        self.origins_unreachable.load(Ordering::Relaxed)
    }

    /// Length of the chunks in the log, in bytes.
    #[must_use]
    pub fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    /// True if a publisher is there.
    #[must_use]
    pub fn is_published(&self) -> bool {
        self.state.borrow().present
    }

    /// True if a publisher is there, or there is something to play without one.
    pub(crate) fn is_playable(&self) -> bool {
        let state = self.state.borrow();
        state.present || state.live
    }

    /// Time since the present publisher came.
    pub(crate) fn published_for(&self, now: Instant) -> Option<Duration> {
        let state = self.state.borrow();
        let since = self.published_since_ms.load(Ordering::Relaxed);
        let ms = self.logs.milliseconds(now).saturating_sub(since);
        state.present.then(|| Duration::from_millis(ms))
    }

    /// Time without a publisher; `None` while there is one, or one is expected.
    #[must_use]
    pub fn unpublished_for(&self, now: Instant) -> Option<Duration> {
        let state = self.state.borrow();
        (!state.has_publisher()).then(|| self.silence(now))
    }

    /// There is something to play, which who went on air in `turn` has sent.
    fn set_live(&self, turn: u64) {
        if !self.state.borrow().knows_media_of(turn) {
            self.state.send_modify(|state| {
                state.live = true;
                state.sent_turn = state.sent_turn.max(turn);
            });
        }
    }

    /// Ends the stream for good: its players are told and let go.
    pub fn end(&self) {
        self.state.send_modify(|state| state.ended = true);
        self.log.readers().notify();
    }

    /// True if the stream has ended for good.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.state.borrow().ended
    }

    fn mw_latency(&self) -> Duration {
        Duration::from_micros(self.mw_latency_us.load(Ordering::Relaxed))
    }

    /// True if many players get what is gathered in parts.
    fn spreads(&self) -> bool {
        self.spreads.load(Ordering::Relaxed)
    }

    /// Time for which a publication's pictures are held back for want of a
    /// keyframe.
    fn keyframe_timeout(&self) -> Duration {
        Duration::from_micros(self.keyframe_timeout_us.load(Ordering::Relaxed))
    }

    /// True if a player begins at the newest keyframe.
    fn gop_cache(&self) -> bool {
        self.gop_cache.load(Ordering::Relaxed)
    }

    /// True if players' sockets send small packets at once.
    fn nodelay(&self) -> bool {
        self.nodelay.load(Ordering::Relaxed)
    }
}
