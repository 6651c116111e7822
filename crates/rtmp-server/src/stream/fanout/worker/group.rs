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
/// Parts of a flush at most that are spread over `mw_latency`.
const MAX_PARTS: u8 = 4;
/// Players of each part at least, so that what waking up for it costs does not count.
const MIN_PLAYERS_OF_PART: usize = 8;

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

/// Time at which a flush begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    at: Instant,
    /// The members are served in parts, if they still are when it begins.
    in_parts: bool,
}

impl Due {
    /// Everybody is sent the news at `at`.
    pub(super) fn at_once(at: Instant) -> Self {
        Self {
            at,
            in_parts: false,
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
    /// The log as of the last look: nobody is sent anything beyond it.
    pub(super) view: View,
    /// The lowest offset that a member read at or after the last flush.
    pub(super) low_water: u64,
    /// True if a member may be waiting for a place to begin.
    pub(super) waiting: bool,
    /// Number of members, the first ones, among whom are those who have waited for the
    /// place that there is now.
    pub(super) beginning: usize,
    /// Time at which the next flush begins: what has come since the last one is sent
    /// `mw_latency` after its first message, at the latest.
    pub(super) mw_deadline: Option<Due>,
    /// The flush that is under way.
    pub(super) flush: Option<Flush>,
}

/// A flush that goes through a group's members from the last to the first.
///
/// So nobody is left out when members come and go meanwhile: who leaves gives
/// its place to the last member, which has been served, and who joins is served
/// on its own.
///
/// Where the server limits what it sends (`admission`), messages are gathered and the
/// members are many, it is made in parts, over `mw_latency`: sent to all at the same moment,
/// a keyframe would fill the queue of a narrow uplink. Each part sends what has come by
/// then, and the next flush follows at once: so each member has its turn once per
/// `mw_latency`, as if all were served together. Those who wait for a place to begin are
/// served apart, as soon as there is one.
#[derive(Debug)]
pub(super) struct Flush {
    /// Time of the present part, or of the next one.
    pub(super) due: Instant,
    /// Time between two parts.
    interval: Duration,
    /// Number of members still to be served: the first ones.
    pub(super) left: usize,
    /// Number of members that the present part leaves; `left` if it is over.
    pub(super) left_by_part: usize,
    /// Number of parts that have not begun.
    parts_left: u8,
    /// In parts: the end of the log as the first one saw it.
    first_end: Option<u64>,
    /// The lowest offset that a member reads at which has been served.
    pub(super) low_water: u64,
    /// True if one that has been served may be waiting for a place to begin.
    pub(super) waiting: bool,
    /// True if the stream had ended when the flush began.
    pub(super) ended: bool,
    /// True if the log was abandoned when the flush began.
    pub(super) abandoned: bool,
}

impl Flush {
    /// Time of the next part after one that was over at `now`. If that was late by less than
    /// half of the interval, the next keeps its time; if by more, they are half of it apart,
    /// so that two parts do not leave together.
    fn next_part(&self, now: Instant) -> Instant {
        (self.due + self.interval).max(now + self.interval / 2)
    }
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

    /// Looks at the log: if there is a new place to begin, those who wait for it are served.
    pub(super) fn look(&mut self, worker: usize) {
        let view = self.log.view(worker, self.at_once(), self.low_water);
        if self.waiting && view.newest_join() != self.view.newest_join() {
            self.beginning = self.members.len();
            // Whoever cannot begin there says so when its turn comes.
            self.waiting = false;
        }
        self.view = view;
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

    /// Number of parts in which the members are served; 1: all at once.
    fn parts(&self) -> u8 {
        if self.at_once() || !self.stream.spreads() || self.stream.mw_latency().is_zero() {
            return 1;
        }
        let parts = u8::try_from(self.members.len() / MIN_PLAYERS_OF_PART);
        parts.unwrap_or(u8::MAX).clamp(1, MAX_PARTS)
    }

    /// Time at which what has come at `now` is to be sent.
    fn gathered(&self, now: Instant) -> Due {
        let (gathering_time, parts) = (self.gathering_time(now), self.parts());
        if parts == 1 || gathering_time < self.stream.mw_latency() {
            return Due::at_once(now + gathering_time);
        }
        Due {
            at: now + gathering_time / u32::from(parts),
            in_parts: true,
        }
    }

    /// The stream has news at `now`: they are sent when they have been gathered.
    pub(super) fn schedule_flush(&mut self, worker: usize, now: Instant) {
        let due = if self.at_once() || self.stream.has_ended() {
            Due::at_once(now)
        } else {
            self.gathered(now)
        };
        // Whoever waits for its first picture is not kept waiting longer.
        if self.waiting && due.at > now {
            self.look(worker);
        }
        if self.flush.as_ref().is_some_and(|it| it.parts_left > 0) {
            if due.at > now {
                // Its next part looks again.
                return;
            }
            self.flush = None;
        }
        self.flush_by(due);
    }

    /// Has the next flush begin at the time of `due`, if it does not begin earlier.
    fn flush_by(&mut self, due: Due) {
        if self.mw_deadline.is_none_or(|earlier| due.at < earlier.at) {
            self.mw_deadline = Some(due);
        }
    }

    /// Time at which somebody is to be served: `now`, or later; none without news.
    pub(super) fn next_flush(&self, now: Instant) -> Option<Instant> {
        if self.beginning > 0 {
            return Some(now);
        }
        let under_way = self.flush.as_ref().map(|flush| flush.due);
        let next = under_way.or(self.mw_deadline.map(|due| due.at));
        next.map(|at| at.max(now))
    }

    /// The flush whose turn it is at `now`, with a look at the log for each of its parts.
    pub(super) fn take_flush(&mut self, worker: usize, now: Instant) -> Flush {
        let mut flush = match self.flush.take() {
            // Those that have been served leave, too.
            Some(it) if it.parts_left > 0 && self.is_over() => self.begin_flush(Due::at_once(now)),
            Some(flush) => flush,
            None => {
                let due = self.mw_deadline.take();
                self.begin_flush(due.unwrap_or(Due::at_once(now)))
            }
        };
        flush.left = flush.left.min(self.members.len());
        if flush.left <= flush.left_by_part {
            self.begin_part(&mut flush, worker, now);
        }
        flush
    }

    /// True if all members are to leave.
    fn is_over(&self) -> bool {
        self.stream.has_ended() || self.log.is_abandoned()
    }

    fn begin_flush(&self, due: Due) -> Flush {
        let members = self.members.len();
        let (parts, interval) = if due.in_parts {
            let parts = self.parts();
            (parts, self.stream.mw_latency() / u32::from(parts))
        } else {
            (1, Duration::ZERO)
        };
        // Asked before the look: what it ended with must be in the view.
        let (ended, abandoned) = (self.stream.has_ended(), self.log.is_abandoned());
        Flush {
            due: due.at,
            interval,
            left: members,
            left_by_part: members,
            parts_left: if ended || abandoned { 1 } else { parts },
            first_end: None,
            low_water: u64::MAX,
            waiting: false,
            ended,
            abandoned,
        }
    }

    /// Looks at the log for those who are served next.
    fn begin_part(&mut self, flush: &mut Flush, worker: usize, now: Instant) {
        if flush.parts_left > 1 && self.parts() == 1 {
            // A reload may have ended it, or most of them have left.
            flush.parts_left = 1;
        }
        let served = flush.left.div_ceil(usize::from(flush.parts_left.max(1)));
        flush.left_by_part = flush.left - served;
        flush.parts_left = flush.parts_left.saturating_sub(1);
        let (at_once, low_water) = (self.at_once(), self.low_water);
        let in_parts = flush.parts_left > 0 || flush.first_end.is_some();
        if !in_parts {
            // It serves those who wait with all others.
            self.view = self.log.view(worker, at_once, low_water);
        } else if self.waiting || flush.parts_left == 0 {
            self.look(worker);
        } else {
            // The worker looks again by itself before the flush ends: to wake it for each
            // message until then would only cost something, as nobody waits for one.
            self.view = self.log.view_unnotified(worker, at_once, low_water);
        }
        if in_parts {
            flush.first_end.get_or_insert(self.view.end);
        }
        // An end between the two wakes nobody: until the look, the worker
        // counts as told already.
        if !flush.ended && self.stream.has_ended() {
            self.flush_by(Due::at_once(now));
        }
    }

    /// The flush goes on later.
    pub(super) fn keep(&mut self, flush: Flush) {
        self.low_water = self.low_water.min(flush.low_water);
        self.waiting |= flush.waiting;
        self.flush = Some(flush);
    }

    /// The present part of the flush is over at `now`.
    pub(super) fn finish_part(&mut self, mut flush: Flush, now: Instant) {
        if flush.parts_left > 0 {
            flush.due = flush.next_part(now);
            self.keep(flush);
            return;
        }
        self.low_water = flush.low_water;
        self.waiting = flush.waiting;
        if flush.first_end.is_some_and(|it| it < self.view.end) {
            // Those who were served first lack what the later parts had.
            let in_parts = self.parts() > 1;
            let at = if in_parts { flush.next_part(now) } else { now };
            self.flush_by(Due { at, in_parts });
        }
    }
}
