//! What ends a process group when the daemon is killed.

use std::io;
use std::process::Stdio;

use tokio::process::{Child, Command};

use super::starts::starting;

/// Waits for the end of its standard input, which is the daemon's, and kills the group `$0`.
const SCRIPT: &str =
    "trap '' HUP INT QUIT TERM USR1 USR2; while read -r _; do :; done; kill -s KILL -- \"-$0\"";

/// A shell that kills a process group when this process ends without having dropped it.
///
/// The kernel kills the program that [`Launcher`](super::Launcher) has started
/// (`PR_SET_PDEATHSIG`), but not what that has started itself: the setting is not inherited
/// (prctl(2)).
#[derive(Debug)]
pub(super) struct Watcher {
    /// Killed when it is dropped. Nobody else has the other end of its standard input, which
    /// is closed on exec.
    #[cfg_attr(not(test), expect(dead_code, reason = "held for its drop"))]
    shell: Child,
}

impl Watcher {
    /// Watches over the process group `group`.
    ///
    /// # Errors
    /// There is no shell, or no process is left.
    pub(super) fn start(group: u32) -> io::Result<Self> {
        let _starting = starting();
        let shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, &group.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What is sent to the daemon's own group, such as by Ctrl-C, is not for it.
            .process_group(0)
            .kill_on_drop(true)
            .env_clear()
            .spawn()?;
        Ok(Self { shell })
    }

    /// Has happen what does when this process is killed.
    #[cfg(test)]
    pub(super) async fn lose(mut self) {
        drop(self.shell.stdin.take());
        self.shell.wait().await.expect("it ends");
    }
}
