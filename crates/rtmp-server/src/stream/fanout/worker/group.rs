//! The players of one stream at a worker, and the flushes that serve them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::stream::fanout::handoff::Delivery;
use crate::stream::fanout::player::Player;
use crate::stream::log::Log;
use crate::stream::log::index::View;
use crate::stream::{FlvFraming, Stream};

/// Time for which messages are gathered that come after a pause: those that have come
/// together are sent together.
const GATHER_AFTER_PAUSE: Duration = Duration::from_millis(20);

/// The groups that a worker may have of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GroupKind {
    /// RTMP viewers: messages are gathered.
    Gathered,
    /// Other servers: they get each message at once.
    AtOnce,
    /// Those that read FLV tags: messages are gathered.
    Flv,
    /// Those that read FLV tags in WebSocket frames: messages are gathered.
    WebSocketFlv,
}

impl GroupKind {
    /// Number of kinds.
    pub(super) const COUNT: usize = 4;

    /// The kind of the group of players who get `delivery`.
    pub(super) fn of(delivery: &Delivery, at_once: bool) -> Self {
        match (delivery, at_once) {
            (Delivery::Chunks, false) => Self::Gathered,
            (Delivery::Chunks, true) => Self::AtOnce,
            (Delivery::Flv(flv), _) => match flv.framing {
                FlvFraming::Bare => Self::Flv,
                FlvFraming::WebSocket => Self::WebSocketFlv,
            },
        }
    }
}

/// The players of one stream at this worker that are flushed to together.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) stream: Arc<Stream>,
    /// The one of its logs that they read.
    pub(super) log: Arc<Log>,
    pub(super) kind: GroupKind,
    pub(super) members: Vec<usize>,
    /// The log as of the last flush: nobody is sent anything beyond it.
    pub(super) view: View,
    /// The lowest offset that a member read at or after the last flush.
    pub(super) low_water: u64,
    /// True if a member may be waiting for a place to begin.
    pub(super) waiting: bool,
    /// Time at which what has come since is to be sent: `mw_latency` after its
    /// first message, at the latest.
    pub(super) mw_deadline: Option<Instant>,
    /// The flush that is under way.
    pub(super) flush: Option<Flush>,
}

/// A flush that goes through a group's members from the last to the first.
///
/// So nobody is left out when members come and go meanwhile: who leaves gives
/// its place to the last member, which has been served, and who joins is served
/// on its own.
#[derive(Debug)]
pub(super) struct Flush {
    /// Time from which on it was to be made.
    pub(super) due: Instant,
    /// Number of members still to be served: the first ones.
    pub(super) left: usize,
    /// The lowest offset that a member reads at which has been served.
    pub(super) low_water: u64,
    /// True if one that has been served may be waiting for a place to begin.
    pub(super) waiting: bool,
    /// True if the stream had ended when the flush began.
    pub(super) ended: bool,
    /// True if the log was abandoned when the flush began.
    pub(super) abandoned: bool,
}

impl Group {
    /// What stands around their tags; `None`: they get RTMP chunks.
    pub(super) fn framing(&self) -> Option<FlvFraming> {
        match self.kind {
            GroupKind::Gathered | GroupKind::AtOnce => None,
            GroupKind::Flv => Some(FlvFraming::Bare),
            GroupKind::WebSocketFlv => Some(FlvFraming::WebSocket),
        }
    }

    /// True if they get each message at once; else messages are gathered.
    pub(super) fn at_once(&self) -> bool {
        self.kind == GroupKind::AtOnce
    }

    /// A member may have begun to follow the log, at or after the view's
    /// `keep_from`, since the last flush: the next look must not let go of
    /// what it reads.
    pub(super) fn note_position<D>(&mut self, player: &Player<D>) {
        let low_water = player.low_water();
        self.low_water = self.low_water.min(low_water);
        if let Some(flush) = &mut self.flush {
            flush.low_water = flush.low_water.min(low_water);
            flush.waiting |= player.waits();
        }
        self.waiting |= player.waits();
    }

    /// True if there is a new place for those who wait to begin at.
    fn can_begin(&mut self, worker: usize) -> bool {
        let known = self.view.newest_join();
        self.view = self.log.view(worker, self.at_once(), self.low_water);
        self.view.newest_join() != known
    }

    /// Time for which what has come at `now` waits for others to be sent with. After a
    /// pause longer than `mw_latency` its viewers have waited already: a standby has taken
    /// the place of a publisher that had failed, say.
    fn gathering_time(&self, now: Instant) -> Duration {
        let mw_latency = self.stream.mw_latency();
        let pause = self
            .stream
            .milliseconds(now)
            .saturating_sub(self.view.arrived);
        match Duration::from_millis(pause) > mw_latency {
            true => mw_latency.min(GATHER_AFTER_PAUSE),
            false => mw_latency,
        }
    }

    /// The stream has news at `now`: they are sent when they have been gathered.
    pub(super) fn schedule_flush(&mut self, worker: usize, now: Instant) {
        let gathering_time = self.gathering_time(now);
        // Whoever waits for its first picture is not kept waiting longer.
        let at_once =
            self.at_once() || self.stream.has_ended() || self.waiting && self.can_begin(worker);
        let mw_deadline = if at_once { now } else { now + gathering_time };
        self.mw_deadline = Some(
            self.mw_deadline
                .map_or(mw_deadline, |earlier| earlier.min(mw_deadline)),
        );
    }
}
