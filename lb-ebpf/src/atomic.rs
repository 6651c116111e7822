//! Atomic operations (Linux 5.12).
//!
//! `core` has none for this target, since the first BPF instruction sets had none.

use core::arch::asm;

/// Adds `value` to `*target` and returns what was there before.
///
/// # Safety
///
/// `target` must be valid, aligned to 8 bytes, and accessed atomically only.
#[inline(always)]
pub(crate) unsafe fn fetch_add(target: *mut u64, value: u64) -> u64 {
    let mut operand = value;
    // SAFETY: touches nothing but `target`, for which the caller vouches.
    unsafe {
        asm!(
            "{operand} = atomic_fetch_add((u64 *)({target} + 0), {operand})",
            operand = inout(reg) operand,
            target = in(reg) target,
            options(nostack),
        );
    }
    operand
}
