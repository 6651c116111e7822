//! Programs on the machine itself, at addresses of its loopback interface.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::wait_for;

/// An address at which nobody listens.
///
/// # Panics
/// When no port is free.
#[must_use]
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    listener.local_addr().expect("it is bound")
}

/// A child that is killed when this is dropped.
#[derive(Debug)]
pub struct ChildGuard(pub Child);

impl ChildGuard {
    /// Starts a program.
    ///
    /// # Panics
    /// When there is no such program.
    pub fn spawn(command: &mut Command) -> Self {
        let child = command.spawn();
        Self(child.unwrap_or_else(|error| {
            panic!("{command:?}: {error} (scripts/setup.sh installs what tests need)")
        }))
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When it has ended, and that is known already.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).expect("a process id is an i32");
        kill(Pid::from_raw(pid), signal).expect("it runs");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn end(&mut self) -> ExitStatus {
        wait_for("the end of the process", || {
            self.0.try_wait().expect("nobody else waits for it")
        })
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        // The only error is that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An ffmpeg that says only what goes wrong.
#[must_use]
pub fn ffmpeg() -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-loglevel", "error"]);
    command.stdin(Stdio::null());
    command
}

/// Pushes generated video with sound to `url` until it is dropped.
///
/// # Panics
/// When ffmpeg is not installed.
#[must_use]
pub fn push(url: &str) -> ChildGuard {
    ChildGuard::spawn(
        ffmpeg()
            .args("-re -f lavfi -i testsrc2=size=320x180:rate=25".split(' '))
            .args("-f lavfi -i sine=frequency=440".split(' '))
            .args("-c:v libx264 -preset ultrafast -g 25 -c:a aac".split(' '))
            .args(["-f", "flv", url])
            .stderr(Stdio::null()),
    )
}
