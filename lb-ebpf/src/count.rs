//! Counters: per CPU, so that counting is a plain addition.

use lb_abi::Reason;

use crate::maps::{HANDSHAKES, REASONS, SERVER_COUNTERS};

/// Counts a verdict.
#[inline(always)]
pub(crate) fn reason(reason: Reason) {
    if let Some(counter) = REASONS.get_ptr_mut(reason as u32) {
        // SAFETY: points at this CPU's counter, which no other code touches
        // while the program runs.
        unsafe { *counter += 1 };
    }
}

/// Counts a packet forwarded to the server in `slot`.
#[inline(always)]
pub(crate) fn forwarded(slot: u32, bytes: u32) {
    if let Some(counters) = SERVER_COUNTERS.get_ptr_mut(slot) {
        // SAFETY: as above.
        unsafe {
            (*counters).packets += 1;
            (*counters).bytes += u64::from(bytes);
        }
    }
}

/// Counts a connection scheduled to the server in `slot`.
#[inline(always)]
pub(crate) fn scheduled(slot: u32) {
    if let Some(counters) = SERVER_COUNTERS.get_ptr_mut(slot) {
        // SAFETY: as above.
        unsafe { (*counters).connections += 1 };
    }
}

/// Counts a TCP connection that has been entered.
#[inline(always)]
pub(crate) fn opened() {
    if let Some(counters) = HANDSHAKES.get_ptr_mut(0) {
        // SAFETY: as above.
        unsafe { (*counters).opened += 1 };
    }
}

/// Counts a SYN over the rate of its network.
#[inline(always)]
pub(crate) fn refused() {
    if let Some(counters) = HANDSHAKES.get_ptr_mut(0) {
        // SAFETY: as above.
        unsafe { (*counters).refused += 1 };
    }
}

/// Counts a TCP connection whose handshake is complete.
#[inline(always)]
pub(crate) fn completed() {
    if let Some(counters) = HANDSHAKES.get_ptr_mut(0) {
        // SAFETY: as above.
        unsafe { (*counters).completed += 1 };
    }
}
