//! Wakes fan-out workers: one eventfd each.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::stream::sync::lock;

/// Wakes one worker, and tells it which streams have news.
#[derive(Debug)]
pub(in crate::stream) struct Waker {
    event: EventFd,
    streams: Mutex<Vec<u64>>,
}

impl Waker {
    fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Self {
            event,
            streams: Mutex::default(),
        })
    }

    /// Wakes the worker.
    pub(in crate::stream) fn wake(&self) {
        // The only failure is a counter at its maximum: the worker will wake.
        let _ = self.event.write(1);
    }

    /// Resets the eventfd, and moves the streams that have news to `streams`.
    pub(in crate::stream) fn take(&self, streams: &mut Vec<u64>) {
        // Fails if nobody has woken the worker.
        let _ = self.event.read();
        streams.append(&mut lock(&self.streams));
    }

    pub(in crate::stream) fn descriptor(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// The wakers of all workers.
#[derive(Debug, Clone)]
pub struct Wakers {
    wakers: Arc<[Waker]>,
}

impl Wakers {
    /// Wakers for `workers` workers.
    ///
    /// # Errors
    /// No descriptor left.
    pub fn new(workers: usize) -> io::Result<Self> {
        let wakers = (0..workers)
            .map(|_| Waker::new())
            .collect::<io::Result<_>>()?;
        Ok(Self { wakers })
    }

    /// Number of workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.wakers.len()
    }

    /// Tells the worker number `worker` that the stream has news.
    pub(in crate::stream) fn wake_for(&self, worker: usize, stream: u64) {
        let waker = self.waker(worker);
        lock(&waker.streams).push(stream);
        waker.wake();
    }

    pub(in crate::stream) fn waker(&self, worker: usize) -> &Waker {
        &self.wakers[worker]
    }
}
