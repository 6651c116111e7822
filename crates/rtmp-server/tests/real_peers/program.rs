//! Starting other people's programs, and not leaving them behind.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A program that is killed when the test ends, however it ends.
pub struct Program {
    name: String,
    child: Child,
}

impl Program {
    pub fn start(command: &mut Command) -> Program {
        Program::writing(command, Stdio::null())
    }

    fn writing(command: &mut Command, output: Stdio) -> Program {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Program { name, child }
    }

    /// Waits for the program to end by itself.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{} has not ended after {limit:?}",
                self.name
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program writes to its standard output until it ends by itself, in
/// good order.
pub fn output(command: &mut Command, limit: Duration) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut program = Program::writing(command, file.reopen().unwrap().into());
    let ended = program.wait(limit);
    let text = std::fs::read_to_string(file.path()).unwrap();
    assert!(ended.success(), "{}: {ended}\n{text}", program.name);
    text
}

/// Whether a program is there; says so if not.
pub fn installed(program: &str, arguments: &[&str]) -> bool {
    let found = Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        eprintln!(
            "skipped: `{program} {}` does not work here",
            arguments.join(" ")
        );
    }
    found
}
