//! Which server takes a connection that nothing else decides.
//!
//! The agent has laid the order out in a ring that holds only servers that can
//! take connections; what is left to do here is to pick a place.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use lb_common::{SCHEDULE_HASH, SCHEDULE_LEAST_CONNECTIONS, SERVICE_HASH_PORT, client_hash};

use crate::maps::{BEST, CURSORS, RINGS};
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

/// The servers to compare; the same for all of them.
struct Candidates {
    description: Description,
    found: Found,
}

/// The best server so far.
///
/// It lies in a map: verifiers before Linux 6.8 follow the callback of a loop
/// once, and what they know of a stack after that they take to hold at every
/// turn, so that they remove the comparison as code that never runs.
pub struct Best {
    slot: u32,
    weight: u32,
    load: u64,
}

/// Slot of the first of the servers that have the least to do for their weight.
#[inline(never)]
fn least_loaded(description: Description, found: Found) -> u32 {
    let Some(best) = BEST.get_ptr_mut(0) else {
        return NONE;
    };
    // SAFETY: this CPU runs one program at a time, and no reference to the
    // place lives across the loop.
    unsafe { (*best).slot = NONE };
    let mut candidates = Candidates { description, found };
    // SAFETY: the callback has the signature that the helper calls, and takes
    // the candidates for nothing else (Linux 5.17).
    unsafe {
        bpf_loop(
            found.service.ring_length,
            compare as *mut c_void,
            (&raw mut candidates).cast(),
            0,
        );
    }
    // SAFETY: as above.
    unsafe { (*best).slot }
}

/// Compares the server at `place` with the best so far; never ends the loop.
#[inline(never)]
extern "C" fn compare(place: u32, candidates: *mut c_void) -> i64 {
    // SAFETY: `least_loaded` passes candidates that it owns.
    let candidates = unsafe { &*candidates.cast::<Candidates>() };
    let Some(chosen) = at(candidates.description, candidates.found, place) else {
        return 0;
    };
    let (Some(load), Some(best)) = (load::of(chosen.slot), BEST.get_ptr_mut(0)) else {
        return 0;
    };
    // SAFETY: as in `least_loaded`.
    let best = unsafe { &mut *best };
    let weight = chosen.server.weight;
    // load / weight < best load / best weight, without dividing.
    if best.slot == NONE || load * u64::from(best.weight) < best.load * u64::from(weight) {
        *best = Best {
            slot: chosen.slot,
            weight,
            load,
        };
    }
    0
}
