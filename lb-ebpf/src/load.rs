//! The load of every server: its live connections, for the schedulers that compare them
//! and for thresholds.
//!
//! The program counts changes of state. What ends without a packet (by time-out or
//! eviction) the agent corrects when it sweeps the tables.

use lb_abi::{FlowState, Load, Server};

use crate::atomic::fetch_add;
use crate::maps::{FULL, LOAD_CORRECTIONS, LOADS};
use crate::service_table::Backend;

/// Adds a connection in `state` to the load of `slot`.
#[inline(always)]
pub(crate) fn add(slot: u32, state: u32) {
    if let Some(load) = LOADS.get_ptr_mut(slot) {
        change(load, state, 1);
    }
}

/// Adds a connection that has just been given to `backend`, and updates [`FULL`].
#[inline(always)]
pub(crate) fn add_new(backend: Backend, state: u32) {
    if backend.server.upper_threshold == 0 {
        add(backend.slot, state);
    } else {
        add_limited(backend, state);
    }
}

/// Not inlined, so that it shares no stack frame with the comparison of servers.
#[inline(never)]
fn add_limited(backend: Backend, state: u32) {
    let Some(before) = read(backend.slot) else {
        return;
    };
    // Clears the mark if connections that have ended since have made room.
    is_full(backend, &before);
    add(backend.slot, state);
    if before.total() + 1 >= u64::from(backend.server.upper_threshold)
        && let Some(full) = FULL.get_ptr_mut(backend.slot)
    {
        // SAFETY: a map value, written as a whole.
        unsafe { full.write_volatile(1) };
    }
}

/// Takes a connection in `state` off the load of `slot`.
#[inline(always)]
pub(crate) fn remove(slot: u32, state: u32) {
    if let Some(load) = LOADS.get_ptr_mut(slot) {
        change(load, state, MINUS_ONE);
    }
}

/// Counts a connection of `slot` that has gone from one state to another.
#[inline(always)]
pub(crate) fn change_state(slot: u32, before: u32, after: u32) {
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

/// The load of `slot`.
#[inline(always)]
pub(crate) fn read(slot: u32) -> Option<Load> {
    let (seen, correction) = (LOADS.get(slot)?, LOAD_CORRECTIONS.get(slot)?);
    Some(seen.corrected(correction))
}

/// True if `backend`, of this load, has reached its upper threshold and not fallen below
/// the lower one since (`IP_VS_DEST_F_OVERLOAD`).
///
/// IPVS updates the mark whenever a connection ends. Here it is updated before a
/// connection is scheduled or added, which comes to the same: between two of these,
/// connections only end.
#[inline(always)]
pub(crate) fn is_full(backend: Backend, load: &Load) -> bool {
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
