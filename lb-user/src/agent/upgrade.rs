//! An upgrade in place: the process becomes the new program.
//!
//! The process keeps its number, so that whoever supervises it (systemd, runit)
//! notices nothing. The data plane is pinned and forwards meanwhile; the new
//! program adopts it, and leads on with the virtual routers that are master.
//!
//! Before, the new program rehearses its start with the same arguments
//! (`--rehearse`), while the agent goes on.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use service_kit::program;
pub(super) use service_kit::program::own_program;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn};
use tokio::time::{sleep, timeout};

use super::saved::HandOver;
use crate::control::protocol::Response;

/// Time limit of a rehearsal.
const REHEARSAL_LIMIT: Duration = Duration::from_secs(60);

/// The argument by which a program rehearses its start: it changes nothing, and its
/// exit status says whether it would start.
pub(super) const REHEARSE: &str = "--rehearse";

/// The upgrade to the program that is installed now.
///
/// ```text
///            begin              passed
///  Idle ──────────▶ Rehearsing ────────▶ Rehearsed ─▶ exec
///    ▲                  │ failed
///    └──────────────────┘
/// ```
#[derive(Debug)]
pub(super) struct Upgrade {
    /// The file that this process was started from, and that is executed.
    program: PathBuf,
    state: UpgradeState,
    /// Told as soon as the rehearsal has failed, or the program takes over.
    waiters: Vec<oneshot::Sender<Response>>,
    /// Why the last upgrade has failed when the program was to take over, if it has.
    failure: Option<String>,
}

#[derive(Debug)]
enum UpgradeState {
    Idle,
    Rehearsing(JoinHandle<Result<(), String>>),
    Rehearsed,
}

impl Upgrade {
    /// No upgrade to `program` yet.
    pub(super) fn new(program: PathBuf) -> Self {
        Self {
            program,
            state: UpgradeState::Idle,
            waiters: Vec::new(),
            failure: None,
        }
    }

    /// Takes note of how the last upgrade went, which this process is the outcome of.
    pub(super) fn on_hand_over(&mut self, handed_over: &HandOver) {
        self.failure.clone_from(&handed_over.failure);
    }

    /// Starts the rehearsal, unless there is one already.
    pub(super) fn begin(&mut self) {
        if matches!(self.state, UpgradeState::Idle) {
            log::info!("upgrade: rehearsing {}", self.program.display());
            let rehearsal = spawn(rehearse(self.program.clone()));
            self.state = UpgradeState::Rehearsing(rehearsal);
        }
    }

    /// Has `waiter` told of the outcome.
    pub(super) fn add_waiter(&mut self, waiter: oneshot::Sender<Response>) {
        self.waiters.push(waiter);
    }

    /// Waits for the end of the rehearsal; for ever, while there is none. May be
    /// dropped without losing it.
    ///
    /// # Errors
    /// Why the program cannot take over.
    pub(super) async fn rehearsed(&mut self) -> Result<(), String> {
        let UpgradeState::Rehearsing(rehearsal) = &mut self.state else {
            return std::future::pending().await;
        };
        let outcome = rehearsal.await.expect("a rehearsal does not panic");
        self.state = match outcome {
            Ok(()) => UpgradeState::Rehearsed,
            Err(_) => UpgradeState::Idle,
        };
        outcome
    }

    /// True once the rehearsal has passed.
    pub(super) fn is_rehearsed(&self) -> bool {
        matches!(self.state, UpgradeState::Rehearsed)
    }

    /// The file that is executed.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Why the last upgrade has failed, if it has.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Tells whoever waits for the outcome.
    pub(super) fn answer(&mut self, response: &Response) {
        for waiter in self.waiters.drain(..) {
            // A client that has gone wants no answer.
            let _ = waiter.send(response.clone());
        }
    }
}

/// Runs `program` with our arguments and [`REHEARSE`].
///
/// # Errors
/// Why it would not start.
async fn rehearse(program: PathBuf) -> Result<(), String> {
    let mut command = tokio::process::Command::new(&program);
    command
        .args(env::args_os().skip(1))
        .arg(REHEARSE)
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
            return Err(cannot(format!(
                "its rehearsal does not end within {limit} s"
            )));
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

/// Waits for the scripts that have been killed, as nobody will later. Not for
/// long: adverts are due.
pub(super) async fn wait_for_children() {
    const TIMEOUT: Duration = Duration::from_millis(100);
    const PAUSE: Duration = Duration::from_millis(1);
    let all = async {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => sleep(PAUSE).await,
                Ok(_) => {}
                Err(_no_child) => return,
            }
        }
    };
    if timeout(TIMEOUT, all).await.is_err() {
        log::warn!("upgrade: a script that was killed has not ended yet");
    }
}

/// Becomes the program in `installed`, with the arguments that this process was
/// started with. Returns only if that cannot be.
pub(super) fn become_program(installed: &Path) -> io::Error {
    program::become_program(installed, installed, &[])
}

/// Becomes the program that runs once more, whatever has become of its file,
/// under the name of the one in `installed`. Returns only if that cannot be.
pub(super) fn begin_anew(installed: &Path) -> io::Error {
    program::become_program(Path::new(program::RUNNING), installed, &[])
}
