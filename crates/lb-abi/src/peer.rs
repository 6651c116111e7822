//! Hosts whose frames have been balanced already: the real servers of a service,
//! of which some may be directors themselves.

use crate::Address;
use crate::service_table::Mac;

/// A host whose frames for a service are not balanced (again): [`Self::address`]
/// is `::`. With another address: an exception for packets of this client, the
/// host itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C, align(8))]
pub struct PeerKey {
    /// The client's address, or `::`.
    pub address: Address,
    /// Number of the service.
    pub service: u32,
    /// Where the frame comes from.
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

/// Which MAC addresses may be those of a [`PeerKey`]: a bit for each [`Mac::hash`].
/// Nearly every frame is from none of them, and this says so without looking into a
/// hash table. A router is mistaken for one of `n` servers with a chance of `n` in
/// 65,536; its frames then take the general way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct PeerFilter([u64; WORDS]);

impl PeerFilter {
    /// Holds nobody.
    pub const EMPTY: Self = Self([0; WORDS]);

    /// Takes `mac` in.
    pub const fn insert(&mut self, mac: Mac) {
        let hash = mac.hash();
        self.0[(hash / WORD_BITS) as usize] |= 1 << (hash % WORD_BITS);
    }

    /// Whether `mac` may be one of those that were taken in.
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
