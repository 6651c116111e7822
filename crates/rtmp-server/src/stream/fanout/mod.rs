//! Sends streams to their players: one thread per core, each with an epoll of
//! its own. A player is a socket and an offset into its stream's log.

mod patience;
mod player;
mod queue;
mod waker;
mod worker;

use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

pub use waker::Wakers;
use worker::Worker;

use super::{Stream, lock};

/// The player's side of the conversation, which the workers know nothing of:
/// what the player sends is handed here.
pub trait Dialogue: Send + 'static {
    /// Takes what the player has sent. Replies are appended to `replies`, and
    /// what concerns the delivery to `requests`.
    ///
    /// # Errors
    /// The connection must end, and why.
    fn receive(
        &mut self,
        input: &[u8],
        replies: &mut Vec<u8>,
        requests: &mut Vec<Request>,
    ) -> Result<(), String>;
}

/// What a player asks of its delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Halts, or goes on.
    Pause(bool),
    /// Sound on or off.
    Audio(bool),
    /// Pictures on or off.
    Video(bool),
    /// Wants no more of this stream: socket and dialogue go back.
    Leave,
}

/// What has been delivered to a player so far.
#[derive(Debug, Default)]
pub struct Meter {
    /// Bytes sent.
    pub bytes: AtomicU64,
    /// Pictures sent, as of the last leap of the player in the log.
    pub pictures: AtomicU64,
    /// How often the player was too slow and was moved on to a keyframe.
    pub skips: AtomicU64,
}

/// A player on its way to a worker.
#[derive(Debug)]
pub struct Joining<D> {
    /// Unique among the connections of this process.
    pub id: u64,
    /// The connection, in non-blocking mode, with `TCP_NODELAY`.
    pub socket: TcpStream,
    /// Who understands what the player sends.
    pub dialogue: D,
    /// What it plays.
    pub stream: Arc<Stream>,
    /// The message stream that it plays on.
    pub stream_id: u32,
    /// What is to be sent before the stream.
    pub unsent: Vec<u8>,
    /// What it has asked for already.
    pub requests: Vec<Request>,
    /// Where its delivery is counted.
    pub meter: Arc<Meter>,
    /// Whether it begins at the newest keyframe or waits for the next, where
    /// that is not the stream's setting's to say.
    pub gop_cache: Option<bool>,
    /// Whether it gets each message as soon as that is in the log, whatever
    /// the stream's `mw_latency` is: it is another server's pull, which gathers
    /// for its own players.
    pub at_once: bool,
    /// How long it may take nothing of what is there for it.
    pub send_timeout: Duration,
    /// How much of the stream it wants, on the stream's timeline.
    pub duration: Option<Duration>,
}

/// Why a player has left its worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It asked to: the connection goes on.
    Asked,
    /// It closed the connection.
    Closed,
    /// The connection broke.
    Broken(io::ErrorKind),
    /// What it sent makes no sense, or passes a limit.
    Misbehaved(String),
    /// It took nothing for the send time-out.
    Stalled,
    /// The stream has ended.
    StreamEnded,
    /// It has had as much as it wanted.
    Complete,
    /// It was dismissed: by an operator, or because the server stops.
    Dismissed,
}

/// A player that is no longer a worker's.
#[derive(Debug)]
pub struct Departed<D> {
    /// As it came.
    pub id: u64,
    /// The connection.
    pub socket: TcpStream,
    /// The dialogue, where it stands.
    pub dialogue: D,
    /// What must be sent before anything else: the rest of a message.
    pub unsent: Vec<u8>,
    /// Why it left.
    pub reason: Reason,
}

/// What a worker is asked to do.
#[derive(Debug)]
enum Command<D> {
    Join(Box<Joining<D>>),
    Dismiss(u64),
    DismissAll,
    Stop,
}

/// One worker as others see it.
#[derive(Debug)]
struct Mailbox<D> {
    commands: Mutex<Vec<Command<D>>>,
    /// Players that it has or is about to have.
    players: AtomicUsize,
}

/// All fan-out workers.
#[derive(Debug)]
pub struct Fanout<D> {
    mailboxes: Arc<[Mailbox<D>]>,
    wakers: Wakers,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl<D: Dialogue> Fanout<D> {
    /// Starts one worker for each of `wakers`. Players that leave are
    /// handed to `departed`, on the worker's thread.
    ///
    /// # Errors
    /// No thread or descriptor left.
    pub fn start(
        wakers: Wakers,
        departed: impl Fn(Departed<D>) + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let mailboxes: Arc<[Mailbox<D>]> = (0..wakers.workers())
            .map(|_| Mailbox {
                commands: Mutex::default(),
                players: AtomicUsize::new(0),
            })
            .collect();
        let mut threads = Vec::new();
        for number in 0..wakers.workers() {
            let worker = Worker::new(number, mailboxes.clone(), wakers.clone(), departed.clone())?;
            let name = format!("fanout-{number}");
            threads.push(std::thread::Builder::new().name(name).spawn(move || {
                let _guard = NoPanic;
                worker.run();
            })?);
        }
        Ok(Self {
            mailboxes,
            wakers,
            threads: Mutex::new(threads),
        })
    }

    /// Hands a player to the worker with the fewest.
    pub fn join(&self, joining: Joining<D>) {
        let players = |mailbox: &Mailbox<D>| mailbox.players.load(Ordering::Relaxed);
        let emptiest =
            (0..self.mailboxes.len()).min_by_key(|&number| players(&self.mailboxes[number]));
        let Some(number) = emptiest else { return };
        self.mailboxes[number]
            .players
            .fetch_add(1, Ordering::Relaxed);
        self.send(number, Command::Join(Box::new(joining)));
    }

    /// Lets the player with this id go, wherever it is.
    pub fn dismiss(&self, id: u64) {
        for number in 0..self.mailboxes.len() {
            self.send(number, Command::Dismiss(id));
        }
    }

    /// Lets all players go.
    pub fn dismiss_all(&self) {
        for number in 0..self.mailboxes.len() {
            self.send(number, Command::DismissAll);
        }
    }

    /// How many players each worker has.
    #[must_use]
    pub fn players(&self) -> Vec<usize> {
        self.mailboxes
            .iter()
            .map(|mailbox| mailbox.players.load(Ordering::Relaxed))
            .collect()
    }

    fn send(&self, number: usize, command: Command<D>) {
        lock(&self.mailboxes[number].commands).push(command);
        self.wakers.waker(number).wake();
    }
}

/// Ends the process when a worker panics: without it, its players would hang
/// for ever, and new ones with them. A supervisor starts us again.
struct NoPanic;

impl Drop for NoPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

impl<D> Drop for Fanout<D> {
    fn drop(&mut self) {
        for (number, mailbox) in self.mailboxes.iter().enumerate() {
            lock(&mailbox.commands).push(Command::Stop);
            self.wakers.waker(number).wake();
        }
        for thread in lock(&self.threads).drain(..) {
            // A worker that panicked has said so already.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
