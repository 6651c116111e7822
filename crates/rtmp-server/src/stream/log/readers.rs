//! The fan-out workers and the tasks that read a log.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

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
    /// Tasks that wait for news, such as forwards.
    tasks: AtomicUsize,
    news: Notify,
}

impl Readers {
    pub(super) fn new(stream_id: u64, wakers: Wakers) -> Self {
        Self {
            stream_id,
            watches: (0..wakers.workers()).map(|_| Watch::default()).collect(),
            wakers,
            tasks: AtomicUsize::new(0),
            news: Notify::new(),
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

    /// Counts a task that will wait for news.
    pub(in crate::stream) fn add_task(&self) {
        self.tasks.fetch_add(1, Ordering::SeqCst);
    }

    pub(in crate::stream) fn remove_task(&self) {
        self.tasks.fetch_sub(1, Ordering::SeqCst);
    }

    /// Waits for news of a task that has been counted. What comes once this is called wakes
    /// it: a task calls it before it looks at the index.
    pub(in crate::stream) fn news(&self) -> Notified<'_> {
        self.news.notified()
    }

    /// Wakes each worker with players of this stream, once until it looks, and the tasks.
    pub(in crate::stream) fn notify(&self) {
        if self.tasks.load(Ordering::SeqCst) > 0 {
            self.news.notify_waiters();
        }
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
