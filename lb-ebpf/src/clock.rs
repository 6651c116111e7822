//! The one clock of the packet path: CLOCK_MONOTONIC in nanoseconds, as exact as
//! the timer tick, which is plenty for time-outs of seconds.

use core::cell::UnsafeCell;

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns};

/// Nanoseconds from one timer tick to the next; set at load.
#[unsafe(no_mangle)]
static TICK_NS: u64 = 0;

/// What the clock showed when it was last [`now_ns`], less the ticks until
/// then; 0 before that.
static OFFSET_NS: Offset = Offset(UnsafeCell::new(0));

struct Offset(UnsafeCell<u64>);

// SAFETY: a single word, read and written in one piece. Whoever writes it last
// writes what everybody else would have, give or take a tick.
unsafe impl Sync for Offset {}

/// The time, asked of the kernel.
#[inline(always)]
pub fn now_ns() -> u64 {
    // SAFETY: takes nothing, may be called anywhere (Linux 5.11).
    let now_ns = unsafe { bpf_ktime_get_coarse_ns() };
    let offset_ns = now_ns.wrapping_sub(ticks_ns());
    // SAFETY: see `Offset`.
    unsafe { OFFSET_NS.0.get().write_volatile(offset_ns) };
    now_ns
}

/// The time, counted from when it was last asked for; `None` if it never was.
///
/// Ticks are a word in memory, and the helper that reads it is no call any more
/// when the verifier is done. Asking is a call that makes others.
#[inline(always)]
pub fn now_from_ticks_ns() -> Option<u64> {
    // SAFETY: see `Offset`.
    let offset_ns = unsafe { OFFSET_NS.0.get().read_volatile() };
    (offset_ns != 0).then(|| offset_ns.wrapping_add(ticks_ns()))
}

#[inline(always)]
fn ticks_ns() -> u64 {
    // SAFETY: the helper takes nothing and may be called anywhere (Linux 5.5);
    // the static is initialised, and read so since the loader writes to it.
    unsafe { bpf_jiffies64().wrapping_mul((&raw const TICK_NS).read_volatile()) }
}
