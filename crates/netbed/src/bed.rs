//! Hosts that begin and end together.

use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::host::Host;
use crate::lifeline::Lifeline;
use crate::process::Process;

/// Hosts without cables yet, and a directory for their files. Dropping it ends every
/// program on them and removes everything.
#[derive(Debug)]
pub struct Bed {
    name: String,
    directory: PathBuf,
    lifeline: Lifeline,
    hosts: Mutex<Vec<Arc<Host>>>,
}

impl Bed {
    /// Makes a bed that has no host yet.
    ///
    /// # Errors
    /// When this process is not root, or the kernel refuses.
    pub fn new() -> Result<Self> {
        /// Tells the names of beds of one process apart.
        static COUNT: AtomicUsize = AtomicUsize::new(0);

        ensure!(
            nix::unistd::geteuid().is_root(),
            "network namespaces need root: run with sudo"
        );
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("millrace-{}-{number}", std::process::id());
        let directory = env::temp_dir().join(&name);
        fs::create_dir(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        Ok(Self {
            lifeline: Lifeline::start(&directory)?,
            name,
            directory,
            hosts: Mutex::default(),
        })
    }

    /// The name that tells it from other beds.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where each host has its directory, with the logs of its programs.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Adds a host, which has no interface but `lo` yet.
    ///
    /// # Errors
    /// When the kernel refuses its namespaces.
    pub fn host(&self, name: &str, address: Ipv4Addr) -> Result<Arc<Host>> {
        let host = Host::create(
            name,
            address,
            &self.directory,
            self.lifeline.pid_namespace(),
        )?;
        let host = Arc::new(host);
        self.hosts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&host));
        Ok(host)
    }

    /// Every program that was started on a host, in the order of the hosts.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.iter().flat_map(|host| host.processes()).collect()
    }

    /// The end of a pipe that keeps the bed alive, for a process that is to inherit it.
    #[must_use]
    pub fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.lifeline.pipe()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.lifeline.cut();
        // The first process ends when all others have been waited for, and those that
        // were started from here wait for us.
        for process in self.processes() {
            process.reap();
        }
    }
}
