//! Which server takes a connection that nothing else decides.
//!
//! The agent has laid the order out in a ring that holds only servers that can
//! take connections; what is left to do here is to pick a place.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use lb_common::{SCHEDULE_HASH, SCHEDULE_LEAST_CONNECTIONS, SERVICE_HASH_PORT, client_hash};

use crate::maps::{CURSORS, RINGS};
use crate::parse::Packet;
use crate::service::{Chosen, Description, Found};
use crate::{atomic, load};

/// Picks a server, if the service has any that can take a connection.
#[inline(always)]
pub fn pick(description: Description, found: Found, packet: &Packet) -> Option<Chosen> {
    let length = found.service.ring_length;
    if length == 0 {
        return None;
    }
    match found.service.schedule {
        SCHEDULE_HASH => {
            let port = if found.has(SERVICE_HASH_PORT) {
                packet.client_port
            } else {
                0
            };
            at(
                description,
                found,
                client_hash(&packet.client, port) % length,
            )
        }
        SCHEDULE_LEAST_CONNECTIONS => description.slot(least_loaded(description, found)),
        _ => at(
            description,
            found,
            (next(found.number)? % u64::from(length)) as u32,
        ),
    }
}

/// The server at a place of the service's ring.
#[inline(always)]
fn at(description: Description, found: Found, place: u32) -> Option<Chosen> {
    let index = description.ring_base() + found.service.ring_offset + place;
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

/// The slot of no server. (A function that is called, not inlined, can return
/// one number only.)
const NONE: u32 = u32::MAX;

/// What the comparison of servers carries from one to the next.
struct Comparison {
    description: Description,
    found: Found,
    best: u32,
    load: u64,
    weight: u64,
}

/// Slot of the first of the servers that have the least to do for their weight.
#[inline(never)]
fn least_loaded(description: Description, found: Found) -> u32 {
    let mut comparison = Comparison {
        description,
        found,
        best: NONE,
        load: 0,
        weight: 0,
    };
    // SAFETY: the callback has the signature that the helper calls, and takes
    // the comparison for nothing else (Linux 5.17).
    unsafe {
        bpf_loop(
            found.service.ring_length,
            compare as *mut c_void,
            (&raw mut comparison).cast(),
            0,
        );
    }
    comparison.best
}

/// Compares the server at `place` with the best so far; never ends the loop.
#[inline(never)]
extern "C" fn compare(place: u32, comparison: *mut c_void) -> i64 {
    // SAFETY: `least_loaded` passes a comparison that it owns.
    let comparison = unsafe { &mut *comparison.cast::<Comparison>() };
    let Some(chosen) = at(comparison.description, comparison.found, place) else {
        return 0;
    };
    let Some(load) = load::of(chosen.slot) else {
        return 0;
    };
    let weight = u64::from(chosen.server.weight);
    // load / weight < best load / best weight, without dividing.
    if comparison.best == NONE || load * comparison.weight < comparison.load * weight {
        comparison.best = chosen.slot;
        comparison.load = load;
        comparison.weight = weight;
    }
    0
}
