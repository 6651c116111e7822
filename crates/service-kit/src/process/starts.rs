//! When programs are started, and when none is.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Held for reading while a program is started, which is until it has become that program.
static STARTS: RwLock<()> = RwLock::new(());

/// While it is there, this process starts no program.
#[derive(Debug)]
pub struct StartsHeld(
    #[expect(dead_code, reason = "held for its drop")] RwLockWriteGuard<'static, ()>,
);

/// Waits for the programs that are being started, and has others wait: for a process that is
/// about to become another program, whose open descriptors each of them would have.
#[must_use]
pub fn hold_starts() -> StartsHeld {
    StartsHeld(STARTS.write().unwrap_or_else(PoisonError::into_inner))
}

/// To be held while a program is started.
pub(super) fn starting() -> RwLockReadGuard<'static, ()> {
    STARTS.read().unwrap_or_else(PoisonError::into_inner)
}
