//! Live connections of every server, for the schedulers that compare them.
//!
//! Counted here where states change. What changes without a packet (silence,
//! eviction) the agent corrects when it sweeps.

use lb_common::{ACTIVE_OVERHEAD, FlowState, Load};

use crate::atomic::fetch_add;
use crate::maps::{LOAD_CORRECTIONS, LOADS};

/// Counts a connection of `slot` that has entered `state`.
#[inline(always)]
pub fn entered(slot: u32, state: u32) {
    add(slot, state, 1);
}

/// Counts a connection of `slot` that has left `state`.
#[inline(always)]
pub fn left(slot: u32, state: u32) {
    add(slot, state, 1_u64.wrapping_neg());
}

#[inline(always)]
fn add(slot: u32, state: u32, value: u64) {
    let Some(load) = LOADS.get_ptr_mut(slot) else {
        return;
    };
    // SAFETY: a map value, aligned to 8 bytes, that is only written so.
    unsafe {
        let count = if is_active(state) {
            &raw mut (*load).active
        } else {
            &raw mut (*load).inactive
        };
        fetch_add(count, value);
    }
}

/// Whether a connection in `state` counts as active.
#[inline(always)]
pub fn is_active(state: u32) -> bool {
    state == FlowState::Established as u32 || state == FlowState::Udp as u32
}

/// How much `slot` has to do: what "least connections" compares.
#[inline(always)]
pub fn of(slot: u32) -> Option<u64> {
    let (seen, correction) = (LOADS.get(slot)?, LOAD_CORRECTIONS.get(slot)?);
    let total = |seen: u64, correction: u64| {
        let sum = seen.wrapping_add(correction) as i64;
        if sum < 0 { 0 } else { sum as u64 }
    };
    let Load { active, inactive } = Load {
        active: total(seen.active, correction.active),
        inactive: total(seen.inactive, correction.inactive),
    };
    Some(active * ACTIVE_OVERHEAD + inactive)
}
