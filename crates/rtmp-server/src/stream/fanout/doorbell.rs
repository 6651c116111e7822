//! How publishers and connections wake fan-out workers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::stream::lock;

/// Wakes one worker, and tells it which streams have news.
#[derive(Debug)]
pub(super) struct Doorbell {
    event: EventFd,
    streams: Mutex<Vec<u64>>,
}

impl Doorbell {
    fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Self {
            event,
            streams: Mutex::default(),
        })
    }

    /// Wakes the worker.
    pub(super) fn ring(&self) {
        // The only failure is a counter at its maximum: it has been rung.
        let _ = self.event.write(1);
    }

    /// Takes the ring back, and the streams that have news, into `streams`.
    pub(super) fn answer(&self, streams: &mut Vec<u64>) {
        // Fails when nobody has rung.
        let _ = self.event.read();
        streams.append(&mut lock(&self.streams));
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// The doorbells of all workers.
#[derive(Debug, Clone)]
pub struct Doorbells {
    bells: Arc<[Doorbell]>,
}

impl Doorbells {
    /// Doorbells for `workers` workers.
    ///
    /// # Errors
    /// No descriptor left.
    pub fn new(workers: usize) -> io::Result<Self> {
        let bells = (0..workers)
            .map(|_| Doorbell::new())
            .collect::<io::Result<_>>()?;
        Ok(Self { bells })
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.bells.len()
    }

    /// Tells the worker number `worker` that the stream has news.
    pub(crate) fn ring_for(&self, worker: usize, stream: u64) {
        let bell = self.bell(worker);
        lock(&bell.streams).push(stream);
        bell.ring();
    }

    pub(super) fn bell(&self, worker: usize) -> &Doorbell {
        &self.bells[worker]
    }
}
