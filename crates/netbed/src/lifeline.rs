//! What ends a bed, however its owner ends.
//!
//! All programs of a bed live in a PID namespace. Its first process waits
//! for the end of a pipe whose other end only the owner holds. When the owner
//! returns, panics, is interrupted or is killed outright, the pipe ends, the
//! first process removes what the bed left on disk and exits, and with it
//! the kernel ends every process of the namespace (pid_namespaces(7)). Network
//! and mount namespaces have no names, so they vanish with their last process
//! and thread: there is nothing that could be forgotten.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};

use crate::control_group;

/// What the first process does. `kill -1` means all others of its namespace:
/// they end before the files that they might be writing are removed. Names of
/// network namespaces exist only if the bed was kept.
const FIRST_PROCESS: &str = r#"
    read -r _
    kill -s KILL -- -1
    rm -rf -- "$1"
    # A group can be removed when the last of its processes has vanished.
    tries=200
    while [ -d "$2" ] && [ "$tries" -gt 0 ]; do
        find "$2" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.05
        tries=$((tries - 1))
    done
    for name in /run/netns/"${1##*/}"-*; do
        [ ! -e "$name" ] || ip netns delete "${name##*/}"
    done
"#;

/// The first process of a bed's PID namespace, and the pipe that keeps it.
#[derive(Debug)]
pub(crate) struct Lifeline {
    init: Child,
    pipe: Option<ChildStdin>,
    pid_namespace: File,
}

impl Lifeline {
    /// Starts the first process; `directory` is removed when it ends.
    pub(crate) fn start(directory: &Path) -> Result<Self> {
        let mut command = Command::new("sh");
        command
            .args(["-c", FIRST_PROCESS, "millrace-netbed"])
            .arg(directory)
            .arg(control_group::of_bed(directory).unwrap_or_default())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A terminal's Ctrl-C goes to the owner, who decides what ends.
            .process_group(0);
        // Only children of this one thread begin in the new namespace.
        let mut init = thread::spawn(move || -> Result<Child> {
            unshare(CloneFlags::CLONE_NEWPID)
                .context("cannot create a PID namespace (needs root, or CAP_SYS_ADMIN)")?;
            command.spawn().context("cannot start `sh`")
        })
        .join()
        .expect("the spawning thread does not panic")?;
        let pipe = init.stdin.take();
        let pid_namespace = File::open(format!("/proc/{}/ns/pid", init.id()))
            .context("cannot open the new PID namespace")?;
        Ok(Self {
            init,
            pipe,
            pid_namespace,
        })
    }

    /// The namespace that programs of the bed are started in.
    pub(crate) fn pid_namespace(&self) -> &File {
        &self.pid_namespace
    }

    /// The end that keeps the bed alive, for a process that is to inherit it.
    pub(crate) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Lets go: every process of the bed is killed from now on.
    pub(crate) fn cut(&mut self) {
        self.pipe = None;
    }
}

impl Drop for Lifeline {
    /// Waits until the first process has ended, and so everything in the
    /// namespace. Whoever started processes there waits for them before this.
    fn drop(&mut self) {
        self.cut();
        // The only error is that somebody else has waited for it already.
        let _ = self.init.wait();
    }
}
