//! A program that runs on a host.

use std::fmt::{self, Display};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::wait::wait_for;

/// A running or ended program. Clones speak of the same one.
///
/// It ends with its bed at the latest.
#[derive(Clone)]
pub struct Process {
    name: String,
    log: Option<Log>,
    pid: u32,
    child: Arc<Mutex<Child>>,
}

/// Where a program writes to.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) path: PathBuf,
    /// The bytes that programs before it had written.
    pub(crate) begin: usize,
}

impl Process {
    pub(crate) fn new(name: String, log: Option<Log>, child: Child) -> Self {
        Self {
            name,
            log,
            pid: child.id(),
            child: Arc::new(Mutex::new(child)),
        }
    }

    /// What it is called in messages: host and program.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id as seen from outside the bed.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it has written so far, if it was started by [`Host::spawn`]. Bytes that are
    /// no UTF-8 are replaced.
    ///
    /// [`Host::spawn`]: crate::Host::spawn
    #[must_use]
    pub fn log(&self) -> String {
        let Some(log) = &self.log else {
            return "(it has no log)".to_owned();
        };
        fs::read(&log.path).map_or_else(
            |error| format!("({} is not readable: {error})", log.path.display()),
            |bytes| String::from_utf8_lossy(&bytes[log.begin..]).into_owned(),
        )
    }

    /// Its standard input, if that is a pipe and nobody has taken it yet.
    pub fn take_stdin(&self) -> Option<ChildStdin> {
        self.child().stdin.take()
    }

    /// Its standard output, likewise.
    pub fn take_stdout(&self) -> Option<ChildStdout> {
        self.child().stdout.take()
    }

    /// Its standard error, likewise.
    pub fn take_stderr(&self) -> Option<ChildStderr> {
        self.child().stderr.take()
    }

    /// True if it still runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.exit_status().is_none()
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        // An error would mean that somebody else waited for our child.
        self.child().try_wait().ok().flatten()
    }

    /// Sends a signal. To a program that has ended already, nothing happens.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        // The lock keeps the id from being waited for, and so from being reused.
        let mut child = self.child();
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        let pid = Pid::from_raw(i32::try_from(self.pid)?);
        signal::kill(pid, signal).with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// Kills it and the children that it has started with SIGKILL, and waits for
    /// its end. To a program that has ended already, nothing happens.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&self) -> Result<()> {
        let mut child = self.child();
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        // Each program leads a process group of its own, see `Host::spawn`.
        let group = Pid::from_raw(i32::try_from(self.pid)?);
        signal::killpg(group, Signal::SIGKILL)
            .with_context(|| format!("cannot kill {}", self.name))?;
        child
            .wait()
            .with_context(|| format!("cannot wait for {}", self.name))?;
        Ok(())
    }

    /// Asks it to end with SIGTERM and waits for that.
    ///
    /// # Errors
    /// When it still runs after [`TIME_LIMIT`](crate::TIME_LIMIT).
    pub fn stop(&self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs after [`TIME_LIMIT`](crate::TIME_LIMIT); the message holds the
    /// end of its log.
    pub fn wait(&self) -> Result<ExitStatus> {
        wait_for(format_args!("the end of {}", self.name), || {
            Ok(self.exit_status())
        })
        .with_context(|| self.log_tail())
    }

    /// Waits for the end of a program that is being killed.
    pub(crate) fn reap(&self) {
        // The only error is that somebody else has waited for it already.
        let _ = self.child().wait();
    }

    /// An error context: the last lines of its log, and whether it runs.
    #[must_use]
    pub fn log_tail(&self) -> String {
        const LINES: usize = 15;
        let state = match self.exit_status() {
            None => "running".to_owned(),
            Some(status) => describe(status),
        };
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LINES)..].join("\n  ");
        format!("{} ({state}) says:\n  {tail}", self.name)
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        // A panic elsewhere leaves the child as usable as before.
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("name", &self.name)
            .field("pid", &self.pid)
            .finish()
    }
}

impl Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// An exit status in words.
fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}
