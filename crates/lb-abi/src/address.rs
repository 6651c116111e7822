//! The form of addresses of both families.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv6 address, or an IPv4 address as `::ffff:a.b.c.d` (RFC 4291
/// §2.5.5.2), in four words as they lie in the packet.
///
/// One form for both families means one connection table, one hash and one
/// code path behind the parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Address(pub [u32; 4]);

impl Address {
    /// The third word of every IPv4 address.
    pub const MAPPED: u32 = 0xffff_u32.to_be();

    /// An IPv4 address, given as its four bytes lie in memory.
    #[inline(always)]
    pub const fn from_ipv4_word(word: u32) -> Self {
        Self([0, 0, Self::MAPPED, word])
    }

    /// True for an IPv4 address.
    #[inline(always)]
    pub const fn is_ipv4(&self) -> bool {
        self.0[0] | self.0[1] == 0 && self.0[2] == Self::MAPPED
    }

    /// The four bytes of an IPv4 address as they lie in memory.
    #[inline(always)]
    pub const fn ipv4_word(&self) -> u32 {
        self.0[3]
    }

    /// This address with the bits outside `mask` cleared.
    #[inline(always)]
    #[must_use]
    pub const fn masked(&self, mask: &Self) -> Self {
        let (a, b) = (&self.0, &mask.0);
        Self([a[0] & b[0], a[1] & b[1], a[2] & b[2], a[3] & b[3]])
    }

    /// Mask of the leading `prefix_length` bits of an address of the family of `ip`; of all
    /// bits if the address has no more.
    pub fn mask(ip: IpAddr, prefix_length: u8) -> Self {
        let offset: u32 = if ip.is_ipv4() { 96 } else { 0 };
        let kept = (offset + u32::from(prefix_length)).min(128);
        let bits = if kept == 0 {
            0
        } else {
            u128::MAX << (128 - kept)
        };
        Ipv6Addr::from_bits(bits).into()
    }
}

impl From<Ipv4Addr> for Address {
    fn from(ip: Ipv4Addr) -> Self {
        Self::from_ipv4_word(u32::from_ne_bytes(ip.octets()))
    }
}

impl From<Ipv6Addr> for Address {
    fn from(ip: Ipv6Addr) -> Self {
        let bits = ip.to_bits();
        Self([96, 64, 32, 0].map(|shift| ((bits >> shift) as u32).to_be()))
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => ip.into(),
            IpAddr::V6(ip) => ip.into(),
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        let mut bits = 0;
        for word in address.0 {
            bits = bits << 32 | u128::from(u32::from_be(word));
        }
        Self::V6(Ipv6Addr::from_bits(bits)).to_canonical()
    }
}
