//! The signals that the agent listens to.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the agent is told by signals.
pub struct Signals {
    /// SIGHUP: read the configuration again.
    pub hangup: Signal,
    /// SIGUSR2: become the program that is installed now.
    pub upgrade: Signal,
    /// The end.
    pub stop: StopSignals,
}

/// The signals that end the agent, all in the same way.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Signals {
    /// Takes the signals from their default effects.
    pub fn install() -> anyhow::Result<Self> {
        let install = |kind| signal(kind).context("cannot handle signals");
        Ok(Self {
            hangup: install(SignalKind::hangup())?,
            upgrade: install(SignalKind::user_defined2())?,
            stop: StopSignals {
                terminate: install(SignalKind::terminate())?,
                interrupt: install(SignalKind::interrupt())?,
                quit: install(SignalKind::quit())?,
            },
        })
    }
}

impl StopSignals {
    /// Waits for any of them, and names it.
    pub async fn received(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.quit.recv() => "SIGQUIT",
        }
    }
}
