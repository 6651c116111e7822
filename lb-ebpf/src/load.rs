//! Live connections of every server, for the schedulers that compare them.
//!
//! Counted here where states change. What changes without a packet (silence,
//! eviction) the agent corrects when it sweeps.

use lb_abi::{FlowState, Load, Server};

use crate::atomic::fetch_add;
use crate::maps::{FULL, LOAD_CORRECTIONS, LOADS};
use crate::service_table::Backend;

/// Counts a connection of `slot` that has entered `state`.
#[inline(always)]
pub fn entered(slot: u32, state: u32) {
    if let Some(load) = LOADS.get_ptr_mut(slot) {
        change(load, state, 1);
    }
}

/// Counts a connection that has just been given to `backend`, and finds out whether
/// it has room before and after.
#[inline(always)]
pub fn entered_new(backend: Backend, state: u32) {
    if backend.server.upper_threshold == 0 {
        entered(backend.slot, state);
    } else {
        entered_limited(backend, state);
    }
}

/// Called, so that it does not stand on the stack beside the comparison of servers.
#[inline(never)]
fn entered_limited(backend: Backend, state: u32) {
    let Some(before) = of(backend.slot) else {
        return;
    };
    // Those that have gone since the last look may have made room.
    is_full(backend, &before);
    entered(backend.slot, state);
    if before.total() + 1 >= u64::from(backend.server.upper_threshold)
        && let Some(full) = FULL.get_ptr_mut(backend.slot)
    {
        // SAFETY: a map value, written as a whole.
        unsafe { full.write_volatile(1) };
    }
}

/// Counts a connection of `slot` that has left `state`.
#[inline(always)]
pub fn left(slot: u32, state: u32) {
    if let Some(load) = LOADS.get_ptr_mut(slot) {
        change(load, state, MINUS_ONE);
    }
}

/// Counts a connection of `slot` that has gone from one state to another.
#[inline(always)]
pub fn change_state(slot: u32, before: u32, after: u32) {
    if let Some(load) = LOADS.get_ptr_mut(slot) {
        change(load, before, MINUS_ONE);
        change(load, after, 1);
    }
}

const MINUS_ONE: u64 = 1_u64.wrapping_neg();

#[inline(always)]
fn change(load: *mut Load, state: u32, value: u64) {
    // SAFETY: a map value, aligned to 8 bytes, that is only written so.
    unsafe {
        let count = if FlowState::is_active(state) {
            &raw mut (*load).active
        } else {
            &raw mut (*load).inactive
        };
        fetch_add(count, value);
    }
}

/// How much `slot` has to do.
#[inline(always)]
pub fn of(slot: u32) -> Option<Load> {
    let (seen, correction) = (LOADS.get(slot)?, LOAD_CORRECTIONS.get(slot)?);
    Some(seen.corrected(correction))
}

/// Whether a server that has `load` to do has reached its upper threshold, and not
/// fallen below the lower one since (`IP_VS_DEST_F_OVERLOAD`).
///
/// IPVS asks whenever a connection goes. What is asked here before one comes, and
/// before one may, has the same reply: in between there are only such that go.
#[inline(always)]
pub fn is_full(backend: Backend, load: &Load) -> bool {
    let Server {
        upper_threshold: upper,
        lower_threshold: lower,
        ..
    } = *backend.server;
    if upper == 0 {
        return false;
    }
    let Some(full) = FULL.get_ptr_mut(backend.slot) else {
        return false;
    };
    // SAFETY: a map value, read and written as a whole.
    unsafe {
        if full.read_volatile() == 0 {
            return false;
        }
        if load.has_room(upper, lower) {
            full.write_volatile(0);
            return false;
        }
    }
    true
}
