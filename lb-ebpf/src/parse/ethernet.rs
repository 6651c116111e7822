//! The Ethernet header (IEEE 802.3) and its tags (802.1Q, 802.1ad).

pub const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
pub const ETHERTYPE_IPV6: u16 = 0x86DD_u16.to_be();
const ETHERTYPE_CUSTOMER_TAG: u16 = 0x8100_u16.to_be();
const ETHERTYPE_SERVICE_TAG: u16 = 0x88A8_u16.to_be();

#[derive(Clone, Copy)]
#[repr(C, packed)]
pub struct Ethernet {
    pub destination: [u8; 6],
    pub source: [u8; 6],
    pub ethertype: u16,
}

/// Whether `ethertype` announces a VLAN tag.
#[inline(always)]
pub fn is_tag(ethertype: u16) -> bool {
    ethertype == ETHERTYPE_CUSTOMER_TAG || ethertype == ETHERTYPE_SERVICE_TAG
}
