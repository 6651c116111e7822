//! The frame as it lies in the driver's buffers.

use core::arch::asm;
use core::marker::PhantomData;

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{
    bpf_check_mtu, bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len,
};
use aya_ebpf::programs::XdpContext;

/// A received frame.
pub(crate) struct Frame<'a> {
    context: &'a XdpContext,
}

/// The frame's first buffer as it lies now: invalid once the frame is moved or cut. All
/// access goes through [`Bytes::at`], whose comparison with the buffer's end the verifier
/// requires.
#[derive(Clone, Copy)]
pub(crate) struct Bytes<'a> {
    start: usize,
    end: usize,
    frame: PhantomData<&'a XdpContext>,
}

impl<'a> Bytes<'a> {
    /// The `T` at `offset` bytes from the frame's start, if the buffer holds
    /// all of it. `T` must need no more alignment than frames have.
    #[inline(always)]
    fn at<T>(self, offset: usize) -> Option<*mut T> {
        const { assert!(align_of::<T>() <= 2) };
        let start = self.start + offset;
        if start + size_of::<T>() > self.end {
            return None;
        }
        Some(start as *mut T)
    }

    /// The header at `offset`, if the buffer holds all of it.
    #[inline(always)]
    pub(crate) fn header<T>(self, offset: usize) -> Option<&'a T> {
        // SAFETY: `at` has checked that the buffer holds all of it; every
        // header is made of integers, so any bytes will do.
        self.at::<T>(offset).map(|pointer| unsafe { &*pointer })
    }

    /// As [`Self::header`], to write to.
    #[inline(always)]
    pub(crate) fn header_mut<T>(self, offset: usize) -> Option<&'a mut T> {
        // SAFETY: as above; the frame is the driver's, and nobody looks at it
        // while the program runs.
        self.at::<T>(offset).map(|pointer| unsafe { &mut *pointer })
    }

    /// True if the buffer reaches at least to `offset`.
    ///
    /// Lengths are compared, not pointers: the verifier of Linux 6.1 refuses the sum of a
    /// pointer and a number from a header, which a byte swap makes unbounded.
    #[inline(always)]
    pub(crate) fn reach(self, offset: usize) -> bool {
        self.end.wrapping_sub(self.start) >= offset
    }
}

impl<'a> Frame<'a> {
    #[inline(always)]
    pub(crate) fn new(context: &'a XdpContext) -> Self {
        Self { context }
    }

    /// The kernel's own description of the frame.
    #[inline(always)]
    pub(crate) fn context(&self) -> *mut xdp_md {
        self.context.ctx
    }

    /// The first buffer as it lies now.
    #[inline(always)]
    pub(crate) fn bytes(&self) -> Bytes<'_> {
        Bytes {
            start: self.start(),
            end: self.end(),
            frame: PhantomData,
        }
    }

    /// The header at `offset`, if the first buffer holds all of it.
    #[inline(always)]
    pub(crate) fn header<T>(&self, offset: usize) -> Option<&T> {
        self.bytes().header(offset)
    }

    /// As [`Self::header`], to write to.
    #[inline(always)]
    pub(crate) fn header_mut<T>(&self, offset: usize) -> Option<&mut T> {
        self.bytes().header_mut(offset)
    }

    /// True if the frame reaches at least to `offset`.
    #[inline(always)]
    pub(crate) fn reaches(&self, offset: usize) -> bool {
        self.bytes().reach(offset) || self.length() >= offset as u64
    }

    /// Moves the frame's start by `delta` bytes: forward, or back into the
    /// driver's headroom. Headers taken before are invalid afterwards.
    #[inline(always)]
    pub(crate) fn move_start(&self, delta: i32) -> Option<()> {
        // SAFETY: the context is the one that the kernel gave us.
        let result = unsafe { bpf_xdp_adjust_head(self.context.ctx, delta) };
        (result == 0).then_some(())
    }

    /// Cuts the frame after `length` bytes. Headers taken before are invalid afterwards.
    #[inline(always)]
    pub(crate) fn cut(&self, length: usize) -> Option<()> {
        let excess = self.length() as i32 - length as i32;
        // SAFETY: as above.
        let result = unsafe { bpf_xdp_adjust_tail(self.context.ctx, -excess) };
        (result == 0).then_some(())
    }

    /// Interface that the frame came from.
    #[inline(always)]
    pub(crate) fn interface_index(&self) -> u32 {
        self.context.ingress_ifindex() as u32
    }

    /// MTU of an interface, if a packet of `bytes` is larger than that; 0 if it fits, or
    /// if the interface does not exist.
    #[inline(never)]
    pub(crate) fn exceeded_mtu(&self, interface_index: u32, bytes: u32) -> u32 {
        // In: the packet's length. Out: the MTU.
        let mut mtu = bytes;
        // SAFETY: the context is the one that the kernel gave us (Linux 5.12).
        let result =
            unsafe { bpf_check_mtu(self.context.ctx.cast(), interface_index, &raw mut mtu, 0, 0) };
        if result > 0 { mtu } else { 0 }
    }

    #[inline(always)]
    fn start(&self) -> usize {
        let start;
        // SAFETY: loads `xdp_md::data`, which is a pointer to the verifier although its
        // type is `u32`. The compiler must not see that type, or it truncates the pointer,
        // which the verifier refuses.
        unsafe {
            asm!(
                "{start} = *(u32 *)({context} + 0)",
                start = out(reg) start,
                context = in(reg) self.context.ctx,
                options(pure, readonly, nostack),
            );
        }
        start
    }

    #[inline(always)]
    fn end(&self) -> usize {
        let end;
        // SAFETY: as in `start`, for `xdp_md::data_end`.
        unsafe {
            asm!(
                "{end} = *(u32 *)({context} + 4)",
                end = out(reg) end,
                context = in(reg) self.context.ctx,
                options(pure, readonly, nostack),
            );
        }
        end
    }

    /// Bytes of the frame, in all its buffers.
    #[inline(always)]
    fn length(&self) -> u64 {
        // SAFETY: as above (Linux 5.18).
        unsafe { bpf_xdp_get_buff_len(self.context.ctx) }
    }
}
