//! Checks that a script can be run, and may be.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;

use nix::unistd::{Gid, Uid, getegid, geteuid};

use crate::runnable::Runnable;
use crate::safety;

/// Prefix of a path that is to be opened instead of run, as in
/// `"</dev/tcp/127.0.0.1/80"`.
const REDIRECTION: &str = "</";

/// Paths that bash alone opens, as connections (bash(1), "REDIRECTION").
const CONNECTIONS: [&str; 2] = ["</dev/tcp/", "</dev/udp/"];

/// The reason why a script is not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRunnable {
    /// It cannot be run: there is no such program or user, or the program is not
    /// executable.
    #[error("{0}")]
    Impossible(String),
    /// It would run as root, and another user may change it
    /// (`enable_script_security`).
    #[error("{0}")]
    Unsafe(String),
}

impl From<NotRunnable> for io::Error {
    fn from(reason: NotRunnable) -> Self {
        let kind = match reason {
            NotRunnable::Impossible(_) => io::ErrorKind::NotFound,
            NotRunnable::Unsafe(_) => io::ErrorKind::PermissionDenied,
        };
        Self::new(kind, reason)
    }
}

impl Runnable {
    /// Checks that it can be run as the file system is now, and may be.
    ///
    /// # Errors
    /// The reason why not, with a remedy.
    pub fn check(&self) -> Result<(), NotRunnable> {
        let identity = self
            .identity()
            .map_err(|error| NotRunnable::Impossible(error.to_string()))?;
        let (uid, gid) = identity.unwrap_or_else(|| (geteuid(), getegid()));
        let (program, _) = self.invocation();
        let file = safety::locate(&program).map_err(|_| {
            NotRunnable::Impossible(format!(
                "there is no program {program} in PATH; install it, or name it with its path"
            ))
        })?;
        let shown = file.display();
        let metadata = fs::metadata(&file).map_err(|error| {
            NotRunnable::Impossible(match error.kind() {
                io::ErrorKind::NotFound => {
                    format!("there is no {shown}; install it, or name the right path")
                }
                _ => format!("{shown} cannot be reached: {error}"),
            })
        })?;
        if !metadata.is_file() {
            let reason = format!("{shown} is no file that can be run; name a program");
            return Err(NotRunnable::Impossible(reason));
        }
        if !is_executable(&metadata, uid, gid) {
            let reason =
                format!("{shown} is not executable for the user {uid}; `chmod a+rx {shown}`");
            return Err(NotRunnable::Impossible(reason));
        }
        if self.must_be_safe && (uid.is_root() || gid.as_raw() == 0) {
            let part = safety::writable_part(&file)
                .map_err(|error| NotRunnable::Impossible(format!("{shown}: {error}")))?;
            if let Some(part) = part {
                return Err(NotRunnable::Unsafe(format!(
                    "others than root may write {} (enable_script_security)",
                    part.display()
                )));
            }
        }
        Ok(())
    }

    /// The program that is executed, and its arguments. A path after `<` is
    /// opened by a shell, as keepalived has it done.
    pub(crate) fn invocation(&self) -> (String, Vec<String>) {
        let mut words = self.script.command.iter().cloned();
        let program = words.next().unwrap_or_default();
        if !program.starts_with(REDIRECTION) {
            return (program, words.collect());
        }
        let shell = if self.opens_connection() {
            "bash"
        } else {
            "/bin/sh"
        };
        // That the path cannot be opened is the exit status; nobody need read it
        // with every run.
        let line = format!("exec 2>/dev/null; {}", self.script.command.join(" "));
        (shell.to_owned(), vec!["-c".to_owned(), line])
    }

    /// Returns true if it opens a connection, for which bash is needed.
    pub fn opens_connection(&self) -> bool {
        let program = self.script.command.first();
        program.is_some_and(|program| CONNECTIONS.iter().any(|path| program.starts_with(path)))
    }
}

/// Returns true if a user may execute a file, by its mode (execve(2)).
fn is_executable(metadata: &Metadata, uid: Uid, gid: Gid) -> bool {
    let bits = match uid.as_raw() {
        0 => 0o111,
        uid if uid == metadata.uid() => 0o100,
        _ if gid.as_raw() == metadata.gid() => 0o010,
        _ => 0o001,
    };
    metadata.mode() & bits != 0
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::net::TcpListener;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;
    use crate::run::run_script;
    use lb_model::config::Script;

    fn script(command: &[&str], user: Option<&str>) -> Runnable {
        Runnable::from(Script {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            user: user.map(str::to_owned),
            ..Script::default()
        })
    }

    fn write(path: &Path, text: &str, mode: u32) -> String {
        fs::write(path, text).expect("it is written");
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
        path.display().to_string()
    }

    #[test]
    fn what_cannot_be_run_is_said_with_its_cause_and_what_helps() {
        let directory = tempfile::tempdir().expect("a directory");
        let own = directory.path().display().to_string();
        let plain = write(&directory.path().join("plain"), "#!/bin/sh\n", 0o644);
        let table = [
            (
                "/no/such",
                "there is no /no/such; install it, or name the right path".to_owned(),
            ),
            (
                "no-such-program",
                "there is no program no-such-program in PATH; install it, or name it with its path"
                    .to_owned(),
            ),
            (
                plain.as_str(),
                format!(
                    "{plain} is not executable for the user {}; `chmod a+rx {plain}`",
                    geteuid()
                ),
            ),
            (
                own.as_str(),
                format!("{own} is no file that can be run; name a program"),
            ),
        ];
        for (program, expected) in table {
            let error = script(&[program, "word"], None).check();
            let error = error.expect_err(program);
            assert_eq!(error, NotRunnable::Impossible(expected));
        }
        assert_eq!(script(&["true"], None).check(), Ok(()));
    }

    #[test]
    fn a_program_is_executable_for_those_whom_its_mode_lets() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("program");
        let (uid, gid) = (geteuid(), getegid());
        let (other_uid, other_gid) = (Uid::from_raw(4711), Gid::from_raw(4711));
        // Mode; for a stranger, for one of the file's group.
        let table = [
            (0o700, false, false),
            (0o710, false, true),
            (0o701, true, false),
        ];
        for (mode, stranger, grouped) in table {
            write(&path, "", mode);
            let metadata = fs::metadata(&path).expect("it is there");
            assert!(is_executable(&metadata, uid, gid), "{mode:o}");
            assert_eq!(is_executable(&metadata, other_uid, other_gid), stranger);
            assert_eq!(is_executable(&metadata, other_uid, gid), grouped);
        }
    }

    #[tokio::test]
    async fn a_path_after_a_less_than_sign_is_opened() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = write(&directory.path().join("file"), "", 0o644);
        let there = script(&[&format!("<{path}")], None);
        assert_eq!(there.check(), Ok(()));
        assert!(run_script(&there).await.expect("it can be tried").success());
        let missing = script(&["</no/such/file"], None);
        assert_eq!(missing.check(), Ok(()));
        assert!(
            !run_script(&missing)
                .await
                .expect("it can be tried")
                .success()
        );
    }

    #[tokio::test]
    async fn a_path_of_bashs_below_dev_tcp_is_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let connection = script(&[&format!("</dev/tcp/127.0.0.1/{port}")], None);
        assert!(
            run_script(&connection)
                .await
                .expect("there is bash")
                .success()
        );
        drop(listener);
        assert!(
            !run_script(&connection)
                .await
                .expect("there is bash")
                .success()
        );
    }

    #[tokio::test]
    async fn a_script_that_names_no_interpreter_is_run_by_the_shell() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = write(&directory.path().join("script"), "exit $1\n", 0o755);
        for user in [None, Some("root")] {
            let status = run_script(&script(&[&path, "7"], user)).await;
            assert_eq!(status.expect("it is run").code(), Some(7), "{user:?}");
        }
    }
}
