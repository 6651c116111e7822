//! The logs of all streams together: whose oldest groups go when memory is
//! short.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use super::index::OldestGroup;
use super::memory::MemoryPool;
use super::{Stream, lock};

/// So much of the limit is made free at once, so that it is not done for each
/// message: a 16th.
const MADE_FREE: u64 = 16;
/// The logs may pass the limit by a quarter of it, until players have let go of
/// what was given up; a publisher whose log has grown so large is then ended.
const OVERDRAFT: u64 = 4;
/// Nobody new may publish for so long after the newest group of a stream had to
/// be given up.
const SCARCE_FOR: Duration = Duration::from_secs(5);

/// The logs of a server's streams.
#[derive(Debug)]
pub struct Logs {
    pool: Arc<MemoryPool>,
    streams: Mutex<Vec<Weak<Stream>>>,
    /// Held by whoever makes room.
    turn: Mutex<()>,
    scarce_until: Mutex<Option<Instant>>,
    /// What messages' times of arrival are counted from.
    epoch: Instant,
}

/// A stream that can give up its oldest group. The greatest goes first: old
/// groups before newest ones, the oldest of each.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    is_newest: Reverse<bool>,
    arrived: Reverse<u64>,
    /// Its position among the streams.
    stream: usize,
}

impl Candidate {
    fn new(group: OldestGroup, stream: usize) -> Self {
        Self {
            is_newest: Reverse(group.is_newest),
            arrived: Reverse(group.arrived),
            stream,
        }
    }
}

impl Logs {
    /// The logs of no stream yet, which may take `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            pool: MemoryPool::new(limit),
            streams: Mutex::default(),
            turn: Mutex::default(),
            scarce_until: Mutex::default(),
            epoch: Instant::now(),
        })
    }

    /// The memory that they share.
    #[must_use]
    pub fn pool(&self) -> &Arc<MemoryPool> {
        &self.pool
    }

    /// Counts `stream` among those that may have to give way.
    pub fn add(&self, stream: &Arc<Stream>) {
        lock(&self.streams).push(Arc::downgrade(stream));
    }

    /// `now` in ms on the server's clock.
    pub(super) fn milliseconds(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.epoch).as_millis();
        u64::try_from(passed).unwrap_or(u64::MAX)
    }

    /// Whether there is room for one more publisher. There is none while
    /// streams lose the very group that who joins is sent.
    #[must_use]
    pub fn has_room(&self, now: Instant) -> bool {
        let scarce = lock(&self.scarce_until).is_some_and(|until| now < until);
        !scarce && !self.pool.is_exhausted()
    }

    /// Whether a log of `held` bytes must not grow: the limit is far behind,
    /// and this one has taken more than twice its share.
    pub(super) fn are_overdrawn_by(&self, held: u64) -> bool {
        let limit = self.pool.limit();
        self.pool.used() > limit.saturating_add(limit / OVERDRAFT)
            && held > self.pool.share().saturating_mul(2)
    }

    /// Gives up the oldest groups of the streams that hold more than their
    /// share, until the limit is kept again.
    pub(super) fn make_room(&self, now: Instant) {
        // Whoever has the turn makes room for us, too.
        let Ok(_turn) = self.turn.try_lock() else {
            return;
        };
        let streams = self.alive();
        let limit = self.pool.limit();
        let target = limit - limit / MADE_FREE;
        let share = self.pool.share();
        let mut kept: u64 = 0;
        let mut candidates = BinaryHeap::new();
        for (position, stream) in streams.iter().enumerate() {
            kept += stream.give_back(stream.index());
            candidates.extend(stream.candidate(share, position));
        }
        while kept > target
            && let Some(candidate) = candidates.pop()
        {
            let stream = &streams[candidate.stream];
            let before = stream.index().kept_bytes();
            let after = stream.give_up_oldest();
            kept = kept.saturating_sub(before.saturating_sub(after));
            if candidate.is_newest.0 {
                *lock(&self.scarce_until) = Some(now + SCARCE_FOR);
            }
            if after < before {
                candidates.extend(stream.candidate(share, candidate.stream));
            }
        }
    }

    /// The streams that are there; the others are forgotten.
    fn alive(&self) -> Vec<Arc<Stream>> {
        let mut streams = lock(&self.streams);
        let mut alive = Vec::with_capacity(streams.len());
        streams.retain(|stream| {
            alive.extend(stream.upgrade());
            stream.strong_count() > 0
        });
        alive
    }
}

impl Stream {
    /// The group that the stream at `position` is to give up if it keeps more
    /// than `share` bytes.
    fn candidate(&self, share: u64, position: usize) -> Option<Candidate> {
        let index = self.index();
        let group = index.oldest_group()?;
        (index.kept_bytes() > share).then(|| Candidate::new(group, position))
    }
}
