//! The threads that recorders run on: a slow disk delays recordings to it, and nobody else.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::recorder::{Recorder, RecorderPart, Turn};
use crate::config::dvr_naming::base_directory;
use crate::hand_over::HandedOver;
use crate::stream::lock;

/// Number of threads for the recordings below one directory, which may be a disk of its own;
/// those that have nothing to do are not started.
const THREADS: u64 = 4;
/// Interval at which recorders look for news: so much is lost at most if the server is
/// killed.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// What a thread does.
enum Job {
    Record(Box<Recorder>),
    /// All files are finished, and the recorders end.
    Finish(oneshot::Sender<()>),
    /// The recorders are written down, and stand still until `go_on` has no sender.
    Pause {
        written: oneshot::Sender<Written>,
        go_on: Receiver<Infallible>,
    },
}

/// Recorders for the program that the process becomes.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) parts: Vec<RecorderPart>,
    pub(super) handed_over: HandedOver,
}

/// Threads that stand still until it is dropped.
#[derive(Debug, Default)]
pub(super) struct Paused {
    pub(super) written: Written,
    /// One of the threads does not stand still yet: its disk is slow.
    pub(super) is_late: bool,
    go_on: Vec<Sender<Infallible>>,
}

/// The threads of a server's recorders, by directory and number.
#[derive(Debug, Default)]
pub(super) struct Threads(Mutex<HashMap<(PathBuf, u64), Sender<Job>>>);

impl Threads {
    /// Runs `recorder` until its publication ends; those of one stream on one thread.
    ///
    /// # Errors
    /// There is no thread for it.
    pub(super) fn run(&self, recorder: Recorder) -> std::io::Result<()> {
        let directory = base_directory(&recorder.recording().settings.path);
        let number = recorder.stream().id() % THREADS;
        let mut threads = lock(&self.0);
        let sender = match threads.entry((directory, number)) {
            Entry::Occupied(sender) => sender.into_mut(),
            Entry::Vacant(place) => {
                let (sender, receiver) = channel();
                let runtime = tokio::runtime::Handle::current();
                let name = format!("dvr-{number}");
                std::thread::Builder::new().name(name).spawn(move || {
                    // Hooks are told on it.
                    let _context = runtime.enter();
                    run(&receiver);
                })?;
                place.insert(sender)
            }
        };
        let sent = sender.send(Job::Record(Box::new(recorder)));
        sent.map_err(|_| std::io::Error::other("the thread has ended"))
    }

    /// Has all recorders stand still where they are, with what they have written down. Whoever
    /// waits for a disk longer than `limit` is left out.
    pub(super) async fn pause(&self, limit: Duration) -> Paused {
        let until = tokio::time::Instant::now() + limit;
        let mut paused = Paused::default();
        let mut answers = Vec::new();
        for sender in lock(&self.0).values() {
            let (written, answer) = oneshot::channel();
            let (goes_on, go_on) = channel();
            // An error means that there is no thread, and no recorder.
            if sender.send(Job::Pause { written, go_on }).is_ok() {
                answers.push(answer);
                paused.go_on.push(goes_on);
            }
        }
        for answer in answers {
            match timeout_at(until, answer).await {
                Ok(Ok(written)) => paused.written.extend(written),
                Ok(Err(_)) | Err(_) => paused.is_late = true,
            }
        }
        paused
    }

    /// Has all files finished, and waits for it.
    pub(super) async fn finish(&self) {
        let mut finished = Vec::new();
        for sender in lock(&self.0).values() {
            let (done, finishes) = oneshot::channel();
            // An error means that there is no thread, and no recorder.
            if sender.send(Job::Finish(done)).is_ok() {
                finished.push(finishes);
            }
        }
        for finishes in finished {
            let _ = finishes.await;
        }
    }
}

impl Written {
    fn of(recorders: &[Box<Recorder>]) -> Self {
        let mut all = Self::default();
        for recorder in recorders {
            match recorder.part(&mut all.handed_over) {
                Ok(part) => all.parts.push(part),
                Err(error) => {
                    let key = recorder.stream().key();
                    log::warn!("{key}: its recording {error}: it is not handed over");
                }
            }
        }
        all
    }

    fn extend(&mut self, other: Self) {
        self.parts.extend(other.parts);
        self.handed_over.extend(&other.handed_over);
    }
}

fn run(jobs: &Receiver<Job>) {
    let mut recorders: Vec<Box<Recorder>> = Vec::new();
    let mut wait = POLL_INTERVAL;
    loop {
        let job = match recorders.is_empty() {
            true => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => jobs.recv_timeout(wait),
        };
        let mut done = None;
        match job {
            Ok(Job::Record(recorder)) => recorders.push(recorder),
            Ok(Job::Finish(sender)) => {
                let recordings = recorders.iter().map(|it| it.recording());
                recordings.for_each(|recording| recording.stop());
                done = Some(sender);
            }
            Ok(Job::Pause { written, go_on }) => {
                // Else nobody waits for it any more.
                if !written.is_closed() && written.send(Written::of(&recorders)).is_ok() {
                    // An error is what it waits for.
                    let _ = go_on.recv();
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        loop {
            let mut is_busy = false;
            recorders.retain_mut(|recorder| {
                let turn = recorder.turn(Instant::now(), Timestamp::now());
                is_busy |= turn == Turn::Busy;
                turn != Turn::Over || !recorder.forget()
            });
            wait = match is_busy {
                true => Duration::ZERO,
                false => POLL_INTERVAL,
            };
            if done.is_none() || recorders.is_empty() {
                break;
            }
        }
        // An error means that nobody waits any more.
        done.map(|done| done.send(()));
    }
}
