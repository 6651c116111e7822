//! Scripts that are run when something changes: without a shell, within a time
//! limit.

mod group;
mod runner;

use std::io;
use std::process::{ExitStatus, Stdio};

use nix::errno::Errno;
use nix::unistd::{Group, User, geteuid};
use tokio::process::Command;

use crate::config::model::Script;
use group::ProcessGroup;
pub use runner::ScriptRunner;

/// Runs a script to its end; it is killed should the future be dropped, with
/// everything that it has started.
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
        // Its own group: what ends it ends its children, too.
        .process_group(0)
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
            let child = command.spawn().map_err(|error| explain(error, name))?;
            return ProcessGroup::of(child).end().await;
        }
    }
    ProcessGroup::of(command.spawn()?).end().await
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
    async fn no_shell_looks_at_the_arguments() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("a;b $HOME");
        let status = run(&script(&["touch", file.to_str().expect("UTF-8")])).await;
        assert!(status.expect("touch exists").success());
        assert!(file.exists());
    }

    #[tokio::test]
    async fn a_script_that_is_given_up_takes_its_children_with_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("pid");
        let line = format!("sleep 1000 & echo $! > {}; wait", file.display());
        let script = script(&["/bin/sh", "-c", &line]);
        let pid = tokio::select! {
            _ = run(&script) => panic!("it does not end by itself"),
            pid = async {
                loop {
                    let pid = std::fs::read_to_string(&file).unwrap_or_default();
                    if pid.ends_with('\n') {
                        break pid;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            } => pid,
        };
        let process = format!("/proc/{}/cmdline", pid.trim());
        // A zombie that nobody has waited for has no words any more.
        while std::fs::read_to_string(&process).is_ok_and(|line| !line.is_empty()) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn an_unknown_user_is_named() {
        let mut script = script(&["true"]);
        script.user = Some("no-such-user".to_owned());
        let error = run(&script).await.expect_err("there is no such user");
        assert_eq!(error.to_string(), "there is no user no-such-user");
    }
}
