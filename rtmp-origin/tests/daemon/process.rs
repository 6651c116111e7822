//! Programs that a test starts. The edge's tests use it, too.

use std::process::{Child, Command, Stdio};

/// A child that does not outlive its test.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Errors do not matter: it may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An ffmpeg that logs errors only.
pub(crate) fn ffmpeg() -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-loglevel", "error"]);
    command.stdin(Stdio::null());
    command
}

/// Pushes generated video with sound until it is killed.
pub(crate) fn push(url: &str) -> Process {
    let child = ffmpeg()
        .args("-re -f lavfi -i testsrc2=size=320x180:rate=25".split(' '))
        .args("-f lavfi -i sine=frequency=440".split(' '))
        .args("-c:v libx264 -preset ultrafast -g 25 -c:a aac".split(' '))
        .args(["-f", "flv", url])
        .stderr(Stdio::null())
        .spawn();
    Process(child.expect("ffmpeg is needed for this test"))
}
