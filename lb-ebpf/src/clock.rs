//! The clock of the program: CLOCK_MONOTONIC in nanoseconds, in steps of a timer tick,
//! which is enough for time-outs of seconds.

use core::cell::UnsafeCell;

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns};

/// Nanoseconds from one timer tick to the next; set at load.
#[unsafe(no_mangle)]
static TICK_NS: u64 = 0;

/// Difference between the kernel's clock and the ticks, as [`now_ns`] last found it; 0
/// before that.
static OFFSET_NS: Offset = Offset(UnsafeCell::new(0));

struct Offset(UnsafeCell<u64>);

// SAFETY: a single word, read and written in one piece. All CPUs write the same value,
// give or take a tick.
unsafe impl Sync for Offset {}

/// The time, by the kernel's clock.
#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: takes nothing, may be called anywhere (Linux 5.11).
    let now_ns = unsafe { bpf_ktime_get_coarse_ns() };
    let offset_ns = now_ns.wrapping_sub(ticks_ns());
    // SAFETY: see `Offset`.
    unsafe { OFFSET_NS.0.get().write_volatile(offset_ns) };
    now_ns
}

/// The time, by the ticks since [`now_ns`] was last called; `None` if it never was.
///
/// Cheaper: the verifier replaces the helper that reads the ticks by a load from memory,
/// while the kernel's clock is a call that makes others.
#[inline(always)]
pub(crate) fn now_from_ticks_ns() -> Option<u64> {
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
