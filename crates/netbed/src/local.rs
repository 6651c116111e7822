//! Programs on the machine itself, at addresses of its loopback interface.

use std::fs;
use std::mem;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net;
use std::process::{self, Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::wait_for;

/// Ports below those that the kernel gives to connections (`ip_local_port_range`): the
/// thousands of a load test take none of them.
const PORTS: Range<u32> = 10_000..32_000;

/// An address at which nobody listens, for a program that is yet to be started: no other
/// call returns it while this process lives, whatever process makes it.
///
/// # Panics
/// When no port is free.
#[must_use]
pub fn free_address() -> SocketAddr {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    // Processes that run at the same time begin at different ports.
    let first = process::id().wrapping_mul(31);
    (0..PORTS.len())
        .find_map(|_| {
            let call = CALLS.fetch_add(1, Ordering::Relaxed);
            let port = PORTS.start + first.wrapping_add(call) % (PORTS.end - PORTS.start);
            let address = (Ipv4Addr::LOCALHOST, u16::try_from(port).ok()?).into();
            reserve(address)
        })
        .expect("a port is free")
}

/// Takes a name of the address's, which the kernel holds until this process ends; `None`
/// if another process has it, or if somebody listens at the address.
fn reserve(address: SocketAddr) -> Option<SocketAddr> {
    let name = net::SocketAddr::from_abstract_name(format!("netbed {address}"));
    let held = net::UnixListener::bind_addr(&name.expect("it is short")).ok()?;
    drop(TcpListener::bind(address).ok()?);
    mem::forget(held);
    Some(address)
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

/// True if there is a process with this number that has not ended.
#[must_use]
pub fn lives(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
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

/// Plays `url` until it is dropped, or the stream ends.
///
/// # Panics
/// When ffmpeg is not installed.
#[must_use]
pub fn play(url: &str) -> ChildGuard {
    ChildGuard::spawn(
        ffmpeg()
            .args(["-i", url, "-f", "null", "-"])
            .stderr(Stdio::null()),
    )
}

/// What a camera sends: a pipeline of GStreamer whose payloaders are `pay0`, `pay1`.
pub const CAMERA_H264: &str = "( videotestsrc is-live=true ! \
     video/x-raw,width=320,height=180,framerate=25/1 ! \
     x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! \
     rtph264pay name=pay0 pt=96 mtu=600 \
     audiotestsrc is-live=true ! voaacenc ! rtpmp4gpay name=pay1 pt=97 )";

/// Pictures that are not shown in the order in which they are decoded, without sound.
pub const CAMERA_B_FRAMES: &str = "( videotestsrc is-live=true ! \
     video/x-raw,width=320,height=180,framerate=25/1 ! \
     x264enc speed-preset=ultrafast bframes=2 b-adapt=false key-int-max=25 ! \
     video/x-h264,profile=main ! \
     rtph264pay name=pay0 pt=96 )";

/// [`CAMERA_H264`] in H.265, with sound in G.711.
pub const CAMERA_H265: &str = "( videotestsrc is-live=true ! \
     video/x-raw,width=320,height=180,framerate=25/1 ! \
     x265enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! \
     rtph265pay name=pay0 pt=96 \
     audiotestsrc is-live=true ! audio/x-raw,rate=8000,channels=1 ! alawenc ! \
     rtppcmapay name=pay1 )";

/// An RTSP server at `address` which sends what `pipeline` makes at `/camera`, but for one of
/// `loss` packets (0: all of them); `credentials` are the user and the password that it asks
/// for.
#[must_use]
pub fn camera(
    address: SocketAddr,
    pipeline: &str,
    loss: u32,
    credentials: Option<(&str, &str)>,
) -> Command {
    // Debian's: its packages bring GStreamer to that one alone.
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", include_str!("rtsp_server.py")]);
    command.args([&address.ip().to_string(), &address.port().to_string()]);
    command.args([pipeline, &loss.to_string()]);
    if let Some((user, password)) = credentials {
        command.args([user, password]);
    }
    command.stdin(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_is_given_out_twice_or_while_somebody_listens_there() {
        let addresses = [(); 3].map(|()| free_address());
        assert!(addresses[0] != addresses[1] && addresses[1] != addresses[2]);
        assert_eq!(reserve(addresses[0]), None, "reserved");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let taken = listener.local_addr().expect("it is bound");
        assert_eq!(reserve(taken), None, "somebody listens");
    }
}
