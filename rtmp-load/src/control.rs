//! Communication between the threads of a run and their coordinator.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU8, AtomicU32, Ordering},
};

use crate::player::EndCause;

/// The phase of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// The publishers connect; no player has started.
    Publishing,
    /// The players start one after the other and settle.
    Playing,
    /// The measured window.
    Measuring,
    /// Everything stops.
    Over,
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Control {
    phase: AtomicU8,
    publishers_ready: AtomicU32,
    publisher_error: Mutex<Option<String>>,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            phase: AtomicU8::new(Phase::Publishing as u8),
            publishers_ready: AtomicU32::new(0),
            publisher_error: Mutex::new(None),
        }
    }
}

impl Control {
    /// The phase of the run.
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Publishing,
            1 => Phase::Playing,
            2 => Phase::Measuring,
            _ => Phase::Over,
        }
    }

    /// Moves the run on.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// A server has agreed to take a stream.
    pub(crate) fn publisher_ready(&self) {
        self.publishers_ready.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of times that a server has agreed to take a stream.
    pub(crate) fn publishers_ready(&self) -> u32 {
        self.publishers_ready.load(Ordering::Relaxed)
    }

    /// A publisher's connection has ended.
    pub(crate) fn publisher_ended(&self, cause: &EndCause) {
        let mut error = self
            .publisher_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        error.get_or_insert_with(|| cause.to_string());
    }

    /// The reason for which the first publisher ended that did.
    pub(crate) fn publisher_error(&self) -> Option<String> {
        self.publisher_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
