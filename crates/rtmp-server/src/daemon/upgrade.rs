//! An upgrade in place: the process becomes the installed program, which goes on with every
//! listening socket, connection and stream.
//!
//! ```text
//! SIGUSR2, `upgrade` ──▶ rehearsal: the program reads the configuration, and waits
//!                           │ settle, freeze, unfreeze
//!                           ▼
//!                        the same process reads a copy of what is handed over
//!                           │ freeze
//!                           ▼
//!                        exec ──▶ take over
//! ```
//!
//! Until the `exec` the old program has everything still in its place: whatever fails, it goes
//! on, and says why.

mod layout;
mod rehearsal;
mod state_file;

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;
use service_kit::process::hold_starts;
use service_kit::program::{become_program, own_program};
use tokio::task::JoinHandle;

use super::control::Waiter;
use super::listeners::ListenerPart;
use crate::config::Directive;
use crate::hand_over::{Blob, HandOverError, HandedOver, Inherited, Steps};
use crate::server::{
    EventKind, FrozenServer, HAND_OVER_LAYOUT, LOG_LAYOUT, Purpose, Server, ServerPart,
};
use layout::ProcessPart;
use rehearsal::start;
pub(super) use rehearsal::{Rehearsed, rehearse};
use state_file::StateFile;

/// The variable of the environment that names what is handed over: the process, and the
/// descriptor. For any other process it has no meaning.
const VARIABLE: &str = "MILLRACE_HAND_OVER";
/// Time between the two times for which everybody stands still, in lengths of the first.
const CATCH_UP_FACTOR: u32 = 5;
/// It is no longer than this: requests wait meanwhile.
const MAX_CATCH_UP: Duration = Duration::from_secs(1);

/// What this process has from the program that it was.
pub(super) struct TakenOver {
    pub(super) server: ServerPart,
    pub(super) listeners: Vec<ListenerPart>,
    pub(super) pid_file: Option<(PathBuf, RawFd)>,
    /// The configuration that was in force.
    pub(super) directives: Vec<Directive>,
    pub(super) inherited: Inherited,
    pub(super) waiters: Vec<Waiter>,
    /// Version of the program before.
    pub(super) version: String,
    pub(super) frozen_at: Instant,
    /// What the time has gone by with since this program began to read.
    pub(super) steps: Steps,
}

/// What was handed over to this process, if it has just become this program.
///
/// # Errors
/// It cannot be read.
pub(super) fn take_over() -> Result<Option<TakenOver>, HandOverError> {
    let mut steps = Steps::new();
    let Some(number) = handed_over_at() else {
        return Ok(None);
    };
    // SAFETY: the program before has named it, for this process alone, and nobody here has
    // opened or adopted anything yet.
    let mut inherited = unsafe { Inherited::adopt(&[number]) };
    let file = StateFile::from(inherited.take(number)?);
    let bytes = file.map()?;
    let part = ProcessPart::read(&bytes)?;
    let server: ServerPart = Blob::read_from(part.server.0)?;
    steps.end("read");
    // SAFETY: these are what the program before has handed over, and they are adopted once.
    let mut inherited = unsafe { Inherited::adopt(&part.descriptors) };
    let waiters = part.waiters.iter().filter_map(|&number| {
        let descriptor = inherited.take(number).ok()?;
        Some(Waiter::from(descriptor))
    });
    let waiters = waiters.collect();
    steps.end("descriptors");
    Ok(Some(TakenOver {
        waiters,
        server,
        listeners: part.listeners,
        pid_file: part.pid_file,
        directives: part.directives,
        version: part.version,
        frozen_at: part.frozen_at,
        steps,
        inherited,
    }))
}

/// The descriptor that the environment names, if it is meant for this process.
fn handed_over_at() -> Option<RawFd> {
    let value = std::env::var(VARIABLE).ok()?;
    let (process, number) = value.split_once(':')?;
    let number = number.parse().ok()?;
    (process.parse() == Ok(std::process::id())).then_some(number)
}

/// The upgrade to the program that is installed now.
pub(super) struct Upgrade {
    /// The file that this process was started from.
    program: PathBuf,
    rehearsal: Option<JoinHandle<Result<Rehearsed, String>>>,
    waiters: Vec<Waiter>,
}

/// A process that stands still, and what it hands over.
struct FrozenProcess {
    server: FrozenServer,
    part: ProcessPart<Blob>,
    handed_over: HandedOver,
    steps: Steps,
}

/// What else than the server is handed over.
pub(super) struct Belongings<'a> {
    pub(super) listeners: Vec<ListenerPart>,
    pub(super) pid_file: Option<(&'a Path, RawFd)>,
    /// The configuration in force.
    pub(super) directives: &'a [Directive],
}

impl Upgrade {
    /// No upgrade yet. To be made before another file takes the program's name.
    ///
    /// # Errors
    /// `/proc` does not tell what this process runs.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            program: own_program()?,
            rehearsal: None,
            waiters: Vec::new(),
        })
    }

    /// Begins an upgrade, if there is none under way; `waiter` is told of its outcome.
    pub(super) fn begin(&mut self, waiter: Option<Waiter>) {
        self.waiters.extend(waiter);
        if self.rehearsal.is_none() {
            log::info!("upgrade: rehearsing {}", self.program.display());
            self.rehearsal = Some(tokio::spawn(start(self.program.clone())));
        }
    }

    /// There is to be none: `waiter` is told why.
    pub(super) fn refuse(&mut self, server: &Server, waiter: Option<Waiter>, reason: &str) {
        self.waiters.extend(waiter);
        self.fail(server, reason);
    }

    /// Waits for the end of the first rehearsal; for ever, while there is none. May be dropped
    /// without losing it.
    ///
    /// # Errors
    /// Why the program cannot take over.
    pub(super) async fn rehearsed(&mut self) -> Result<Rehearsed, String> {
        let Some(rehearsal) = &mut self.rehearsal else {
            return std::future::pending().await;
        };
        let outcome = rehearsal.await;
        self.rehearsal = None;
        outcome.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// It has failed: the server goes on.
    pub(super) fn fail(&mut self, server: &Server, reason: &str) {
        log::error!("upgrade failed, this program goes on: {reason}");
        let events = server.events();
        events.record(EventKind::UpgradeFailed, None, None, reason);
        for waiter in self.waiters.drain(..) {
            waiter.answer(&format!("error: {reason}"));
        }
    }

    /// Becomes the rehearsed program. Returns only if that cannot be, with the reason; the
    /// server goes on then.
    pub(super) async fn execute(
        &self,
        server: &Server,
        rehearsed: Rehearsed,
        belongings: Belongings<'_>,
    ) -> String {
        if let Err(reason) = server.settle().await {
            return reason;
        }
        let at_boundary = rehearsed.log_layout != LOG_LAYOUT;
        // A first copy, of the same kinds of things: the program reads it while media flows.
        let copy = self.freeze(server, Purpose::Rehearsal, at_boundary, &belongings);
        let copy = match copy.await {
            Ok(copy) => copy,
            Err(reason) => return reason,
        };
        let stood_still = copy.steps.since().elapsed();
        if let Err(reason) = server.unfreeze(copy.server).await {
            return reason;
        }
        // Media flows meanwhile.
        let file = match rehearse_with(rehearsed, &copy.part).await {
            Ok(file) => file,
            Err(reason) => {
                server.go_on();
                return self.cannot(&reason);
            }
        };
        // Players get what has gathered: else they would wait for both times together.
        tokio::time::sleep(catch_up(stood_still)).await;
        if let Err(reason) = server.conclude().await {
            return reason;
        }
        let frozen = self.freeze(server, Purpose::HandOver, at_boundary, &belongings);
        let frozen = match frozen.await {
            Ok(frozen) => frozen,
            Err(reason) => return reason,
        };
        let FrozenProcess {
            server: frozen,
            part,
            handed_over,
            mut steps,
        } = frozen;
        let error = match file.write(&part) {
            Ok(bytes) => {
                steps.end("written");
                log::info!(
                    "upgrade: {} goes on with {} connections ({bytes} bytes; {steps})",
                    self.program.display(),
                    frozen.part.connections(),
                );
                self.become_program(&file, &handed_over).to_string()
            }
            Err(error) => format!("what is handed over {error}"),
        };
        server.thaw(frozen);
        self.cannot(&error)
    }

    fn cannot(&self, reason: &str) -> String {
        format!("{} cannot take over: {reason}", self.program.display())
    }

    /// Has everybody stand still, and writes down what is handed over.
    ///
    /// # Errors
    /// Why that cannot be; the server goes on.
    async fn freeze(
        &self,
        server: &Server,
        purpose: Purpose,
        at_boundary: bool,
        belongings: &Belongings<'_>,
    ) -> Result<FrozenProcess, String> {
        let mut steps = Steps::new();
        let frozen = server.freeze(purpose, at_boundary, &mut steps).await?;
        let mut handed_over = HandedOver::default();
        handed_over.extend(&frozen.handed_over);
        let part = self.part(&frozen.part, belongings, steps.since(), &mut handed_over);
        steps.end("encoded");
        match part {
            Ok(part) => Ok(FrozenProcess {
                server: frozen,
                part,
                handed_over,
                steps,
            }),
            Err(error) => {
                server.thaw(frozen);
                Err(self.cannot(&format!("what is handed over {error}")))
            }
        }
    }

    fn part(
        &self,
        server: &ServerPart,
        belongings: &Belongings<'_>,
        frozen_at: Instant,
        handed_over: &mut HandedOver,
    ) -> Result<ProcessPart<Blob>, HandOverError> {
        let listeners = belongings.listeners.clone();
        listeners
            .iter()
            .for_each(|it| handed_over.add(it.descriptor));
        let waiters: Vec<_> = self.waiters.iter().map(AsRawFd::as_raw_fd).collect();
        waiters.iter().for_each(|&number| handed_over.add(number));
        let pid_file = belongings.pid_file;
        let pid_file = pid_file.map(|(path, number)| (path.to_owned(), number));
        pid_file
            .iter()
            .for_each(|(_, number)| handed_over.add(*number));
        Ok(ProcessPart {
            layout: HAND_OVER_LAYOUT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            server: Blob::of(server)?,
            listeners,
            waiters,
            pid_file,
            directives: belongings.directives.to_vec(),
            descriptors: handed_over.numbers().to_vec(),
            frozen_at,
        })
    }

    /// Returns only if that cannot be.
    fn become_program(&self, state: &StateFile, handed_over: &HandedOver) -> io::Error {
        match self.try_become(state, handed_over) {
            Ok(never) => match never {},
            Err(error) => {
                // What is not open cannot be closed either.
                let _ = handed_over.set_inheritable(false);
                error
            }
        }
    }

    fn try_become(
        &self,
        state: &StateFile,
        handed_over: &HandedOver,
    ) -> io::Result<std::convert::Infallible> {
        let mut inheritable = HandedOver::default();
        inheritable.extend(handed_over);
        inheritable.add(state.as_raw_fd());
        let value = format!("{}:{}", std::process::id(), state.as_raw_fd());
        // A signal that comes before the new program listens would end it.
        let signals = SigSet::all();
        signals.thread_block()?;
        // A program that another thread starts now, ffmpeg say, would have clients' sockets and
        // keys, and the next program would know nothing of it.
        let _starts_held = hold_starts();
        let error = match inheritable.set_inheritable(true) {
            Ok(()) => become_program(&self.program, &self.program, &[(VARIABLE, &value)]),
            Err(error) => error,
        };
        signals.thread_unblock()?;
        Err(error)
    }
}

/// Time for players to get what has gathered while they stood still.
fn catch_up(stood_still: Duration) -> Duration {
    (stood_still * CATCH_UP_FACTOR).min(MAX_CATCH_UP)
}

/// Takes the signals that have come since the program before has become this one. To be
/// called once they are listened to.
///
/// # Errors
/// The kernel's refusal.
pub(super) fn listen_again() -> io::Result<()> {
    Ok(SigSet::all().thread_unblock()?)
}

/// Has the program read a copy of what would be handed over. Returns the file for what is.
///
/// # Errors
/// Why it cannot go on with that, or there is no memory.
async fn rehearse_with(
    rehearsed: Rehearsed,
    part: &ProcessPart<Blob>,
) -> Result<StateFile, String> {
    let copy = Blob::of(part).map_err(|error| format!("what is handed over {error}"))?;
    rehearsed.read(&copy).await?;
    StateFile::new(copy.as_bytes().len()).map_err(|error| error.to_string())
}
