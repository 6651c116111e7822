//! Which server takes a connection that nothing else decides.
//!
//! The agent has laid the order out in a ring that holds only servers that can
//! take connections; what is left to do here is to pick a place, and another
//! where the server there is full.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use lb_abi::{
    ACTIVE_OVERHEAD, MAX_FALLBACKS, SCHEDULE_FIRST, SCHEDULE_HASH, SCHEDULE_LEAST_CONNECTIONS,
    SCHEDULE_NEVER_QUEUE, SCHEDULE_OVERFLOW, SCHEDULE_ROUND_ROBIN, SCHEDULE_SHORTEST_DELAY,
    SERVICE_FALLBACK, SERVICE_HASH_PORT, SERVICE_LIMITED, Service, client_hash, mix,
};

use crate::maps::{BEST, CURSORS};
use crate::parse::Packet;
use crate::service_table::{Backend, GenerationIndex, ServiceRef, ServiceTable};
use crate::{atomic, load};

/// Picks a server, if the service has any that can take a connection.
#[inline(always)]
pub fn pick(table: ServiceTable, service: ServiceRef, packet: &Packet) -> Option<Backend> {
    let ServiceRef { number, entry } = service;
    if entry.ring_length == 0 {
        return None;
    }
    let candidates = Candidates {
        generation: table.index,
        service: entry,
        first: match entry.schedule {
            SCHEDULE_ROUND_ROBIN => turn(service)?,
            SCHEDULE_HASH => hash(service, packet),
            _ => 0,
        },
    };
    match entry.schedule {
        // Whatever is not so goes from server to server.
        _ if service.has(SERVICE_LIMITED) => {}
        SCHEDULE_ROUND_ROBIN | SCHEDULE_HASH | SCHEDULE_FIRST => {
            return candidates.server(candidates.place(0)?);
        }
        _ => {}
    }
    let Candidates {
        generation, first, ..
    } = candidates;
    table.slot(search(generation, number, entry, first))
}

/// The next place in turn. The service's cursor is one for all CPUs, so that
/// the turns are taken in order whichever CPU a SYN comes to.
#[inline(always)]
fn turn(service: ServiceRef) -> Option<u32> {
    let cursor = CURSORS.get_ptr_mut(service.number)?;
    // SAFETY: a map value, aligned to 8 bytes, that is only accessed so.
    let turn = unsafe { atomic::fetch_add(cursor, 1) };
    let place = turn.checked_rem(u64::from(service.entry.ring_length))?;
    Some(place as u32)
}

/// Takes the turns of servers that had no room for a packet, so that the next one
/// begins behind the server that had.
#[inline(always)]
fn skip_turns(service_number: u32, turns: u64) {
    if let Some(cursor) = CURSORS.get_ptr_mut(service_number) {
        // SAFETY: as above.
        unsafe { atomic::fetch_add(cursor, turns) };
    }
}

#[inline(always)]
fn hash(service: ServiceRef, packet: &Packet) -> u32 {
    let port = if service.has(SERVICE_HASH_PORT) {
        packet.client_port
    } else {
        0
    };
    client_hash(&packet.client, port)
}

/// Places that a client is looked for at before they are taken in a row.
const SCATTERED: u32 = 64;

/// The servers to choose among, and in which order.
struct Candidates {
    generation: GenerationIndex,
    service: &'static Service,
    /// Where the order begins: the place whose turn it is, or the client's hash,
    /// where one of them decides.
    first: u32,
}

impl Candidates {
    /// The place of the ring that is looked at at the try of this number, from 0.
    #[inline(always)]
    fn place(&self, number: u32) -> Option<u32> {
        match self.service.schedule {
            SCHEDULE_ROUND_ROBIN => self.following(number),
            SCHEDULE_HASH => self.hashed(number),
            _ => Some(number),
        }
    }

    /// So many places behind the first, one after the other: a packet on another
    /// CPU takes none of these turns, so that each server is tried.
    #[inline(always)]
    fn following(&self, number: u32) -> Option<u32> {
        (self.first + number).checked_rem(self.service.ring_length)
    }

    /// Where the client is looked for, and then elsewhere: here and there, so that
    /// the clients of a full server are spread over the others, and at last at one
    /// place after the other, so that the only server with room is service.
    #[inline(always)]
    fn hashed(&self, number: u32) -> Option<u32> {
        let hash = match number {
            0 => self.first,
            1..SCATTERED => mix(u64::from(number) << 32 | u64::from(self.first)) as u32,
            _ => self.first.wrapping_add(number),
        };
        hash.checked_rem(self.service.ring_length)
    }

    /// How many places are looked at.
    #[inline(always)]
    fn tries(&self) -> u32 {
        let Service {
            schedule,
            flags,
            ring_length,
            ..
        } = *self.service;
        match schedule {
            SCHEDULE_HASH if flags & SERVICE_FALLBACK != 0 => SCATTERED + MAX_FALLBACKS,
            SCHEDULE_HASH => 1,
            _ => ring_length,
        }
    }

    #[inline(always)]
    fn server(&self, place: u32) -> Option<Backend> {
        self.generation.at(self.service, place)
    }
}

/// The slot of no server. (A function that is called, not inlined, can return
/// one number only.)
const NONE: u32 = u32::MAX;

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

/// Goes from server to server, and returns the slot of the one that is to take
/// the connection.
#[inline(never)]
fn search(generation: GenerationIndex, number: u32, service: &'static Service, first: u32) -> u32 {
    let Some(best) = BEST.get_ptr_mut(0) else {
        return NONE;
    };
    // SAFETY: this CPU runs one program at a time, and no reference to the
    // place lives across the loop.
    unsafe { (*best).slot = NONE };
    let mut candidates = Candidates {
        generation,
        service,
        first,
    };
    let tries = candidates.tries();
    // SAFETY: the callback has the signature that the helper calls, and takes
    // the candidates for nothing else (Linux 5.17).
    let tried = unsafe {
        bpf_loop(
            tries,
            consider as *mut c_void,
            (&raw mut candidates).cast(),
            0,
        )
    };
    // One is taken already.
    if service.schedule == SCHEDULE_ROUND_ROBIN && tried > 1 {
        skip_turns(number, tried as u64 - 1);
    }
    // SAFETY: as above.
    unsafe { (*best).slot }
}

/// What [`consider`] returns to go on.
const GO_ON: i64 = 0;
/// What [`consider`] returns when nothing can be better.
const STOP: i64 = 1;

/// Compares the server of the try of this number with the best so far.
#[inline(never)]
extern "C" fn consider(number: u32, candidates: *mut c_void) -> i64 {
    // SAFETY: `search` passes candidates that it owns.
    let candidates = unsafe { &*candidates.cast::<Candidates>() };
    let place = candidates.place(number);
    let Some(backend) = place.and_then(|place| candidates.server(place)) else {
        return GO_ON;
    };
    let Some(load) = load::of(backend.slot) else {
        return GO_ON;
    };
    if load::is_full(backend, &load) {
        return GO_ON;
    }
    let schedule = candidates.service.schedule;
    let load = match schedule {
        SCHEDULE_LEAST_CONNECTIONS => load.active * ACTIVE_OVERHEAD + load.inactive,
        SCHEDULE_SHORTEST_DELAY | SCHEDULE_NEVER_QUEUE => load.active + 1,
        _ => load.active,
    };
    let weight = backend.server.weight;
    let is_right = match schedule {
        SCHEDULE_LEAST_CONNECTIONS | SCHEDULE_SHORTEST_DELAY => false,
        SCHEDULE_NEVER_QUEUE => load == 1,
        SCHEDULE_OVERFLOW if load > u64::from(weight) => return GO_ON,
        _ => true,
    };
    let Some(best) = BEST.get_ptr_mut(0) else {
        return STOP;
    };
    // SAFETY: as in `search`.
    let best = unsafe { &mut *best };
    if is_right {
        best.slot = backend.slot;
        return STOP;
    }
    // load / weight < best load / best weight, without dividing.
    if best.slot == NONE || load * u64::from(best.weight) < best.load * u64::from(weight) {
        *best = Best {
            slot: backend.slot,
            weight,
            load,
        };
    }
    GO_ON
}
