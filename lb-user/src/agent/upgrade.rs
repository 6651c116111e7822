//! An upgrade in place: the process becomes the new program.
//!
//! The process keeps its number, so that whoever supervises it (systemd, runit)
//! notices nothing. The data plane is pinned and forwards meanwhile; the new
//! program adopts it, and leads on with the virtual routers that are master.
//!
//! Before, the new program rehearses its start with the same arguments
//! (`--rehearse`), while the agent goes on.

use std::env;
use std::ffi::{CString, OsStr};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{self, Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::execv;
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

/// The program that runs, whatever has become of its file.
const RUNNING: &str = "/proc/self/exe";

/// The program file that this process was started from, by the name that it was
/// started by: where that is a symbolic link, another version may stand behind
/// it later. To be asked for before another file takes its name.
///
/// # Errors
/// `/proc` does not tell.
pub(super) fn own_program() -> io::Result<PathBuf> {
    let running = fs::metadata(RUNNING)?;
    // A program may be given any name; few are given another's whole path.
    let is_ours = |path: &PathBuf| {
        let is_same =
            |found: Metadata| (found.dev(), found.ino()) == (running.dev(), running.ino());
        fs::metadata(path).is_ok_and(|found| path.is_absolute() || is_same(found))
    };
    let name = env::args_os().next().unwrap_or_default();
    let path = env::var_os("PATH").unwrap_or_default();
    match places_of(&name, &path).into_iter().find(is_ours) {
        Some(path) => path::absolute(path),
        None => env::current_exe(),
    }
}

/// The places where a shell looks for a program that is called `name`: there, if it
/// is a path, else in the directories of `PATH` (execvp(3)).
fn places_of(name: &OsStr, path: &OsStr) -> Vec<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return vec![PathBuf::from(name)];
    }
    env::split_paths(path)
        .map(|directory| match directory.as_os_str().is_empty() {
            true => Path::new(".").join(name),
            false => directory.join(name),
        })
        .collect()
}

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
    execute(installed, installed)
}

/// Becomes the program that runs once more, whatever has become of its file,
/// under the name of the one in `installed`. Returns only if that cannot be.
pub(super) fn begin_anew(installed: &Path) -> io::Error {
    execute(Path::new(RUNNING), installed)
}

/// Not by `std::process::Command`: signals that are blocked are to stay so.
fn execute(file: &Path, name: &Path) -> io::Error {
    let mut arguments = vec![name.as_os_str().to_owned()];
    arguments.extend(env::args_os().skip(1));
    let text = |text: &OsStr| CString::new(text.as_bytes());
    let arguments = arguments.iter().map(|argument| text(argument));
    match (
        text(file.as_os_str()),
        arguments.collect::<Result<Vec<_>, _>>(),
    ) {
        (Ok(file), Ok(arguments)) => match execv(&file, &arguments) {
            Err(error) => error.into(),
        },
        (Err(error), _) | (_, Err(error)) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_looked_for_where_a_shell_does() {
        let places = |name: &str, path: &str| places_of(OsStr::new(name), OsStr::new(path));
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(
            places("lb-user", "/usr/local/bin::/bin"),
            paths(&["/usr/local/bin/lb-user", "./lb-user", "/bin/lb-user"])
        );
        assert_eq!(places("bin/lb-user", "/bin"), paths(&["bin/lb-user"]));
        assert_eq!(places("/a/lb-user", "/bin"), paths(&["/a/lb-user"]));
    }
}
