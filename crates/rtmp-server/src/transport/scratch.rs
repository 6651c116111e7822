//! Buffers that all TLS connections of a thread share.

use std::cell::RefCell;

use super::{MAX_FRAGMENT, MAX_RECORD};

/// The most bytes of payload that are encrypted at once.
pub(super) const MAX_PLAINTEXT: usize = 2 * MAX_FRAGMENT;

/// The buffers of a thread.
pub(super) struct Scratch {
    /// What was received, and the part of a record that had come before.
    pub(super) incoming: Box<[u8]>,
    /// What is encrypted in its place: the records of two calls, and a few bytes of handshake.
    pub(super) records: Box<[u8]>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        incoming: vec![0; MAX_RECORD].into(),
        records: vec![0; 4 * MAX_RECORD + 1_024].into(),
    });
}

/// Lends the thread's buffers to `use_them`, which must not ask for them again.
pub(super) fn with<T>(use_them: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with_borrow_mut(use_them)
}
