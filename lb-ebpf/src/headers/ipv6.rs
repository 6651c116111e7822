//! The IPv6 header and its extension headers.

use super::network::{NetworkHeader, TIME_TO_LIVE};

pub(crate) const ETHERTYPE_IPV6: u16 = 0x86DD_u16.to_be();

/// RFC 8200 §3.
#[repr(C, packed(2))]
pub(crate) struct Ipv6 {
    pub(crate) version_and_class: u32,
    pub(crate) payload_length: u16,
    pub(crate) next_header: u8,
    pub(crate) hop_limit: u8,
    pub(crate) source: [u32; 4],
    pub(crate) destination: [u32; 4],
}

pub(crate) const IPV6_VERSION_MASK: u32 = 0xF000_0000_u32.to_be();
pub(crate) const IPV6_VERSION: u32 = 0x6000_0000_u32.to_be();

/// The fields that most extension headers begin with (RFC 8200 §4).
#[repr(C, packed(2))]
pub(crate) struct Extension {
    pub(crate) next_header: u8,
    pub(crate) length: u8,
}

/// RFC 8200 §4.5.
#[repr(C, packed(2))]
pub(crate) struct FragmentHeader {
    pub(crate) next_header: u8,
    pub(crate) reserved: u8,
    pub(crate) offset_and_more: u16,
    pub(crate) identification: u32,
}

pub(crate) const IPV6_OFFSET: u16 = 0xFFF8_u16.to_be();
pub(crate) const IPV6_MORE_FRAGMENTS: u16 = 1_u16.to_be();

impl Ipv6 {
    /// Fills a header without extensions.
    #[inline(always)]
    pub(crate) fn fill(
        &mut self,
        payload_length: u16,
        next_header: u8,
        source: &[u32; 4],
        destination: &[u32; 4],
    ) {
        self.version_and_class = IPV6_VERSION;
        self.payload_length = payload_length.to_be();
        self.next_header = next_header;
        self.hop_limit = TIME_TO_LIVE;
        self.source = *source;
        self.destination = *destination;
    }

    /// Sets traffic class and flow label (20 bits).
    #[inline(always)]
    pub(crate) fn set_class_and_label(&mut self, class: u8, label: u32) {
        let class_and_label = u32::from(class) << 20 | label;
        self.version_and_class = IPV6_VERSION | class_and_label.to_be();
    }
}

impl NetworkHeader for Ipv6 {
    const ETHERTYPE: u16 = ETHERTYPE_IPV6;

    #[inline(always)]
    fn protocol(&self) -> u8 {
        self.next_header
    }

    #[inline(always)]
    fn class(&self) -> u8 {
        (u32::from_be(self.version_and_class) >> 20) as u8
    }

    #[inline(always)]
    fn may_be_fragmented(&self) -> bool {
        true
    }

    #[inline(always)]
    fn lower_hops(&mut self) {
        self.hop_limit = self.hop_limit.wrapping_sub(1);
    }
}
