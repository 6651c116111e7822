//! Ethernet: MAC addresses, VLAN tags, interfaces.

/// Maximum number of VLAN tags of a frame (IEEE 802.1ad).
pub const MAX_TAGS: usize = 2;

/// Maximum number of interfaces whose addresses the program knows.
pub const MAX_INTERFACES: usize = 64;

/// An interface of this host that the program is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Interface {
    /// Its address.
    pub mac: Mac,
    /// Zero.
    pub reserved: u16,
}

/// A VLAN tag as it lies in a frame, with the type that announces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct VlanTag {
    /// 0x8100 (IEEE 802.1Q) or 0x88A8 (802.1ad), in network byte order.
    pub ethertype: u16,
    /// Priority and VLAN number, in network byte order.
    pub control: u16,
}

/// The first twelve bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Macs {
    /// The next hop's address.
    pub destination: Mac,
    /// Our address.
    pub source: Mac,
}

/// A MAC address as it lies in a frame, in the two pieces that are quickest
/// to compare and copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C, packed(2))]
pub struct Mac {
    first: u32,
    last: u16,
}

impl Mac {
    /// Copies `other` by two stores; for an assignment the compiler may emit six.
    #[inline(always)]
    pub const fn copy_from(&mut self, other: &Self) {
        self.first = other.first;
        self.last = other.last;
    }

    /// Hash of all bits of the address: the highest bits of a product, as in
    /// [`directory_home`](crate::directory_home).
    #[inline(always)]
    pub const fn hash(self) -> u16 {
        let bits = (self.first as u64) << 32 | self.last as u64;
        (bits.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48) as u16
    }
}

impl From<[u8; 6]> for Mac {
    fn from([a, b, c, d, e, f]: [u8; 6]) -> Self {
        Self {
            first: u32::from_ne_bytes([a, b, c, d]),
            last: u16::from_ne_bytes([e, f]),
        }
    }
}

impl From<Mac> for [u8; 6] {
    fn from(mac: Mac) -> Self {
        let ([a, b, c, d], [e, f]) = (mac.first.to_ne_bytes(), mac.last.to_ne_bytes());
        [a, b, c, d, e, f]
    }
}

#[cfg(feature = "user")]
mod pod {
    use super::*;

    // SAFETY: repr(C), Copy, made of integers, without padding.
    unsafe impl aya::Pod for Interface {}
}
