//! The signals of a server process.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Action that an operator asks for by a signal.
pub(super) enum SignalAction {
    /// SIGTERM, SIGINT.
    Stop,
    /// SIGQUIT.
    Drain,
    /// SIGHUP.
    Reload,
    /// SIGUSR1.
    ReopenLog,
    /// SIGUSR2.
    Upgrade,
}

/// The signals that have an action.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    /// Handles the signals from here on, in place of their default.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for the next signal. Returns `None` if none comes within `limit`.
    pub(super) async fn next(&mut self, limit: Option<Duration>) -> Option<SignalAction> {
        let pause = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => Some(SignalAction::Stop),
            _ = self.interrupt.recv() => Some(SignalAction::Stop),
            _ = self.quit.recv() => Some(SignalAction::Drain),
            _ = self.hangup.recv() => Some(SignalAction::Reload),
            _ = self.user1.recv() => Some(SignalAction::ReopenLog),
            _ = self.user2.recv() => Some(SignalAction::Upgrade),
            () = pause => None,
        }
    }
}

/// Ignores the signals that would end a process by default and have no action here,
/// but may well be sent: tools of keepalived's send real-time signals. The first of each is
/// logged. (Rust ignores SIGPIPE.)
///
/// # Errors
/// The kernel's refusal.
pub(super) fn ignore_other_signals() -> std::io::Result<()> {
    use nix::libc;
    let named = [
        libc::SIGALRM,
        libc::SIGVTALRM,
        libc::SIGPROF,
        libc::SIGIO,
        libc::SIGPWR,
    ];
    for number in named.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX()) {
        let mut received = signal(SignalKind::from_raw(number))?;
        tokio::spawn(async move {
            if received.recv().await.is_some() {
                log::warn!("signal {number} has no meaning here, and is ignored from now on");
            }
            while received.recv().await.is_some() {}
        });
    }
    Ok(())
}
