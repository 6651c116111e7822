//! Capturing what passes an interface.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

use crate::host::Host;

/// The largest frame, one of segmentation offload (`GSO_MAX_SIZE`), with its header.
const MAX_FRAME_BYTES: usize = 65_536 + 64;

/// What the kernel may hold for us while this machine is busy.
const BUFFER_BYTES: usize = 16 << 20;

/// How long after [`Capture::stop`] the listening ends, at most.
const TICK: Duration = Duration::from_millis(100);

/// A frame that passed.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// True if it left by the interface, rather than came in.
    pub is_outgoing: bool,
    /// The Ethernet frame.
    pub bytes: &'a [u8],
}

/// A running capture, which keeps a `T` of each frame that it is about.
#[derive(Debug)]
pub struct Capture<T> {
    kept: Arc<Mutex<Vec<T>>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl<T: Send + 'static> Capture<T> {
    /// Begins to keep what `keep` makes of every frame that passes an interface of a host.
    ///
    /// # Errors
    /// When the kernel refuses a packet socket, or there is no such interface.
    pub fn start(
        host: &Host,
        interface: &str,
        keep: impl Fn(Frame<'_>) -> Option<T> + Send + 'static,
    ) -> Result<Self> {
        let name = interface.to_owned();
        let (socket, index) = host
            .within(move || open(&name))
            .with_context(|| format!("cannot capture at {interface} of {}", host.name()))?;
        let kept = Arc::default();
        let stopping = Arc::new(AtomicBool::new(false));
        let (kept_there, stop) = (Arc::clone(&kept), Arc::clone(&stopping));
        let thread = thread::spawn(move || listen(&socket, index, &stop, &keep, &kept_there));
        Ok(Self {
            kept,
            stopping,
            thread: Some(thread),
        })
    }

    /// What it has kept so far.
    #[must_use]
    pub fn kept(&self) -> Vec<T>
    where
        T: Clone,
    {
        lock(&self.kept).clone()
    }

    /// Ends the capture and returns what it has kept.
    ///
    /// # Errors
    /// When the packet socket failed.
    pub fn stop(mut self) -> Result<Vec<T>> {
        self.stopping.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("present until stopped");
        thread.join().expect("listening does not panic")?;
        Ok(std::mem::take(&mut lock(&self.kept)))
    }
}

impl<T> Drop for Capture<T> {
    fn drop(&mut self) {
        // The thread ends by itself.
        self.stopping.store(true, Ordering::Relaxed);
    }
}

fn lock<T>(kept: &Mutex<Vec<T>>) -> std::sync::MutexGuard<'_, Vec<T>> {
    // A panic elsewhere leaves the list as usable as before.
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(interface: &str) -> Result<(OwnedFd, usize)> {
    let index = if_nametoindex(interface).context("there is no such interface")?;
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )
    .context("no packet socket (needs CAP_NET_RAW)")?;
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES)?;
    let tick = TimeVal::new(0, TICK.as_micros().try_into()?);
    setsockopt(&socket, sockopt::ReceiveTimeout, &tick)?;
    Ok((socket, index as usize))
}

fn listen<T>(
    socket: &OwnedFd,
    index: usize,
    stop: &AtomicBool,
    keep: &impl Fn(Frame<'_>) -> Option<T>,
    kept: &Mutex<Vec<T>>,
) -> Result<()> {
    let mut buffer = vec![0; MAX_FRAME_BYTES];
    loop {
        match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer) {
            Ok((length, Some(from))) if from.ifindex() == index => {
                let frame = Frame {
                    is_outgoing: from.pkttype() == libc::PACKET_OUTGOING,
                    bytes: &buffer[..length],
                };
                lock(kept).extend(keep(frame));
            }
            // Another interface's, or nothing for a while: see whether to go on.
            Ok(_) | Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(error) => bail!("the packet socket failed: {error}"),
        }
        // Whatever had passed before the stop is to be kept.
        if stop.load(Ordering::Relaxed) && !is_readable(socket)? {
            return Ok(());
        }
    }
}

fn is_readable(socket: &OwnedFd) -> Result<bool> {
    let mut descriptors = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut descriptors, PollTimeout::ZERO)? > 0)
}
