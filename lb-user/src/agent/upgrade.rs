//! An upgrade in place: the process becomes the new program.
//!
//! The process keeps its number, so that whoever supervises it (systemd, runit)
//! notices nothing. The data plane is pinned and forwards meanwhile; the new
//! program adopts it, and leads on with the virtual routers that are master.

use std::env;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{SigHandler, Signal, signal};
use tokio::time::timeout;

use super::RunOptions;

/// How long the new program may take to look at the configuration.
const REHEARSAL_LIMIT: Duration = Duration::from_secs(30);

/// The program file that this process was started from, to be asked for before
/// another file takes its name.
///
/// # Errors
/// `/proc` does not tell.
pub fn own_program() -> io::Result<PathBuf> {
    env::current_exe()
}

/// Lets the program that is now in `program` look at the configuration, and at
/// whether the kernel takes its XDP program, while this one goes on.
///
/// # Errors
/// What it says, or why it cannot be run.
pub async fn rehearse(program: &Path, options: &RunOptions) -> Result<(), String> {
    let mut command = tokio::process::Command::new(program);
    command
        .arg("check")
        .arg("--load")
        .arg("-c")
        .arg(&options.config)
        .arg("-i")
        .arg(&options.config_id)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let cannot = |reason: String| format!("{} cannot take over: {reason}", program.display());
    let output = match timeout(REHEARSAL_LIMIT, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(cannot(error.to_string())),
        Err(_) => {
            let limit = REHEARSAL_LIMIT.as_secs();
            return Err(cannot(format!("its check does not end within {limit} s")));
        }
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(cannot(match said.trim() {
        "" => output.status.to_string(),
        said => said.to_owned(),
    }))
}

/// Becomes `program`, with the arguments that this process was started with.
/// Returns only if that fails.
pub fn become_program(program: &Path) -> io::Error {
    for ignored in [Signal::SIGHUP, Signal::SIGUSR2] {
        // Not fatal before the new program listens for it: what is ignored
        // stays so (execve(2)).
        // SAFETY: no handler of ours is put in the place of another.
        let _ = unsafe { signal(ignored, SigHandler::SigIgn) };
    }
    Command::new(program).args(env::args_os().skip(1)).exec()
}
