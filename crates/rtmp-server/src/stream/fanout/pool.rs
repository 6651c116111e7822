//! The fan-out workers' threads.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::handoff::{Dialogue, Joining, ReturnedPlayer};
use super::mailbox::{Command, FlushTimes, Mailboxes};
use super::report::{GroupReport, SocketReport};
use super::worker::Worker;
use crate::stream::{Wakers, lock};

/// All fan-out workers.
#[derive(Debug)]
pub(crate) struct Fanout<D> {
    mailboxes: Mailboxes<D>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl<D: Dialogue> Fanout<D> {
    /// Starts one worker for each of `wakers`. Players that leave are handed to
    /// `returned`, on the worker's thread.
    ///
    /// # Errors
    /// No thread or descriptor left.
    pub(crate) fn start(
        wakers: Wakers,
        returned: impl Fn(ReturnedPlayer<D>) + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let workers = wakers.workers();
        let mailboxes = Mailboxes::new(wakers);
        let mut threads = Vec::new();
        for number in 0..workers {
            let worker = Worker::new(number, mailboxes.clone(), returned.clone())?;
            let name = format!("fanout-{number}");
            threads.push(std::thread::Builder::new().name(name).spawn(move || {
                let _guard = AbortOnPanic;
                worker.run();
            })?);
        }
        Ok(Self {
            mailboxes,
            threads: Mutex::new(threads),
        })
    }

    /// Hands a player to the worker with the fewest.
    pub(crate) fn join(&self, joining: Joining<D>) {
        let players = self.mailboxes.players().enumerate();
        let Some((worker, _)) = players.min_by_key(|&(_, players)| players) else {
            return;
        };
        self.mailboxes.add_player(worker);
        let command = Command::Join(Box::new(joining));
        self.mailboxes.send(worker, command);
    }

    /// Lets the player with this id go, wherever it is.
    pub(crate) fn dismiss(&self, id: u64) {
        self.send_to_all(|| Command::Dismiss(id));
    }

    /// Lets all players go.
    pub(crate) fn dismiss_all(&self) {
        self.send_to_all(|| Command::DismissAll);
    }

    /// Tells all players that the server drains.
    pub(crate) fn announce_drain(&self) {
        self.send_to_all(|| Command::AnnounceDrain);
    }

    /// Asks all workers where their players stand. Each answers once, and soon.
    pub(crate) fn report(&self) -> UnboundedReceiver<Vec<GroupReport>> {
        let (answer, answers) = unbounded_channel();
        self.send_to_all(|| Command::Report(answer.clone()));
        answers
    }

    /// Asks all workers how the connections of the players with these ids do.
    pub(crate) fn inspect(&self, mut ids: Vec<u64>) -> UnboundedReceiver<Vec<SocketReport>> {
        ids.sort_unstable();
        let ids: Arc<[u64]> = ids.into();
        let (answer, answers) = unbounded_channel();
        self.send_to_all(|| Command::Inspect(ids.clone(), answer.clone()));
        answers
    }

    /// Durations of the flushes of each worker.
    pub(crate) fn flush_times(&self) -> impl Iterator<Item = &FlushTimes> {
        self.mailboxes.flush_times()
    }

    /// Number of players of each worker.
    #[must_use]
    pub(crate) fn players(&self) -> Vec<usize> {
        self.mailboxes.players().collect()
    }
}

impl<D> Fanout<D> {
    fn send_to_all(&self, command: impl Fn() -> Command<D>) {
        for worker in 0..self.mailboxes.wakers().workers() {
            self.mailboxes.send(worker, command());
        }
    }
}

/// Ends the process when a worker panics: without it, its players would hang
/// for ever, and new ones with them. A supervisor starts us again.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

impl<D> Drop for Fanout<D> {
    fn drop(&mut self) {
        self.send_to_all(|| Command::Stop);
        for thread in lock(&self.threads).drain(..) {
            // A worker that panicked has said so already.
            let _ = thread.join();
        }
    }
}
