//! A program that runs on a host of the cluster, with its output in a file.

use std::fmt::{self, Display};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::wait::wait_for;

/// A running or ended program. Clones speak of the same one.
///
/// It ends with its cluster at the latest.
#[derive(Clone)]
pub struct Process {
    name: String,
    log: PathBuf,
    pid: u32,
    child: Arc<Mutex<Child>>,
}

impl Process {
    pub(crate) fn new(name: String, log: PathBuf, child: Child) -> Self {
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

    /// Its process id as seen from outside the cluster.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The file that its standard output and error go to.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// What it has written so far. Bytes that are no UTF-8 are replaced.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log).map_or_else(
            |error| format!("({} is not readable: {error})", self.log.display()),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// Whether it still runs.
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
    /// When it still runs after `deadline`.
    pub fn stop(&self, deadline: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(deadline)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs after `deadline`; the message holds the end of its log.
    pub fn wait(&self, deadline: Duration) -> Result<ExitStatus> {
        wait_for(format_args!("the end of {}", self.name), deadline, || {
            Ok(self.exit_status())
        })
        .with_context(|| self.log_tail())
    }

    /// An error context: the last lines of its log, and whether it runs.
    pub(crate) fn log_tail(&self) -> String {
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

    pub(crate) fn child(&self) -> MutexGuard<'_, Child> {
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
