//! A machine from which somebody watches.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;

use crate::browser::Browser;
use crate::media::{self, Viewer};
use netbed::Host;

/// A host with an address of its own, for any number of viewers.
#[derive(Debug)]
pub struct Client {
    host: Arc<Host>,
    viewers: AtomicUsize,
}

impl Client {
    pub(crate) fn new(host: Arc<Host>) -> Self {
        Self {
            host,
            viewers: AtomicUsize::new(0),
        }
    }

    /// The machine itself.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The address that the balancer sees.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.host.address()
    }

    /// Starts a viewer of `url` and returns at once.
    ///
    /// # Errors
    /// When ffmpeg cannot be started.
    pub fn pull(&self, url: &str) -> Result<Viewer> {
        let number = self.viewers.fetch_add(1, Ordering::Relaxed) + 1;
        media::pull(&self.host, &format!("viewer-{number}"), url)
    }

    /// Starts a browser.
    ///
    /// # Errors
    /// When Chromium is not installed or does not start.
    pub fn browser(&self) -> Result<Browser> {
        Browser::start(&self.host)
    }
}
