//! Programs of others that a test starts.

use std::process::{Child, Command, ExitStatus, Stdio};

use netbed::wait_for;

/// A program that is killed when the test ends, however it ends.
pub(crate) struct Program {
    name: String,
    child: Child,
}

impl Program {
    pub(crate) fn start(command: &mut Command) -> Program {
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
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let Program { name, child } = self;
        wait_for(format!("the end of {name}"), || child.try_wait().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Errors do not matter: it may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The standard output of a program that ends by itself, with success.
#[track_caller]
pub(crate) fn output(command: &mut Command) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut program = Program::writing(command, file.reopen().unwrap().into());
    let ended = program.wait();
    let text = std::fs::read_to_string(file.path()).unwrap();
    assert!(ended.success(), "{}: {ended}\n{text}", program.name);
    text
}

/// Asserts that a program which `scripts/setup.sh` installs runs with these arguments.
#[track_caller]
pub(crate) fn require(program: &str, arguments: &[&str]) {
    let shown = arguments.join(" ");
    assert!(
        runs(program, arguments),
        "`{program} {shown}` does not work here: scripts/setup.sh installs it"
    );
}

/// Returns true if a program ends with success for these arguments.
pub(crate) fn runs(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// [`require`] for ffmpeg.
#[track_caller]
pub(crate) fn require_ffmpeg() {
    require("ffmpeg", &["-version"]);
}

/// [`require`] for GStreamer with these elements.
#[track_caller]
pub(crate) fn require_gstreamer(elements: &[&str]) {
    for element in elements {
        require("gst-inspect-1.0", &["--exists", element]);
    }
}
