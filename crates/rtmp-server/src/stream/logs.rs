//! The logs of all streams together: bounds the memory that they take, and
//! chooses whose oldest groups go when it is short.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use super::log::Log;
use super::log::index::OldestGroup;
use super::memory::MemoryPool;
use super::sync::lock;

/// Part of the limit that is made free at once, so that it is not done for each
/// message: a 16th.
const FREED_DIVISOR: u64 = 16;
/// The logs may pass the limit by a quarter of it, until players have let go of
/// what was given up; a publisher whose log has grown so large is then ended.
const EXCESS_DIVISOR: u64 = 4;
/// Nobody new may publish for so long after the newest group of a stream had to
/// be given up.
const SCARCE_FOR: Duration = Duration::from_secs(5);

/// The logs of a server's streams.
#[derive(Debug)]
pub struct Logs {
    pool: Arc<MemoryPool>,
    logs: Mutex<Vec<Weak<Log>>>,
    /// Held by whoever makes room.
    turn: Mutex<()>,
    scarce_until: Mutex<Option<Instant>>,
    /// Messages' times of arrival are counted from here.
    epoch: Instant,
}

/// A log that can give up its oldest group. The greatest goes first: old
/// groups before newest ones, the oldest of each.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    is_newest: Reverse<bool>,
    arrived: Reverse<u64>,
    /// Its position among the logs.
    log: usize,
}

impl Candidate {
    /// The oldest group of the log at `position`, if it keeps more than `share`
    /// bytes.
    fn of(log: &Log, position: usize, share: u64) -> Option<Self> {
        let index = log.index();
        let OldestGroup { arrived, is_newest } = index.oldest_group()?;
        (index.kept_bytes() > share).then_some(Self {
            is_newest: Reverse(is_newest),
            arrived: Reverse(arrived),
            log: position,
        })
    }
}

impl Logs {
    /// The logs of no stream yet, which may take `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Arc<Self> {
        Self::since(limit, Instant::now())
    }

    /// The same with times of arrival counted from `epoch`.
    #[must_use]
    pub(crate) fn since(limit: u64, epoch: Instant) -> Arc<Self> {
        Arc::new(Self {
            pool: MemoryPool::new(limit),
            logs: Mutex::default(),
            turn: Mutex::default(),
            scarce_until: Mutex::default(),
            epoch,
        })
    }

    /// The memory that they share.
    #[must_use]
    pub fn pool(&self) -> &Arc<MemoryPool> {
        &self.pool
    }

    /// Counts `log` among those that may have to give way.
    pub(super) fn add(&self, log: &Arc<Log>) {
        lock(&self.logs).push(Arc::downgrade(log));
    }

    /// Times of arrival are counted from here.
    pub(super) fn epoch(&self) -> Instant {
        self.epoch
    }

    /// `now` in ms on the server's clock.
    pub(super) fn milliseconds(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.epoch).as_millis();
        u64::try_from(passed).unwrap_or(u64::MAX)
    }

    /// True if there is room for one more publisher. There is none while
    /// streams lose the very group that who joins is sent.
    #[must_use]
    pub fn has_room(&self, now: Instant) -> bool {
        let scarce = lock(&self.scarce_until).is_some_and(|until| now < until);
        !scarce && !self.pool.is_exhausted()
    }

    /// True if a log of `held` bytes must not grow: the limit is far behind,
    /// and this one has taken more than twice its share.
    pub(super) fn forbid_growth_of(&self, held: u64) -> bool {
        let limit = self.pool.limit();
        self.pool.used() > limit.saturating_add(limit / EXCESS_DIVISOR)
            && held > self.pool.share().saturating_mul(2)
    }

    /// Gives up the oldest groups of the logs that hold more than their share,
    /// until the limit is kept again.
    pub(super) fn make_room(&self, now: Instant) {
        // Whoever has the turn makes room for us, too.
        let Ok(_turn) = self.turn.try_lock() else {
            return;
        };
        let logs = self.alive();
        let limit = self.pool.limit();
        // Segments of HLS go with their windows, and are not among these logs.
        let held: u64 = logs.iter().map(|log| log.held().bytes()).sum();
        let others = self.pool.used().saturating_sub(held);
        let target = (limit - limit / FREED_DIVISOR).saturating_sub(others);
        let share = self.pool.share();
        let mut kept: u64 = 0;
        let mut candidates = BinaryHeap::new();
        for (position, log) in logs.iter().enumerate() {
            kept += log.give_back(log.index());
            candidates.extend(Candidate::of(log, position, share));
        }
        while kept > target
            && let Some(candidate) = candidates.pop()
        {
            let log = &logs[candidate.log];
            let before = log.index().kept_bytes();
            let after = log.give_up_oldest();
            kept = kept.saturating_sub(before.saturating_sub(after));
            if candidate.is_newest.0 {
                *lock(&self.scarce_until) = Some(now + SCARCE_FOR);
            }
            if after < before {
                candidates.extend(Candidate::of(log, candidate.log, share));
            }
        }
    }

    /// The logs that are there; the others are forgotten.
    fn alive(&self) -> Vec<Arc<Log>> {
        let mut logs = lock(&self.logs);
        let mut alive = Vec::with_capacity(logs.len());
        logs.retain(|log| {
            alive.extend(log.upgrade());
            log.strong_count() > 0
        });
        alive
    }
}
