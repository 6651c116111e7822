//! The program that a host is there for: started, ended, started again.

use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use netbed::Host;
use netbed::Process;

/// A host, and its program.
#[derive(Debug)]
pub(crate) struct Program {
    host: Arc<Host>,
    /// What it is called in messages: `balancer`.
    role: &'static str,
    last: Mutex<Option<Process>>,
}

impl Program {
    pub(crate) fn new(host: Arc<Host>, role: &'static str) -> Self {
        Self {
            host,
            role,
            last: Mutex::default(),
        }
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// Starts it, and returns at once.
    pub(crate) fn start(&self, name: &str, command: Command) -> Result<Process> {
        let process = self.host.spawn(name, command)?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(process.clone());
        Ok(process)
    }

    /// What runs, or what ran last.
    pub(crate) fn process(&self) -> Result<Process> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (role, host) = (self.role, self.host.name());
        last.clone()
            .with_context(|| format!("no {role} was started on {host}"))
    }

    /// Kills it outright, as `kill -9` does.
    pub(crate) fn kill(&self) -> Result<()> {
        self.process()?.kill()
    }

    /// Ends it with SIGTERM, as `systemctl stop` does.
    pub(crate) fn stop(&self) -> Result<()> {
        let process = self.process()?;
        let status = process.stop()?;
        ensure!(
            status.success(),
            "{}: {status}\n{}",
            process.name(),
            process.log_tail()
        );
        Ok(())
    }
}
