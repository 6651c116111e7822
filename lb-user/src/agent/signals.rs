//! The signals that the agent listens to.
//!
//! They are blocked, and read when their turn comes (signalfd(2)): none is
//! lost, whatever the agent does meanwhile. What arrives while it becomes
//! another program waits for that (execve(2): the mask and what is pending stay),
//! which must therefore begin in the same way.

use std::io;

use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR2: become the program that is installed now.
    Upgrade,
    /// SIGTERM, SIGINT, SIGQUIT: the end.
    Stop(Signal),
}

const LISTENED_TO: [Signal; 5] = [
    Signal::SIGHUP,
    Signal::SIGUSR2,
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
];

/// What the agent is told by signals.
#[derive(Debug)]
pub struct Signals {
    pending: AsyncFd<SignalFd>,
}

impl Signals {
    /// Takes the signals from their default effects. To be called before there
    /// is another thread: it must not take them, either, and inherits that from
    /// this one. (Programs that are started take them as ever:
    /// `std::process::Command` empties their masks.)
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn install() -> anyhow::Result<Self> {
        let install = || {
            let signals: SigSet = LISTENED_TO.into_iter().collect();
            signals.thread_block()?;
            let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
            let pending = SignalFd::with_flags(&signals, flags)?;
            // SAFETY: it owns an open descriptor, which stays its own.
            let registered =
                unsafe { AsyncFd::register_with_interest(pending, Interest::READABLE) };
            Ok::<_, io::Error>(registered?)
        };
        let pending = install().context("cannot handle signals")?;
        Ok(Self { pending })
    }

    /// Waits for the next one. May be dropped without losing one.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn next(&self) -> io::Result<Asked> {
        let read = self.pending.async_io(Interest::READABLE, |pending| {
            let read = pending.read_signal()?;
            read.ok_or_else(|| io::ErrorKind::WouldBlock.into())
        });
        let number = read.await?.ssi_signo;
        let signal = LISTENED_TO
            .into_iter()
            .find(|signal| *signal as u32 == number);
        Ok(match signal.expect("no other signal is asked for") {
            Signal::SIGHUP => Asked::Reload,
            Signal::SIGUSR2 => Asked::Upgrade,
            stop => Asked::Stop(stop),
        })
    }
}
