//! Programs that the server runs: ffmpeg for `ingest` and `transcode`, and what `exec` names.
//!
//! [`supervise`] keeps one of them running, [`published`] those of a published stream. They
//! publish and play by RTMP, as any client does.

mod connections;
mod output;
pub(super) mod published;
mod variables;

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rtmp_proto::session::StreamKey;
use service_kit::OneLine;
use service_kit::process::{Exit, Launcher, Program};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Server;
use super::backoff::Backoff;
use super::clients::Clients;
use crate::redact::redacted_words;
use crate::stream::lock;
use published::Publisher;
pub(super) use variables::{fill_in_time, of_stream};

/// The server's end waits so long for programs to end. They are killed before that.
const MAX_FINISH: Duration = Duration::from_secs(5);

/// Time for looking whether there is a program.
const FIND_TIMEOUT: Duration = Duration::from_secs(5);

/// What a server knows of its programs.
#[derive(Debug)]
pub(crate) struct Programs {
    launcher: Launcher,
    running: AtomicUsize,
    /// Their process groups.
    groups: Mutex<HashSet<u32>>,
    /// Ends all of them.
    stop: CancellationToken,
    tasks: TaskTracker,
    /// The streams that a task runs programs for, by their ids, with what it is told of who
    /// publishes them.
    watched: Mutex<HashMap<u64, Arc<watch::Sender<Publisher>>>>,
    /// The streams that programs make of others, with their numbers: those are not
    /// transcoded again.
    outputs: Mutex<HashMap<StreamKey, usize>>,
    /// Those that programs have made which an upgrade has ended, with the client that
    /// published each.
    former_outputs: Mutex<HashMap<StreamKey, Option<u64>>>,
    /// Totals, for reports.
    pub(crate) totals: ProgramTotals,
}

/// Totals of all programs.
#[derive(Debug, Default)]
pub(crate) struct ProgramTotals {
    /// Times that one was started.
    pub(crate) starts: AtomicU64,
    /// Times that one could not be started, or has ended by itself without success.
    pub(crate) failures: AtomicU64,
}

impl Programs {
    /// Starts the thread that starts programs.
    ///
    /// # Errors
    /// No thread is left.
    pub(super) fn start() -> io::Result<Self> {
        Ok(Self {
            launcher: Launcher::start()?,
            running: AtomicUsize::new(0),
            groups: Mutex::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            watched: Mutex::default(),
            outputs: Mutex::default(),
            former_outputs: Mutex::default(),
            totals: ProgramTotals::default(),
        })
    }

    /// Number of programs that run.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// The addresses from which programs are connected now, to this server or to others.
    pub(crate) fn connections(&self) -> HashSet<SocketAddr> {
        let groups = lock(&self.groups).clone();
        match groups.is_empty() {
            true => HashSet::new(),
            false => connections::of_groups(&groups),
        }
    }

    /// The streams that programs make, for the program that the process becomes.
    pub(super) fn outputs(&self) -> Vec<StreamKey> {
        let mut outputs: HashSet<_> = lock(&self.former_outputs).keys().cloned().collect();
        outputs.extend(lock(&self.outputs).keys().cloned());
        outputs.into_iter().collect()
    }

    /// Programs, which have ended, have made `outputs` before this process began anew, as some
    /// of `clients`.
    pub(super) fn take_over(&self, outputs: Vec<StreamKey>, clients: &Clients) {
        let outputs = outputs.into_iter().map(|key| {
            let client = clients.publisher(&key);
            (key, client.map(|client| client.id))
        });
        lock(&self.former_outputs).extend(outputs);
    }

    /// Ends all programs. None is started any more.
    pub(super) async fn finish(&self) {
        self.stop.cancel();
        self.tasks.close();
        if timeout(MAX_FINISH, self.tasks.wait()).await.is_err() {
            log::warn!("some programs do not end: they are killed");
        }
    }

    /// One more program may run; `None`: `max` do already.
    fn admit(&self, max: usize) -> Option<Admitted<'_>> {
        let running = &self.running;
        let admit = |count| (count < max).then_some(count + 1);
        let admitted = running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, admit);
        admitted.ok().map(|_| Admitted(running))
    }
}

/// A program's part of `max_programs`.
struct Admitted<'a>(&'a AtomicUsize);

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The process group of a program that runs.
struct Group<'a> {
    programs: &'a Programs,
    id: u32,
}

impl<'a> Group<'a> {
    fn of(programs: &'a Programs, id: u32) -> Self {
        lock(&programs.groups).insert(id);
        Self { programs, id }
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        lock(&self.programs.groups).remove(&self.id);
    }
}

/// What becomes of a program that is kept running, for whoever reports of it.
pub(super) trait Observer: Send + Sync {
    /// It is started.
    fn starting(&self) {}
    /// It runs as the process `id`.
    fn running(&self, _id: u32) {}
    /// It has ended, or could not be started.
    fn ended(&self, _why: &str) {}
}

/// An observer that reports to nobody.
pub(super) struct Unobserved;

impl Observer for Unobserved {}

/// Keeps a program running until `stop`: it is started again whenever it ends; after a short
/// pause if it has done its work, otherwise after pauses that grow if it ends soon. `name`
/// begins its log lines. `make` makes the program for each start, at its time; `None`: it is
/// not run.
pub(super) async fn supervise(
    server: Arc<Server>,
    name: String,
    make: &(dyn Fn(Timestamp) -> Option<Program> + Send + Sync),
    observer: &dyn Observer,
    stop: CancellationToken,
) {
    let programs = &server.programs;
    let mut backoff = Backoff::default();
    let ended = || async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = programs.stop.cancelled() => {}
        }
    };
    // Of one that dies at once, again and again, the starts are no news either.
    let mut start_level = log::Level::Info;
    loop {
        let begun = Instant::now();
        let Some(program) = make(Timestamp::now()) else {
            return;
        };
        let program = found(program, &name, start_level).await;
        observer.starting();
        let failure = match programs.admit(server.config().max_programs) {
            None => Some("`max_programs` others run already".to_owned()),
            Some(_admitted) => {
                programs.totals.starts.fetch_add(1, Ordering::Relaxed);
                let group = OnceLock::new();
                let started = |id| {
                    let _ = group.set(Group::of(programs, id));
                    log::log!(start_level, "{name}: {} runs as process {id}", program.path);
                    observer.running(id);
                };
                let run = program.run(&programs.launcher, started, ended()).await;
                match run {
                    Ok(exit) if exit.is_stopped => return,
                    Ok(exit) => describe(&exit, &program),
                    Err(error) => Some(explain(&program, &error)),
                }
            }
        };
        let lasted = begun.elapsed();
        let pause = match failure {
            Some(_) => backoff.pause(lasted),
            None => backoff.rest(),
        };
        let seconds = pause.as_secs_f64();
        if let Some(why) = failure {
            programs.totals.failures.fetch_add(1, Ordering::Relaxed);
            observer.ended(&why);
            let level = backoff.level(&why, lasted);
            log::log!(level, "{name}: {why}; again in {seconds:.1} s");
            start_level = match level {
                log::Level::Debug => level,
                _ => log::Level::Info,
            };
        } else {
            observer.ended("");
            log::debug!(
                "{name}: {} has done its work; again in {seconds:.1} s",
                program.path
            );
        }
        tokio::select! {
            () = ended() => return,
            () = sleep(pause) => {}
        }
    }
}

/// `exit status: 1; it said last: …`; `None` for a success.
fn describe(exit: &Exit, program: &Program) -> Option<String> {
    if exit.status.success() {
        return None;
    }
    let words = exit.last_words.join(" | ");
    let words = match &*words {
        "" => "it said nothing".to_owned(),
        words => format!(
            "it said last: {}",
            OneLine(redacted_words(words, &program.arguments))
        ),
    };
    Some(format!("it has ended ({}); {words}", exit.status))
}

fn explain(program: &Program, error: &io::Error) -> String {
    let path = &program.path;
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("there is no {path}: install it, or name the right path ({error})")
        }
        _ => format!("{path} cannot be run: {error}"),
    }
}

/// The program, where SRS's files name an ffmpeg of SRS's own that is not there: that of
/// `PATH`.
async fn found(mut program: Program, name: &str, level: log::Level) -> Program {
    let path = Path::new(&program.path);
    let is_ffmpeg = path.file_name().is_some_and(|it| it == "ffmpeg");
    if !is_ffmpeg || !program.path.contains('/') {
        return program;
    }
    // A file server that is gone is no reason to run another.
    let is_there = timeout(FIND_TIMEOUT, tokio::fs::try_exists(path)).await;
    if let Ok(Ok(false)) = is_there {
        log::log!(
            level,
            "{name}: there is no {}: the ffmpeg in PATH is run",
            program.path
        );
        program.path = "ffmpeg".to_owned();
    }
    program
}
