//! Which server takes a connection that nothing else decides.
//!
//! The agent has laid the order out in a ring that holds only servers that can
//! take connections; what is left to do here is to pick a place.

use crate::atomic;
use crate::maps::{CURSORS, RINGS};
use crate::service::{Chosen, Description, Found};

/// Picks a server, if the service has any that can take a connection.
#[inline(always)]
pub fn pick(description: Description, found: Found) -> Option<Chosen> {
    let length = found.service.ring_length;
    if length == 0 {
        return None;
    }
    let place = next(found.number)? % u64::from(length);
    let index = description.ring_base() + found.service.ring_offset + place as u32;
    description.slot(*RINGS.get(index)?)
}

/// Advances the service's cursor: one for all CPUs, so that the turns are
/// taken in order whichever CPU a SYN comes to.
#[inline(always)]
fn next(service: u32) -> Option<u64> {
    let cursor = CURSORS.get_ptr_mut(service)?;
    // SAFETY: a map value, aligned to 8 bytes, that is only accessed so.
    Some(unsafe { atomic::fetch_add(cursor, 1) })
}
