//! Beds that the tests of a process use one after another.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::Bed;

/// Beds that no test of this process uses.
pub(crate) static IDLE: Mutex<Vec<Bed>> = Mutex::new(Vec::new());

/// A bed that another test will use after this one, unless this one fails.
pub struct SharedBed(pub(crate) Option<Bed>);

impl Deref for SharedBed {
    type Target = Bed;

    fn deref(&self) -> &Bed {
        self.0.as_ref().expect("it is there until the drop")
    }
}

impl DerefMut for SharedBed {
    fn deref_mut(&mut self) -> &mut Bed {
        self.0.as_mut().expect("it is there until the drop")
    }
}

impl Drop for SharedBed {
    fn drop(&mut self) {
        if !thread::panicking()
            && let Some(bed) = self.0.take()
        {
            let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push(bed);
        }
    }
}
