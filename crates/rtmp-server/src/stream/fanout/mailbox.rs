//! The commands to the workers, and how they reach them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use service_kit::metrics::Histogram;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::handoff::Joining;
use super::part::{Adopting, WorkerPart};
use super::report::{GroupReport, SocketReport};
use crate::hand_over::HandOverError;
use crate::stream::{Wakers, lock};

/// Upper bounds of the durations of flushes, in ms.
const FLUSH_BOUNDS_MS: [u64; 10] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000];

/// Durations of flushes: the time from which on a stream's news were to be sent until every
/// player at a worker had been served; of a flush in parts, those of each part.
pub(crate) type FlushTimes = Histogram<{ FLUSH_BOUNDS_MS.len() }>;

/// A command to a worker.
#[derive(Debug)]
pub(super) enum Command<D> {
    Join(Box<Joining<D>>),
    /// Go on with players that this process has had before, and say so.
    Adopt(Vec<Adopting<D>>, oneshot::Sender<()>),
    /// Write down all players, and stand still until the sender is gone. `at_boundary`: none
    /// of them is within a message.
    Freeze {
        at_boundary: bool,
        part: UnboundedSender<Result<WorkerPart, HandOverError>>,
        thaw: std::sync::mpsc::Receiver<()>,
    },
    Dismiss(u64),
    DismissAll,
    /// Tell the players that the server drains.
    AnnounceDrain,
    /// Say where all players stand.
    Report(UnboundedSender<Vec<GroupReport>>),
    /// Say how the connections of the players with these ids do, which are in their order.
    Inspect(Arc<[u64]>, UnboundedSender<Vec<SocketReport>>),
    Stop,
}

/// One worker as others see it.
#[derive(Debug)]
struct Mailbox<D> {
    commands: Mutex<Vec<Command<D>>>,
    /// Number of players that it has or is about to have.
    players: AtomicUsize,
    flush_times: FlushTimes,
}

/// The mailboxes of all workers, and what wakes their owners.
#[derive(Debug)]
pub(super) struct Mailboxes<D> {
    mailboxes: Arc<[Mailbox<D>]>,
    wakers: Wakers,
}

impl<D> Clone for Mailboxes<D> {
    fn clone(&self) -> Self {
        Self {
            mailboxes: self.mailboxes.clone(),
            wakers: self.wakers.clone(),
        }
    }
}

impl<D> Mailboxes<D> {
    /// One empty mailbox for each of `wakers`.
    pub(super) fn new(wakers: Wakers) -> Self {
        let mailboxes = (0..wakers.workers()).map(|_| Mailbox {
            commands: Mutex::default(),
            players: AtomicUsize::new(0),
            flush_times: Histogram::new(FLUSH_BOUNDS_MS),
        });
        Self {
            mailboxes: mailboxes.collect(),
            wakers,
        }
    }

    pub(super) fn wakers(&self) -> &Wakers {
        &self.wakers
    }

    /// Sends a command to the worker number `worker`, and wakes it.
    pub(super) fn send(&self, worker: usize, command: Command<D>) {
        lock(&self.mailboxes[worker].commands).push(command);
        self.wakers.waker(worker).wake();
    }

    /// Takes what the worker number `worker` has been sent.
    pub(super) fn take(&self, worker: usize) -> Vec<Command<D>> {
        std::mem::take(&mut *lock(&self.mailboxes[worker].commands))
    }

    /// Number of players of each worker, in their order.
    pub(super) fn players(&self) -> impl Iterator<Item = usize> {
        let mailboxes = self.mailboxes.iter();
        mailboxes.map(|mailbox| mailbox.players.load(Ordering::Relaxed))
    }

    /// Durations of the flushes of each worker, in their order.
    pub(super) fn flush_times(&self) -> impl Iterator<Item = &FlushTimes> {
        self.mailboxes.iter().map(|mailbox| &mailbox.flush_times)
    }

    /// Counts a flush, or a part of one, of the worker number `worker`.
    pub(super) fn count_flush(&self, worker: usize, duration: Duration) {
        self.mailboxes[worker].flush_times.observe(duration);
    }

    /// Counts a player that the worker is about to have.
    pub(super) fn add_player(&self, worker: usize) {
        self.mailboxes[worker]
            .players
            .fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a player that has left out of the count.
    pub(super) fn remove_player(&self, worker: usize) {
        self.mailboxes[worker]
            .players
            .fetch_sub(1, Ordering::Relaxed);
    }
}
