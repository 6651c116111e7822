//! Schedulers: pick the server of a new connection.
//!
//! The agent lays the order out in a ring, which holds only servers that can take
//! connections. The program picks a place of the ring, and another one if the server
//! there is full.

use core::ffi::c_void;

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::helpers::generated::bpf_loop;
use aya_ebpf::macros::btf_map;
use lb_abi::{
    ACTIVE_OVERHEAD, MAX_FALLBACKS, SCHEDULE_FIRST, SCHEDULE_HASH, SCHEDULE_LEAST_CONNECTIONS,
    SCHEDULE_NEVER_QUEUE, SCHEDULE_OVERFLOW, SCHEDULE_ROUND_ROBIN, SCHEDULE_SHORTEST_DELAY,
    Service, ServiceFlags, client_hash, mix,
};

use crate::maps::CURSORS;
use crate::packet::Packet;
use crate::service_table::{Backend, GenerationIndex, ServiceRef, ServiceTable};
use crate::{atomic, load};

/// Picks a server; `None` if the service has none that can take a connection.
#[inline(always)]
pub(crate) fn pick(table: ServiceTable, service: ServiceRef, packet: &Packet) -> Option<Backend> {
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
        // Servers may be full, so that several are looked at.
        _ if service.has(ServiceFlags::LIMITED) => {}
        SCHEDULE_ROUND_ROBIN | SCHEDULE_HASH | SCHEDULE_FIRST => {
            return candidates.server(candidates.place(0)?);
        }
        _ => {}
    }
    let Candidates {
        generation, first, ..
    } = candidates;
    table.slot(search(generation.number(), number, entry, first))
}

/// The next place of a round robin. A service has one cursor for all CPUs, so that the
/// places are taken in order whichever CPU a SYN comes to.
#[inline(always)]
fn turn(service: ServiceRef) -> Option<u32> {
    let cursor = CURSORS.get_ptr_mut(service.number)?;
    // SAFETY: a map value, aligned to 8 bytes, that is only accessed so.
    let turn = unsafe { atomic::fetch_add(cursor, 1) };
    let place = turn.checked_rem(u64::from(service.entry.ring_length))?;
    Some(place as u32)
}

/// Moves the cursor past servers that were full, so that the next packet begins behind
/// the server that was picked.
#[inline(always)]
fn advance_cursor(service_number: u32, turns: u64) {
    if let Some(cursor) = CURSORS.get_ptr_mut(service_number) {
        // SAFETY: as above.
        unsafe { atomic::fetch_add(cursor, turns) };
    }
}

#[inline(always)]
fn hash(service: ServiceRef, packet: &Packet) -> u32 {
    let port = if service.has(ServiceFlags::HASH_PORT) {
        packet.client_port
    } else {
        0
    };
    client_hash(&packet.client, port)
}

/// Number of places that are tried in a pseudo-random order before all others are tried
/// one after the other.
const SCATTERED: u32 = 64;

/// The servers of a service in the order in which they are looked at.
struct Candidates {
    generation: GenerationIndex,
    service: &'static Service,
    /// Start of the order: the place of the round robin, or the client's hash; 0 for all
    /// other schedulers.
    first: u32,
}

impl Candidates {
    /// Place of the ring that try number `number`, from 0, looks at.
    #[inline(always)]
    fn place(&self, number: u32) -> Option<u32> {
        match self.service.schedule {
            SCHEDULE_ROUND_ROBIN => self.following(number),
            SCHEDULE_HASH => self.hashed(number),
            _ => Some(number),
        }
    }

    /// The place `number` places behind the first: independent of the cursor, which other
    /// CPUs advance, so that each server is tried once.
    #[inline(always)]
    fn following(&self, number: u32) -> Option<u32> {
        (self.first + number).checked_rem(self.service.ring_length)
    }

    /// First the place that the client hashes to; then places in a pseudo-random order,
    /// so that the clients of a full server are spread over the others; at last one place
    /// after the other, so that the only server with room is found.
    #[inline(always)]
    fn hashed(&self, number: u32) -> Option<u32> {
        let hash = match number {
            0 => self.first,
            1..SCATTERED => mix(u64::from(number) << 32 | u64::from(self.first)) as u32,
            _ => self.first.wrapping_add(number),
        };
        hash.checked_rem(self.service.ring_length)
    }

    /// Number of places to look at.
    #[inline(always)]
    fn tries(&self) -> u32 {
        let Service {
            schedule,
            flags,
            ring_length,
            ..
        } = *self.service;
        match schedule {
            SCHEDULE_HASH if flags.contains(ServiceFlags::FALLBACK) => SCATTERED + MAX_FALLBACKS,
            SCHEDULE_HASH => 1,
            _ => ring_length,
        }
    }

    #[inline(always)]
    fn server(&self, place: u32) -> Option<Backend> {
        self.generation.at(self.service, place)
    }
}

/// Slot that stands for no server, since a BPF function that is not inlined can return
/// one number only.
const NONE: u32 = u32::MAX;

/// The best server so far.
///
/// It lies in a map: verifiers before Linux 6.8 follow the callback of a loop once. They
/// assume that what the stack holds then it holds at every turn, and remove the
/// comparison as code that is never reached.
struct Best {
    slot: u32,
    weight: u32,
    load: u64,
}

#[btf_map]
static BEST: PerCpuArray<Best, 1> = PerCpuArray::new();

/// Looks at one server after the other, and returns the slot of the one to pick, or
/// [`NONE`].
///
/// Global, as [`slow_path`](crate::slow_path).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn search(generation: u32, number: u32, service: *const Service, first: u32) -> u32 {
    // SAFETY: `pick` passes a value of a map.
    let (Some(best), Some(service)) = (BEST.get_ptr_mut(0), unsafe { service.as_ref() }) else {
        return NONE;
    };
    // SAFETY: this CPU runs one program at a time, and no reference to the
    // place lives across the loop.
    unsafe { (*best).slot = NONE };
    let mut candidates = Candidates {
        generation: GenerationIndex::of(generation),
        service,
        first,
    };
    let tries = candidates.tries();
    // SAFETY: the callback has the signature that the helper calls, and casts the
    // candidates to nothing else (Linux 5.17).
    let tried = unsafe {
        bpf_loop(
            tries,
            consider as *mut c_void,
            (&raw mut candidates).cast(),
            0,
        )
    };
    // `turn` has taken the first place already.
    if service.schedule == SCHEDULE_ROUND_ROBIN && tried > 1 {
        advance_cursor(number, tried as u64 - 1);
    }
    // SAFETY: as above.
    unsafe { (*best).slot }
}

/// Return value of [`consider`]: look at the next server.
const GO_ON: i64 = 0;
/// Return value of [`consider`]: no other server can be better.
const STOP: i64 = 1;

/// Compares the server of try number `number` with the best one so far.
#[inline(never)]
extern "C" fn consider(number: u32, candidates: *mut c_void) -> i64 {
    // SAFETY: `search` passes candidates that it owns.
    let candidates = unsafe { &*candidates.cast::<Candidates>() };
    let place = candidates.place(number);
    let Some(backend) = place.and_then(|place| candidates.server(place)) else {
        return GO_ON;
    };
    let Some(load) = load::read(backend.slot) else {
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
