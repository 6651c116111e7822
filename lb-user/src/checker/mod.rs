//! Health checks: what is asked of a real server, and how often.
//!
//! [`machine`] decides, without sockets or clock; [`tcp`] asks; the driver
//! here lets each checker sleep, ask and decide, and tells the agent what has
//! changed.

pub mod machine;
pub mod tcp;

use std::fmt;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use machine::{Action, Checker, Input, Outcome, Timing};

/// One check: equal ones are made once, however many services ask for them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CheckSpec {
    /// What is asked.
    pub probe: Probe,
    /// When.
    pub timing: Timing,
}

/// What a check asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Probe {
    /// Can a TCP connection be made?
    Tcp(tcp::Connection),
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(connection) => write!(f, "TCP_CHECK {}", connection.to),
        }
    }
}

impl Probe {
    async fn run(&self) -> Outcome {
        match self {
            Self::Tcp(connection) => tcp::check(connection).await,
        }
    }
}

/// A change that a check has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckEvent {
    /// The check.
    pub spec: CheckSpec,
    /// `None`: it succeeds; else why it fails.
    pub failure: Option<String>,
}

/// A check that is being made again and again, until this is dropped.
#[derive(Debug)]
pub struct RunningCheck {
    task: JoinHandle<()>,
}

impl RunningCheck {
    /// Starts to check; changes are sent to `events`. `known` is what an
    /// earlier check of the same thing has found, if there was one.
    pub fn start(
        spec: CheckSpec,
        known: Option<bool>,
        events: mpsc::UnboundedSender<CheckEvent>,
    ) -> Self {
        let now = now();
        let spread = fastrand::f64();
        let checker = match known {
            Some(is_up) => Checker::resume(spec.timing, now, spread, is_up),
            None => Checker::new(spec.timing, now, spread),
        };
        Self {
            task: tokio::spawn(drive(spec, checker, events)),
        }
    }
}

impl Drop for RunningCheck {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn drive(spec: CheckSpec, mut checker: Checker, events: mpsc::UnboundedSender<CheckEvent>) {
    loop {
        let mut action = match checker.deadline() {
            Some(due) => {
                tokio::time::sleep_until(Instant::into(due)).await;
                checker.handle(now(), Input::Tick)
            }
            None => Some(Action::Check),
        };
        if action == Some(Action::Check) {
            let outcome = spec.probe.run().await;
            action = checker.handle(now(), Input::Finished(outcome));
        }
        let failure = match action {
            Some(Action::Up) => None,
            Some(Action::Down(reason)) => Some(reason),
            Some(Action::Failed(reason)) => {
                log::debug!("{}: {reason}", spec.probe);
                continue;
            }
            Some(Action::NotChecked(reason)) => {
                log::warn!("{}: not checked, trouble of our own: {reason}", spec.probe);
                continue;
            }
            Some(Action::Check) | None => continue,
        };
        if events
            .send(CheckEvent {
                spec: spec.clone(),
                failure,
            })
            .is_err()
        {
            return;
        }
    }
}
