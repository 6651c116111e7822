//! Programs that a test starts, and waiting for what they do. The edge's tests
//! use it, too.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything here takes on the most loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An address at which nobody listens.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

/// Waits for `what`.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "{what} never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A child that does not outlive its test.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An ffmpeg that says only what goes wrong.
pub fn ffmpeg() -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-loglevel", "error"]);
    command.stdin(Stdio::null());
    command
}

/// Pushes generated video with sound until it is killed.
pub fn push(url: &str) -> Process {
    let child = ffmpeg()
        .args("-re -f lavfi -i testsrc2=size=320x180:rate=25".split(' '))
        .args("-f lavfi -i sine=frequency=440".split(' '))
        .args("-c:v libx264 -preset ultrafast -g 25 -c:a aac".split(' '))
        .args(["-f", "flv", url])
        .stderr(Stdio::null())
        .spawn();
    Process(child.expect("ffmpeg is needed for this test"))
}
