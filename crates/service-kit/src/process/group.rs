//! A program with everything that it has started.

use std::io;
use std::process::ExitStatus;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Child;

/// A child that leads a process group of its own. Dropped before its end, the
/// whole group is killed.
#[derive(Debug)]
pub struct ProcessGroup {
    child: Child,
    /// Its number, while the child has not been waited for: until then nobody
    /// else can have it.
    id: Option<Pid>,
}

impl ProcessGroup {
    /// Takes charge of a child that was started with `process_group(0)`.
    #[must_use]
    pub fn of(child: Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self {
            id: id.map(Pid::from_raw),
            child,
        }
    }

    /// Waits for the child's end. What it has left in the background goes on.
    ///
    /// # Errors
    /// The kernel cannot tell of it.
    pub async fn end(mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.id = None;
        status
    }

    /// Number of the process and of its group; `None` once it has been waited for.
    pub(super) fn id(&self) -> Option<u32> {
        self.id.and_then(|id| u32::try_from(id.as_raw()).ok())
    }

    /// Waits for the child's end, and kills what it has left in the background. It may be
    /// dropped unfinished and called again.
    ///
    /// # Errors
    /// The kernel cannot tell of it.
    pub(super) async fn end_all(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        // Its number stays that of the group for as long as somebody is in it. With nobody
        // left another process may have got it, as a leader of another group even, so that
        // this is only right at once: numbers are given in turn.
        self.signal(Signal::SIGKILL);
        self.id = None;
        status
    }

    /// Sends a signal to all of the group.
    pub(super) fn signal(&self, signal: Signal) {
        let Some(id) = self.id else {
            return;
        };
        match killpg(id, signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => log::warn!("process group {id} gets no {signal}: {error}"),
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}
