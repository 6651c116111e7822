//! The loop guard: hosts whose frames have been balanced already. These are the real
//! servers of a service, some of which may be directors themselves.

use crate::Address;
use crate::link::Mac;

/// A host whose frames for a service are not balanced again, if [`Self::address`] is `::`;
/// otherwise an exception for packets of that client, which is the host itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C, align(8))]
pub struct PeerKey {
    /// The client's address, or `::`.
    pub address: Address,
    /// Number of the service.
    pub service: u32,
    /// Source address of the frame.
    pub mac: Mac,
    /// Zero.
    pub reserved: [u16; 3],
}

impl PeerKey {
    /// The key of a host, or of an exception.
    #[inline(always)]
    pub const fn new(service: u32, mac: Mac, address: Address) -> Self {
        Self {
            address,
            service,
            mac,
            reserved: [0; 3],
        }
    }
}

const WORD_BITS: u16 = u64::BITS as u16;
const WORDS: usize = 1 << (16 - WORD_BITS.trailing_zeros());

/// Filter of the MAC addresses that a [`PeerKey`] may have: one bit for each [`Mac::hash`].
///
/// Nearly every frame is from none of them, which the filter tells without a look-up in a
/// hash table. A router is mistaken for one of `n` servers with a probability of `n` in
/// 65,536; its frames then take the slow path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct PeerFilter([u64; WORDS]);

impl PeerFilter {
    /// The filter of no address.
    pub const EMPTY: Self = Self([0; WORDS]);

    /// Adds an address.
    pub const fn insert(&mut self, mac: Mac) {
        let hash = mac.hash();
        self.0[(hash / WORD_BITS) as usize] |= 1 << (hash % WORD_BITS);
    }

    /// True if `mac` may have been added; false if it has not.
    #[inline(always)]
    pub const fn may_hold(&self, mac: Mac) -> bool {
        let hash = mac.hash();
        self.0[(hash / WORD_BITS) as usize] >> (hash % WORD_BITS) & 1 != 0
    }
}

impl Default for PeerFilter {
    fn default() -> Self {
        Self::EMPTY
    }
}

#[cfg(feature = "user")]
mod pod {
    use super::*;

    // SAFETY: repr(C), Copy, made of integers, without padding.
    unsafe impl aya::Pod for PeerKey {}
}

const _: () = assert!(size_of::<PeerKey>() == 32);
