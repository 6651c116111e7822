//! A script with everything that it has started.

use std::io;
use std::process::ExitStatus;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Child;

/// A child that leads a process group of its own. Dropped before its end, the
/// whole group is killed.
#[derive(Debug)]
pub(crate) struct ProcessGroup {
    child: Child,
    /// Its number, while the child has not been waited for: until then nobody
    /// else can have it.
    id: Option<Pid>,
}

impl ProcessGroup {
    /// Takes charge of a child that was started with `process_group(0)`.
    pub(crate) fn of(child: Child) -> Self {
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
    pub(crate) async fn end(mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.id = None;
        status
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        let Some(id) = self.id else {
            return;
        };
        match killpg(id, Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => log::warn!("script {id} cannot be killed, and runs on: {error}"),
        }
    }
}
