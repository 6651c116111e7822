//! Scripts that are run when something changes: in order, without a shell,
//! within a time limit.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{Group, User, geteuid};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::config::model::Script;

/// How long a script may run before it is killed.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Runs scripts one after the other, in the order in which they were asked for.
#[derive(Debug)]
pub struct ScriptRunner {
    queue: mpsc::UnboundedSender<Script>,
    task: JoinHandle<()>,
}

impl ScriptRunner {
    /// Starts with nothing to run.
    pub fn start() -> Self {
        let (queue, mut scripts) = mpsc::unbounded_channel::<Script>();
        let task = tokio::spawn(async move {
            while let Some(script) = scripts.recv().await {
                let name = script.command.join(" ");
                match timeout(TIME_LIMIT, run(&script)).await {
                    Ok(Ok(status)) if status.success() => log::debug!("script `{name}`: done"),
                    Ok(Ok(status)) => log::warn!("script `{name}`: {status}"),
                    Ok(Err(error)) => log::warn!("script `{name}` cannot be run: {error}"),
                    Err(_) => {
                        log::warn!("script `{name}` killed after {} s", TIME_LIMIT.as_secs());
                    }
                }
            }
        });
        Self { queue, task }
    }

    /// Has a script run after those asked for before.
    pub fn run(&self, script: Script) {
        // The task ends only with the runner itself.
        let _ = self.queue.send(script);
    }

    /// Waits for the scripts asked for so far.
    pub async fn finish(self) {
        drop(self.queue);
        if self.task.await.is_err() {
            log::warn!("the task that runs scripts has failed");
        }
    }
}

/// Runs a script to its end; it is killed should the future be dropped.
///
/// # Errors
/// The program or its user does not exist, or may not be used.
pub async fn run(script: &Script) -> io::Result<ExitStatus> {
    let (program, arguments) = script
        .command
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the command is empty"))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    if let Some(name) = &script.user {
        let user = User::from_name(name)?.ok_or_else(|| unknown("user", name))?;
        let gid = match &script.group {
            Some(name) => {
                Group::from_name(name)?
                    .ok_or_else(|| unknown("group", name))?
                    .gid
            }
            None => user.gid,
        };
        if user.uid != geteuid() {
            command.uid(user.uid.as_raw()).gid(gid.as_raw());
            let status = command.status().await;
            return status.map_err(|error| explain(error, name));
        }
    }
    command.status().await
}

/// Why a script cannot be run as `user`.
fn explain(error: io::Error, user: &str) -> io::Error {
    if error.raw_os_error() != Some(Errno::EPERM as i32) {
        return error;
    }
    io::Error::new(
        error.kind(),
        format!(
            "becoming the user {user} takes CAP_SETUID and CAP_SETGID (systemd: \
             CapabilityBoundingSet)"
        ),
    )
}

fn unknown(kind: &str, name: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("there is no {kind} {name}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(command: &[&str]) -> Script {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        Script {
            command,
            user: None,
            group: None,
        }
    }

    #[tokio::test]
    async fn scripts_run_in_order_and_a_failing_one_does_not_stop_the_next() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("log");
        let append = |word: &str, status: &str| {
            let line = format!("echo {word} >> {}; exit {status}", file.display());
            script(&["/bin/sh", "-c", &line])
        };
        let runner = ScriptRunner::start();
        runner.run(append("one", "1"));
        runner.run(script(&["/nonexistent/program"]));
        runner.run(append("two", "0"));
        runner.finish().await;
        assert_eq!(
            std::fs::read_to_string(&file).expect("the log"),
            "one\ntwo\n"
        );
    }

    #[tokio::test]
    async fn no_shell_looks_at_the_arguments() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("a;b $HOME");
        let status = run(&script(&["touch", file.to_str().expect("UTF-8")])).await;
        assert!(status.expect("touch exists").success());
        assert!(file.exists());
    }

    #[tokio::test]
    async fn an_unknown_user_is_named() {
        let mut script = script(&["true"]);
        script.user = Some("no-such-user".to_owned());
        let error = run(&script).await.expect_err("there is no such user");
        assert_eq!(error.to_string(), "there is no user no-such-user");
    }
}
