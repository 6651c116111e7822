//! Programs that a daemon starts and watches, without a shell.
//!
//! Each leads a process group of its own, which ends as a whole: with the program, when it
//! is stopped, or when the daemon ends, however it does: the kernel kills the program then
//! ([`Launcher`]), and a shell that outlives the daemon the rest of the group (`Watcher`).

mod former;
mod group;
mod last_words;
mod launcher;
mod output;
mod starts;
mod watcher;

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::process::Command;
use tokio::time::timeout;

pub use former::end_former_children;
pub use group::ProcessGroup;
use last_words::LastWords;
pub use launcher::Launcher;
pub use starts::{StartsHeld, hold_starts};
use watcher::Watcher;

/// Time that a program has to end after SIGTERM, before SIGKILL.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for which the rest is read of what a program has written that has ended: a stranger
/// may hold the other end.
const REST_TIMEOUT: Duration = Duration::from_millis(200);

/// A program, its arguments, and the files that it writes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its path, or its name in `PATH`.
    pub path: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// The file that its standard output is appended to; `None`: it goes nowhere.
    pub stdout: Option<PathBuf>,
    /// The same of its standard error; `None`: the last lines are in [`Exit::last_words`].
    pub stderr: Option<PathBuf>,
}

/// The end of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Its exit status.
    pub status: ExitStatus,
    /// The last lines of its standard error, oldest first.
    pub last_words: Vec<String>,
    /// It was stopped.
    pub is_stopped: bool,
}

impl Program {
    /// Runs it until it ends, or `stop` does, which ends it by SIGTERM and then SIGKILL.
    /// `started` gets the number of its process. Dropped before, it is killed.
    ///
    /// # Errors
    /// It cannot be started, or a file for its output cannot be opened.
    pub async fn run(
        &self,
        launcher: &Launcher,
        started: impl FnOnce(u32),
        stop: impl Future<Output = ()>,
    ) -> io::Result<Exit> {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments);
        command.stdout(output(self.stdout.as_deref(), Stdio::null).await?);
        command.stderr(output(self.stderr.as_deref(), Stdio::piped).await?);
        let mut child = launcher.launch(command).await?;
        let stderr = child.stderr.take();
        let mut group = ProcessGroup::of(child);
        let mut watcher = None;
        if let Some(id) = group.id() {
            started(id);
            match Watcher::start(id) {
                Ok(watching) => watcher = Some(watching),
                Err(error) => log::warn!(
                    "what process {id} starts may outlive this one if it is killed: /bin/sh: {error}"
                ),
            }
        }
        let mut last_words = LastWords::default();
        let mut is_stopped = false;
        let status = {
            let listen = async {
                if let Some(stderr) = stderr {
                    last_words.read(stderr).await;
                }
            };
            let end = async {
                tokio::select! {
                    status = group.end_all() => return status,
                    () = stop => {}
                }
                is_stopped = true;
                group.signal(Signal::SIGTERM);
                if let Ok(status) = timeout(STOP_TIMEOUT, group.end_all()).await {
                    return status;
                }
                group.signal(Signal::SIGKILL);
                group.end_all().await
            };
            tokio::pin!(listen, end);
            tokio::select! {
                status = &mut end => {
                    // An error means that somebody still has the other end.
                    let _ = timeout(REST_TIMEOUT, listen).await;
                    status?
                }
                () = &mut listen => end.await?,
            }
        };
        // Not before the group has ended: until then it may have to be killed.
        drop(watcher);
        Ok(Exit {
            status,
            last_words: last_words.into_lines(),
            is_stopped,
        })
    }
}

/// The file `path`, to append to; `otherwise` without one.
async fn output(path: Option<&Path>, otherwise: fn() -> Stdio) -> io::Result<Stdio> {
    match path {
        Some(path) => Ok(output::open(path).await?.into()),
        None => Ok(otherwise()),
    }
}

#[cfg(test)]
mod tests;
