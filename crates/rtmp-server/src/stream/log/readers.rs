//! The fan-out workers that read a log.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::waker::Wakers;

/// A worker reads a log twice: for players that get each message at once, and
/// for those whose messages are gathered.
const READERS_PER_WORKER: usize = 2;

/// One worker's interest in a log.
#[derive(Debug, Default)]
struct Watch {
    players: AtomicUsize,
    /// The worker has been woken for news and has not looked yet.
    notified: AtomicBool,
}

/// The workers that may have players of a stream.
///
/// A worker counts a player, or resets its mark, before it looks at the index,
/// and a publisher enters messages into the index before it reads counts and
/// marks. So either the worker sees the messages, or the publisher sees the
/// player and wakes the worker.
#[derive(Debug)]
pub(in crate::stream) struct Readers {
    stream_id: u64,
    watches: Box<[Watch]>,
    wakers: Wakers,
}

impl Readers {
    pub(super) fn new(stream_id: u64, wakers: Wakers) -> Self {
        Self {
            stream_id,
            watches: (0..wakers.workers()).map(|_| Watch::default()).collect(),
            wakers,
        }
    }

    /// Number of readers that the index of the log has.
    pub(super) fn count(&self) -> usize {
        self.recorder() + 1
    }

    /// The number by which the index knows a packager of HLS that begins.
    pub(super) fn packager(&self) -> usize {
        READERS_PER_WORKER * self.watches.len()
    }

    /// The number by which the index knows a recorder while it reads.
    pub(super) fn recorder(&self) -> usize {
        self.packager() + 1
    }

    /// The number by which the index knows these players of a worker.
    pub(super) fn number(worker: usize, at_once: bool) -> usize {
        READERS_PER_WORKER * worker + usize::from(at_once)
    }

    /// Number of players at all workers.
    pub(in crate::stream) fn players(&self) -> usize {
        let players = |watch: &Watch| watch.players.load(Ordering::Relaxed);
        self.watches.iter().map(players).sum()
    }

    pub(in crate::stream) fn add_player(&self, worker: usize) {
        self.watches[worker].players.fetch_add(1, Ordering::SeqCst);
    }

    pub(in crate::stream) fn remove_player(&self, worker: usize) {
        self.watches[worker].players.fetch_sub(1, Ordering::SeqCst);
    }

    /// Wakes each worker with players of this stream, once until it looks.
    pub(in crate::stream) fn notify(&self) {
        for (worker, watch) in self.watches.iter().enumerate() {
            if watch.players.load(Ordering::SeqCst) > 0
                && !watch.notified.swap(true, Ordering::SeqCst)
            {
                self.wakers.wake_for(worker, self.stream_id);
            }
        }
    }

    /// The worker is about to look: what comes from here on wakes it again.
    pub(super) fn reset(&self, worker: usize) {
        self.watches[worker].notified.store(false, Ordering::SeqCst);
    }
}
