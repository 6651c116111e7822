//! The fan-out workers' threads.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;

use super::handoff::{Dialogue, Joining, ReturnedPlayer};
use super::mailbox::{Command, FlushTimes, Mailboxes};
use super::part::{Adopting, Frozen};
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

    /// Has all workers write down their players and stand still. `at_boundary`: each player
    /// that is within a message has the rest of it as bytes of its own.
    pub(crate) fn freeze(&self, at_boundary: bool) -> Frozen {
        let (part, parts) = unbounded_channel();
        let mut held = Vec::new();
        for worker in 0..self.mailboxes.wakers().workers() {
            let (holding, thaw) = std::sync::mpsc::channel();
            held.push(holding);
            let command = Command::Freeze {
                at_boundary,
                part: part.clone(),
                thaw,
            };
            self.mailboxes.send(worker, command);
        }
        Frozen { parts, _held: held }
    }

    /// Goes on with players that this process has had before. Returns when the workers have
    /// them.
    pub(crate) async fn adopt(&self, players: Vec<Adopting<D>>) {
        let workers = self.mailboxes.wakers().workers().max(1);
        let mut shares: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
        for (number, player) in players.into_iter().enumerate() {
            shares[number % workers].push(player);
        }
        let mut adopted = Vec::new();
        for (worker, share) in shares.into_iter().enumerate() {
            for _ in &share {
                self.mailboxes.add_player(worker);
            }
            let (done, is_done) = oneshot::channel();
            self.mailboxes.send(worker, Command::Adopt(share, done));
            adopted.push(is_done);
        }
        for is_done in adopted {
            // An error means that the server ends.
            let _ = is_done.await;
        }
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
