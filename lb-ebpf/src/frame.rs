//! The frame as it lies in the driver's buffer.

use aya_ebpf::programs::XdpContext;

/// A received frame. All access goes through [`Frame::at`], whose comparison
/// with the frame's end is what the verifier wants to see.
pub struct Frame<'a> {
    context: &'a XdpContext,
}

impl<'a> Frame<'a> {
    #[inline(always)]
    pub fn new(context: &'a XdpContext) -> Self {
        Self { context }
    }

    /// The `T` at `offset` bytes from the frame's start, if the frame holds
    /// all of it. `T` must be of alignment 1, since nothing aligns a frame.
    #[inline(always)]
    pub fn at<T>(&self, offset: usize) -> Option<*mut T> {
        const { assert!(align_of::<T>() == 1) };
        let start = self.context.data() + offset;
        if start + size_of::<T>() > self.context.data_end() {
            return None;
        }
        Some(start as *mut T)
    }

    /// The header at `offset`, if the frame holds all of it.
    ///
    /// Take its fields one by one: a copy of an unaligned structure would lie
    /// unaligned on the stack, which the verifier refuses.
    #[inline(always)]
    pub fn header<T>(&self, offset: usize) -> Option<&T> {
        // SAFETY: `at` has checked that the frame holds all of it; every
        // header is made of integers, so any bytes will do.
        self.at::<T>(offset).map(|pointer| unsafe { &*pointer })
    }

    /// Whether the frame reaches at least to `offset`.
    #[inline(always)]
    pub fn reaches(&self, offset: usize) -> bool {
        self.context.data() + offset <= self.context.data_end()
    }

    /// Interface that the frame came from.
    #[inline(always)]
    pub fn interface_index(&self) -> u32 {
        self.context.ingress_ifindex() as u32
    }
}
