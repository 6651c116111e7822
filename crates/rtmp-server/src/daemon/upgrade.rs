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

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::SigSet;
use serde::{Deserialize, Serialize};
use service_kit::program::{become_program, own_program};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::control::Waiter;
use super::listeners::ListenerPart;
use crate::hand_over::{Blob, HandOverError, HandedOver, Inherited};
use crate::server::{
    EventKind, FrozenServer, HAND_OVER_LAYOUT, LOG_LAYOUT, OLDEST_HAND_OVER_LAYOUT, Purpose,
    Server, ServerPart,
};

/// The argument by which a program rehearses its start. It changes nothing: it reads the
/// configuration, says which layouts it reads, then reads from its standard input what would
/// be handed over.
pub(super) const REHEARSE: &str = "--rehearse";
/// The variable of the environment that names what is handed over: the process, and the
/// descriptor. For any other process it has no meaning.
const VARIABLE: &str = "MILLRACE_HAND_OVER";
/// Time for the program to read its configuration.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Time for it to read a copy of what is handed over, while requests wait.
const STATE_LIMIT: Duration = Duration::from_secs(5);
/// Time between the two times for which everybody stands still, in lengths of the first.
const CATCH_UP_FACTOR: u32 = 5;
/// It is no longer than this: requests wait meanwhile.
const MAX_CATCH_UP: Duration = Duration::from_secs(1);

/// What a process hands over to the program that it becomes.
#[derive(Debug, Serialize, Deserialize)]
struct ProcessPart {
    layout: u32,
    /// Version of the program that hands it over.
    version: String,
    server: Blob,
    listeners: Vec<ListenerPart>,
    /// Those who wait for the outcome.
    waiters: Vec<RawFd>,
    pid_file: Option<(PathBuf, RawFd)>,
    descriptors: Vec<RawFd>,
    /// The time from which on everybody stands still.
    #[serde(with = "crate::hand_over::monotonic")]
    frozen_at: Instant,
}

/// What this process has from the program that it was.
pub(super) struct TakenOver {
    pub(super) server: ServerPart,
    pub(super) listeners: Vec<ListenerPart>,
    pub(super) pid_file: Option<(PathBuf, RawFd)>,
    pub(super) inherited: Inherited,
    pub(super) waiters: Vec<Waiter>,
    /// Version of the program before.
    pub(super) version: String,
    pub(super) frozen_at: Instant,
    /// When this program has begun to read it, and when it had.
    pub(super) read: (Instant, Instant),
}

/// What was handed over to this process, if it has just become this program.
///
/// # Errors
/// It cannot be read.
pub(super) fn take_over() -> Result<Option<TakenOver>, HandOverError> {
    let begun = Instant::now();
    let Some(number) = handed_over_at() else {
        return Ok(None);
    };
    // SAFETY: the program before has named it, for this process alone, and nobody here has
    // opened or adopted anything yet.
    let mut inherited = unsafe { Inherited::adopt(&[number]) };
    let mut file = std::fs::File::from(inherited.take(number)?);
    let mut bytes = Vec::new();
    io::Seek::rewind(&mut file)?;
    file.read_to_end(&mut bytes)?;
    let part = read(&Blob::from(bytes))?;
    let server: ServerPart = part.server.read()?;
    // SAFETY: these are what the program before has handed over, and they are adopted once.
    let mut inherited = unsafe { Inherited::adopt(&part.descriptors) };
    let waiters = part.waiters.iter().filter_map(|&number| {
        let descriptor = inherited.take(number).ok()?;
        Some(Waiter::from(descriptor))
    });
    Ok(Some(TakenOver {
        waiters: waiters.collect(),
        server,
        listeners: part.listeners,
        pid_file: part.pid_file,
        version: part.version,
        frozen_at: part.frozen_at,
        read: (begun, Instant::now()),
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

fn read(bytes: &Blob) -> Result<ProcessPart, HandOverError> {
    let part: ProcessPart = bytes.read()?;
    if !(OLDEST_HAND_OVER_LAYOUT..=HAND_OVER_LAYOUT).contains(&part.layout) {
        let layout = format!("layout {HAND_OVER_LAYOUT}: it has {}", part.layout);
        return Err(HandOverError::Missing(layout));
    }
    Ok(part)
}

/// The layouts that this program reads, as it says when it rehearses: the oldest of the whole,
/// that of logs, and the newest of the whole. Programs of layout 1 say the first two, and look for
/// their own layout at the first place.
fn readable_layouts() -> String {
    format!("{OLDEST_HAND_OVER_LAYOUT} {LOG_LAYOUT} {HAND_OVER_LAYOUT}")
}

/// The layout of logs of a program that has said `layouts`, if it reads our whole.
fn log_layout_of(layouts: &str) -> Option<u32> {
    let layouts: Vec<u32> = layouts.split_whitespace().flat_map(str::parse).collect();
    let (oldest, log, newest) = match layouts[..] {
        [only, log] => (only, log, only),
        [oldest, log, newest, ..] => (oldest, log, newest),
        _ => return None,
    };
    (oldest..=newest).contains(&HAND_OVER_LAYOUT).then_some(log)
}

/// The rehearsing program's part, once its configuration is read: says which layouts it reads,
/// and reads what would be handed over.
///
/// # Errors
/// It could not go on with that.
pub(super) fn rehearse() -> anyhow::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{}", readable_layouts())?;
    out.flush()?;
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes)?;
    if bytes.is_empty() {
        // The upgrade has been given up.
        return Ok(());
    }
    let part = read(&Blob::from(bytes))?;
    let server: ServerPart = part.server.read()?;
    server.check()?;
    Ok(())
}

/// A program that has read the configuration, and waits for what is handed over.
pub(super) struct Rehearsed {
    child: Child,
    state: ChildStdin,
    errors: ChildStderr,
    /// The layout of logs that it reads.
    log_layout: u32,
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
    state: Blob,
    handed_over: HandedOver,
    since: Instant,
}

/// What else than the server is handed over.
pub(super) struct Belongings<'a> {
    pub(super) listeners: Vec<ListenerPart>,
    pub(super) pid_file: Option<(&'a Path, RawFd)>,
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
        let stood_still = copy.since.elapsed();
        if let Err(reason) = server.unfreeze(copy.server).await {
            return reason;
        }
        if let Err(reason) = rehearsed.read(&copy.state).await {
            server.go_on();
            return self.cannot(&reason);
        }
        // Players get what has gathered: else they would wait for both times together.
        tokio::time::sleep(catch_up(stood_still)).await;
        server.conclude().await;
        let frozen = self.freeze(server, Purpose::HandOver, at_boundary, &belongings);
        let frozen = match frozen.await {
            Ok(frozen) => frozen,
            Err(reason) => return reason,
        };
        log::info!(
            "upgrade: {} goes on with {} connections ({} bytes, written within {} ms)",
            self.program.display(),
            frozen.server.part.connections(),
            frozen.state.as_bytes().len(),
            frozen.since.elapsed().as_millis()
        );
        let error = self.become_program(&frozen.state, &frozen.handed_over);
        server.thaw(frozen.server);
        self.cannot(&error.to_string())
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
        let since = Instant::now();
        let frozen = server.freeze(purpose, at_boundary).await?;
        let mut handed_over = HandedOver::default();
        handed_over.extend(&frozen.handed_over);
        match self.write(&frozen.part, belongings, since, &mut handed_over) {
            Ok(state) => Ok(FrozenProcess {
                server: frozen,
                state,
                handed_over,
                since,
            }),
            Err(error) => {
                server.thaw(frozen);
                Err(self.cannot(&format!("what is handed over {error}")))
            }
        }
    }

    fn write(
        &self,
        server: &ServerPart,
        belongings: &Belongings<'_>,
        frozen_at: Instant,
        handed_over: &mut HandedOver,
    ) -> Result<Blob, HandOverError> {
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
        Blob::of(&ProcessPart {
            layout: HAND_OVER_LAYOUT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            server: Blob::of(server)?,
            listeners,
            waiters,
            pid_file,
            descriptors: handed_over.numbers().to_vec(),
            frozen_at,
        })
    }

    /// Returns only if that cannot be.
    fn become_program(&self, state: &Blob, handed_over: &HandedOver) -> io::Error {
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
        state: &Blob,
        handed_over: &HandedOver,
    ) -> io::Result<std::convert::Infallible> {
        let file = memfd_create("hand-over", MFdFlags::MFD_CLOEXEC)?;
        let mut file = std::fs::File::from(file);
        file.write_all(state.as_bytes())?;
        let mut inheritable = HandedOver::default();
        inheritable.extend(handed_over);
        inheritable.add(file.as_raw_fd());
        let value = format!("{}:{}", std::process::id(), file.as_raw_fd());
        // A signal that comes before the new program listens would end it.
        let signals = SigSet::all();
        signals.thread_block()?;
        // Directly before: a program that another thread starts, ffmpeg say, would have clients'
        // sockets and keys.
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

/// Starts `program` with our arguments and [`REHEARSE`], and waits until it has read the
/// configuration.
///
/// # Errors
/// Why it would not start.
async fn start(program: PathBuf) -> Result<Rehearsed, String> {
    let cannot = |reason: String| format!("{} cannot take over: {reason}", program.display());
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut child = tokio::process::Command::new(&program)
        .args(arguments)
        .arg(REHEARSE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| cannot(error.to_string()))?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(state), Some(out), Some(mut errors)) = pipes else {
        return Err(cannot("it has no pipes".to_owned()));
    };
    let mut line = String::new();
    let mut out = BufReader::new(out);
    match timeout(START_LIMIT, out.read_line(&mut line)).await {
        Ok(Ok(1..)) => {}
        Ok(_) => {
            let reason = failure(&mut child, &mut errors).await;
            return Err(cannot(reason));
        }
        Err(_) => {
            let limit = START_LIMIT.as_secs();
            return Err(cannot(format!(
                "it does not read its configuration within {limit} s"
            )));
        }
    }
    match log_layout_of(&line) {
        Some(log_layout) => Ok(Rehearsed {
            child,
            state,
            errors,
            log_layout,
        }),
        None => Err(cannot(format!(
            "it reads another layout than {HAND_OVER_LAYOUT} ({:?}): a restart is needed",
            line.trim()
        ))),
    }
}

impl Rehearsed {
    /// Has it read what is handed over.
    ///
    /// # Errors
    /// Why it cannot go on with that.
    async fn read(mut self, state: &Blob) -> Result<(), String> {
        let reading = async {
            let written = self.state.write_all(state.as_bytes()).await;
            // Closed, which is the end.
            drop(self.state);
            let status = self.child.wait().await.map_err(|error| error.to_string())?;
            match (status.success(), written) {
                (true, Ok(())) => Ok(()),
                (true, Err(error)) => Err(error.to_string()),
                (false, _) => Err(failure(&mut self.child, &mut self.errors).await),
            }
        };
        let limit = STATE_LIMIT.as_secs();
        let late = |_| Err(format!("it does not read it within {limit} s"));
        timeout(STATE_LIMIT, reading).await.unwrap_or_else(late)
    }
}

/// What a program that has failed has said.
async fn failure(child: &mut Child, errors: &mut ChildStderr) -> String {
    let mut said = Vec::new();
    // What it has not said cannot be read.
    let _ = errors.read_to_end(&mut said).await;
    match (String::from_utf8_lossy(&said).trim(), child.wait().await) {
        ("", Ok(status)) => status.to_string(),
        ("", Err(error)) => error.to_string(),
        (said, _) => said.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_read_our_layout_is_refused() {
        let ours = readable_layouts();
        assert_eq!(log_layout_of(&format!("{ours}\n")), Some(LOG_LAYOUT));
        // A later version, and one that reads ours no longer.
        assert_eq!(log_layout_of("1 7 3 9"), Some(7));
        assert_eq!(log_layout_of("3 1 4"), None);
        // One of layout 1 does not know of connections that we encrypt.
        assert_eq!(log_layout_of("1 1"), None);
        assert_eq!(log_layout_of(""), None);
        // That one looks at the first place, and we go on with what it has.
        assert!(ours.starts_with("1 "), "{ours}");
    }

    #[test]
    fn what_a_program_of_layout_1_hands_over_is_read() {
        let written = |layout| {
            Blob::of(&ProcessPart {
                layout,
                version: "0.1.0".to_owned(),
                server: Blob::from(Vec::new()),
                listeners: Vec::new(),
                waiters: Vec::new(),
                pid_file: None,
                descriptors: Vec::new(),
                frozen_at: Instant::now(),
            })
            .unwrap()
        };
        for layout in [1, HAND_OVER_LAYOUT] {
            assert_eq!(read(&written(layout)).unwrap().layout, layout);
        }
        let refused = read(&written(HAND_OVER_LAYOUT + 1)).unwrap_err();
        assert_eq!(refused.to_string(), "there is no layout 2: it has 3");
    }
}
