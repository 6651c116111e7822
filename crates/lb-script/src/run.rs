//! Running of one script: without a shell, until its end or until this is dropped.

use std::fs::File;
use std::io;
use std::process::{ExitStatus, Stdio};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid};
use service_kit::process::ProcessGroup;
use tokio::process::{Child, Command};

use crate::runnable::Runnable;
use crate::standard_error::StandardError;

/// Runs a script to its end; it is killed should the future be dropped, with
/// everything that it has started. Its standard error is logged.
///
/// # Errors
/// The program or its user does not exist, or may not be used:
/// [`io::ErrorKind::PermissionDenied`] if it is not safe.
pub async fn run_script(runnable: &Runnable) -> io::Result<ExitStatus> {
    let name = || runnable.script.command.join(" ");
    run_with_log(runnable, |line| {
        log::info!("script `{}` wrote: {line}", name());
    })
    .await
}

/// As [`run_script`], with another place for the lines of its standard error.
async fn run_with_log(runnable: &Runnable, mut log: impl FnMut(&str)) -> io::Result<ExitStatus> {
    runnable.check()?;
    let (program, arguments) = runnable.invocation();
    let (mut standard_error, stderr) = StandardError::new()?;
    let identity = runnable.identity()?;
    let child = spawn(&program, &arguments, stderr.try_clone()?, identity);
    let child = match child {
        // What names no interpreter is the shell's (execvp(3)).
        Err(error) if error.raw_os_error() == Some(Errno::ENOEXEC as i32) => {
            let arguments: Vec<String> = [program].into_iter().chain(arguments).collect();
            spawn("/bin/sh", &arguments, stderr, identity)
        }
        child => child,
    };
    let group = ProcessGroup::of(child.map_err(|error| explain(error, identity))?);
    let status = tokio::select! {
        status = group.end() => status?,
        error = standard_error.forward(&mut log) => return Err(error),
    };
    standard_error.finish(log);
    Ok(status)
}

/// Starts a program as `identity`, in a process group of its own: what ends it
/// ends its children, too.
fn spawn(
    program: &str,
    arguments: &[String],
    stderr: File,
    identity: Option<(Uid, Gid)>,
) -> io::Result<Child> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .process_group(0)
        .kill_on_drop(true);
    if let Some((uid, gid)) = identity {
        command.uid(uid.as_raw()).gid(gid.as_raw());
    }
    command.spawn()
}

/// Adds to an error why a script cannot be run as `identity`.
fn explain(error: io::Error, identity: Option<(Uid, Gid)>) -> io::Error {
    let refused = error.raw_os_error() == Some(Errno::EPERM as i32);
    match identity.filter(|_| refused) {
        Some((uid, _)) => io::Error::new(
            error.kind(),
            format!(
                "becoming the user {uid} takes CAP_SETUID and CAP_SETGID (systemd: \
                 CapabilityBoundingSet)"
            ),
        ),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use std::time::Duration;

    use lb_model::config::Script;
    use nix::unistd::geteuid;
    use tokio::time::sleep;

    use super::*;

    fn script(command: &[&str]) -> Runnable {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        Runnable::from(Script {
            command,
            ..Script::default()
        })
    }

    #[tokio::test]
    async fn no_shell_looks_at_the_arguments() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("a;b $HOME");
        let status = run_script(&script(&["touch", file.to_str().expect("UTF-8")])).await;
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
            _ = run_script(&script) => panic!("it does not end by itself"),
            pid = async {
                loop {
                    let pid = fs::read_to_string(&file).unwrap_or_default();
                    if pid.ends_with('\n') {
                        break pid;
                    }
                    sleep(Duration::from_millis(5)).await;
                }
            } => pid,
        };
        let process = format!("/proc/{}/cmdline", pid.trim());
        // A zombie that nobody has waited for has no words any more.
        while fs::read_to_string(&process).is_ok_and(|line| !line.is_empty()) {
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// The standard error of a line of shell, as it is logged.
    async fn said(line: &str) -> Vec<String> {
        let mut said = Vec::new();
        let script = script(&["/bin/sh", "-c", line]);
        let status = run_with_log(&script, |line| said.push(line.to_owned()));
        assert!(status.await.expect("there is a shell").success());
        said
    }

    #[tokio::test]
    async fn what_a_script_says_is_passed_on_up_to_a_point() {
        let lines = said("echo one >&2; echo not this; printf 'two\\nthree' >&2").await;
        assert_eq!(lines, ["one", "two", "three"]);
        let lines = said("yes | head -n 100000 >&2").await;
        assert_eq!(lines.len(), 21);
        assert_eq!(lines.last().expect("21"), "(and more)");
        // No command fails because there is nobody to hear it.
        let lines = said("head -c 1000000 /dev/zero | tr '\\0' x >&2").await;
        assert_eq!(lines, ["x".repeat(500)]);
    }

    #[tokio::test]
    async fn what_a_script_leaves_in_the_background_may_say_what_it_likes() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("lived");
        // Until nobody listens any more, and then more than a pipe holds.
        let background = format!(
            "while kill -0 $$ 2>/dev/null; do sleep 0.01; done;
            head -c 1000000 /dev/zero >&2; echo >&2; echo yes > {}",
            file.display()
        );
        let line = format!("echo ready >&2; ( {background} ) &");
        assert_eq!(said(&line).await, ["ready"]);
        let lived = async {
            while !fs::read_to_string(&file).is_ok_and(|lived| lived == "yes\n") {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let patience = Duration::from_secs(20);
        tokio::time::timeout(patience, lived)
            .await
            .expect("it lives on");
    }

    #[tokio::test]
    async fn an_unknown_user_is_named() {
        let mut script = script(&["true"]);
        script.script.user = Some("no-such-user".to_owned());
        let error = run_script(&script)
            .await
            .expect_err("there is no such user");
        assert_eq!(error.to_string(), "there is no user no-such-user");
    }

    #[tokio::test]
    async fn a_script_that_others_may_write_runs_as_root_only_without_script_security() {
        if !geteuid().is_root() {
            netbed::skip!("becoming another user needs root");
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
        assert_eq!(run_script(&script).await.expect("it runs").code(), Some(3));
        script.must_be_safe = true;
        let error = run_script(&script).await.expect_err("it is not safe");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let expected = format!(
            "others than root may write {} (enable_script_security)",
            program.display()
        );
        assert_eq!(error.to_string(), expected);
        script.script.user = Some("nobody".to_owned());
        let status = run_script(&script).await.expect("not as root");
        assert_eq!(status.code(), Some(3));
        script.script.group = Some("root".to_owned());
        assert!(run_script(&script).await.is_err(), "with root's group");
        script.script.group = None;
        script.script.user = Some("root".to_owned());
        allow(&program, 0o755);
        assert_eq!(run_script(&script).await.expect("mended").code(), Some(3));
    }
}
