//! Scripts that are run when something changes: in order, without a shell,
//! within a time limit.

mod safety;

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid};
use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::config::model::{GlobalDefs, Script};

/// Whom scripts run as where nothing is said, if there is such a user
/// (keepalived.conf(5), `script_user`).
const DEFAULT_USER: &str = "keepalived_script";

/// How long a script may run before it is killed.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Runs scripts one after the other, in the order in which they were asked for.
#[derive(Debug)]
pub struct ScriptRunner {
    queue: mpsc::UnboundedSender<Runnable>,
    /// How many have been asked for and are not over.
    pending: watch::Sender<usize>,
    task: JoinHandle<()>,
}

impl ScriptRunner {
    /// Starts with nothing to run.
    pub fn start() -> Self {
        let (queue, mut scripts) = mpsc::unbounded_channel::<Runnable>();
        let pending = watch::Sender::new(0);
        let count = pending.clone();
        let task = tokio::spawn(async move {
            while let Some(script) = scripts.recv().await {
                let name = script.script.command.join(" ");
                match timeout(TIME_LIMIT, run(&script)).await {
                    Ok(Ok(status)) if status.success() => log::debug!("script `{name}`: done"),
                    Ok(Ok(status)) => log::warn!("script `{name}`: {status}"),
                    Ok(Err(error)) => log::warn!("script `{name}` cannot be run: {error}"),
                    Err(_) => {
                        log::warn!("script `{name}` killed after {} s", TIME_LIMIT.as_secs());
                    }
                }
                count.send_modify(|pending| *pending -= 1);
            }
        });
        Self {
            queue,
            pending,
            task,
        }
    }

    /// Has a script run after those asked for before.
    pub fn run(&self, script: Runnable) {
        self.pending.send_modify(|pending| *pending += 1);
        // The task ends only with the runner itself.
        let _ = self.queue.send(script);
    }

    /// Waits until no script runs and none is to be run. May be dropped.
    pub async fn done(&self) {
        let mut pending = self.pending.subscribe();
        // Its sender lives as long as we.
        let _ = pending.wait_for(|pending| *pending == 0).await;
    }

    /// Waits for the scripts asked for so far.
    pub async fn finish(self) {
        drop(self.queue);
        if self.task.await.is_err() {
            log::warn!("the task that runs scripts has failed");
        }
    }
}

/// A script, and the conditions that it runs under.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Runnable {
    /// The script.
    pub script: Script,
    /// Whether it must not run as root if another user may change it
    /// (`enable_script_security`).
    pub must_be_safe: bool,
}

impl From<Script> for Runnable {
    fn from(script: Script) -> Self {
        Self {
            script,
            must_be_safe: false,
        }
    }
}

impl Runnable {
    /// A script under the conditions of `global_defs`.
    pub fn new(mut script: Script, global: &GlobalDefs) -> Self {
        if script.user.is_none()
            && let Some([user, group @ ..]) = global.script_user.as_deref()
        {
            script.user = Some(user.clone());
            script.group = group.first().cloned();
        }
        Self {
            script,
            must_be_safe: global.enable_script_security,
        }
    }

    /// Whom it runs as; `None`: as the agent does.
    fn identity(&self) -> io::Result<Option<(Uid, Gid)>> {
        let user = match &self.script.user {
            Some(name) => User::from_name(name)?.ok_or_else(|| unknown("user", name))?,
            // An agent that may become another user does.
            None if geteuid().is_root() => match User::from_name(DEFAULT_USER)? {
                Some(user) => user,
                None => return Ok(None),
            },
            None => return Ok(None),
        };
        let gid = match &self.script.group {
            Some(name) => {
                Group::from_name(name)?
                    .ok_or_else(|| unknown("group", name))?
                    .gid
            }
            None => user.gid,
        };
        Ok((user.uid != geteuid()).then_some((user.uid, gid)))
    }

    /// Why it must not run, if it must not: it would run as root, and another
    /// user may change it.
    ///
    /// # Errors
    /// The program or its user does not exist.
    pub fn refusal(&self) -> io::Result<Option<String>> {
        let Some(program) = self.script.command.first().filter(|_| self.must_be_safe) else {
            return Ok(None);
        };
        let (uid, gid) = self.identity()?.unwrap_or_else(|| (geteuid(), getegid()));
        if !uid.is_root() && gid.as_raw() != 0 {
            return Ok(None);
        }
        let part = safety::writable_part(&safety::locate(program)?)?;
        Ok(part.map(|part| {
            format!(
                "others than root may write {} (enable_script_security)",
                part.display()
            )
        }))
    }
}

/// Runs a script to its end; it is killed should the future be dropped.
///
/// # Errors
/// The program or its user does not exist, or may not be used:
/// [`io::ErrorKind::PermissionDenied`] if it is not safe.
pub async fn run(runnable: &Runnable) -> io::Result<ExitStatus> {
    let (program, arguments) = runnable
        .script
        .command
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the command is empty"))?;
    if let Some(reason) = runnable.refusal()? {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    }
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    let Some((uid, gid)) = runnable.identity()? else {
        return command.status().await;
    };
    command.uid(uid.as_raw()).gid(gid.as_raw());
    let user = runnable.script.user.as_deref().unwrap_or(DEFAULT_USER);
    let status = command.status().await;
    status.map_err(|error| explain(error, user))
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
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    fn script(command: &[&str]) -> Runnable {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        Runnable::from(Script {
            command,
            user: None,
            group: None,
        })
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
        script.script.user = Some("no-such-user".to_owned());
        let error = run(&script).await.expect_err("there is no such user");
        assert_eq!(error.to_string(), "there is no user no-such-user");
    }

    #[tokio::test]
    async fn a_script_that_others_may_write_runs_as_root_only_without_script_security() {
        if !geteuid().is_root() {
            eprintln!("SKIPPED: becoming another user needs root");
            return;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let program = directory.path().join("program");
        fs::write(&program, "#!/bin/sh\nexit 3\n").expect("it is written");
        let allow = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
        };
        allow(directory.path(), 0o755);
        allow(&program, 0o757);
        let mut script = script(&[program.to_str().expect("UTF-8")]);
        script.script.user = Some("root".to_owned());
        assert_eq!(run(&script).await.expect("it runs").code(), Some(3));
        script.must_be_safe = true;
        let error = run(&script).await.expect_err("it is not safe");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let expected = format!(
            "others than root may write {} (enable_script_security)",
            program.display()
        );
        assert_eq!(error.to_string(), expected);
        script.script.user = Some("nobody".to_owned());
        let status = run(&script).await.expect("not as root");
        assert_eq!(status.code(), Some(3));
        script.script.group = Some("root".to_owned());
        assert!(run(&script).await.is_err(), "with root's group");
        script.script.group = None;
        script.script.user = Some("root".to_owned());
        allow(&program, 0o755);
        assert_eq!(run(&script).await.expect("mended").code(), Some(3));
    }

    #[test]
    fn a_script_runs_as_script_user_unless_it_names_another() {
        let global = GlobalDefs {
            script_user: Some(vec!["nobody".to_owned(), "nogroup".to_owned()]),
            enable_script_security: true,
            ..GlobalDefs::default()
        };
        let plain = script(&["true"]).script;
        let runnable = Runnable::new(plain.clone(), &global);
        assert_eq!(runnable.script.user.as_deref(), Some("nobody"));
        assert_eq!(runnable.script.group.as_deref(), Some("nogroup"));
        assert!(runnable.must_be_safe);
        let own = Script {
            user: Some("root".to_owned()),
            ..plain
        };
        assert_eq!(Runnable::new(own.clone(), &global).script, own);
    }
}
