//! The threads that recorders run on: a slow disk delays recordings, and nobody else.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::recorder::{Recorder, Turn};
use crate::stream::lock;

/// Number of threads; those that have nothing to do are not started.
const THREADS: usize = 4;
/// Interval at which recorders look for news: so much is lost at most if the server is
/// killed.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// What a thread does.
enum Job {
    Record(Box<Recorder>),
    /// All files are finished, and the recorders end.
    Finish(oneshot::Sender<()>),
}

/// The threads of a server's recorders.
#[derive(Debug, Default)]
pub(super) struct Threads([Mutex<Option<Sender<Job>>>; THREADS]);

impl Threads {
    /// Runs `recorder` until its publication ends; those of one stream on one thread.
    ///
    /// # Errors
    /// There is no thread for it.
    pub(super) fn run(&self, recorder: Recorder) -> std::io::Result<()> {
        let number = recorder.stream().id() % THREADS as u64;
        let mut thread = lock(&self.0[usize::try_from(number).unwrap_or(0)]);
        let sender = match &*thread {
            Some(sender) => sender,
            None => {
                let (sender, receiver) = channel();
                let runtime = tokio::runtime::Handle::current();
                let name = format!("dvr-{number}");
                std::thread::Builder::new().name(name).spawn(move || {
                    // Hooks are told on it.
                    let _context = runtime.enter();
                    run(&receiver);
                })?;
                thread.insert(sender)
            }
        };
        let sent = sender.send(Job::Record(Box::new(recorder)));
        sent.map_err(|_| std::io::Error::other("the thread has ended"))
    }

    /// Has all files finished, and waits for it.
    pub(super) async fn finish(&self) {
        let mut finished = Vec::new();
        for thread in &self.0 {
            if let Some(sender) = &*lock(thread) {
                let (done, finishes) = oneshot::channel();
                // An error means that there is no thread, and no recorder.
                if sender.send(Job::Finish(done)).is_ok() {
                    finished.push(finishes);
                }
            }
        }
        for finishes in finished {
            let _ = finishes.await;
        }
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
