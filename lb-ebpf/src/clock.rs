//! The one clock of the packet path.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;

/// CLOCK_MONOTONIC_COARSE in nanoseconds: as exact as the timer tick, which is
/// plenty for time-outs of seconds, and cheaper than the fine clock.
#[inline(always)]
pub fn now_ns() -> u64 {
    // SAFETY: takes nothing, may be called anywhere (Linux 5.11).
    unsafe { bpf_ktime_get_coarse_ns() }
}
