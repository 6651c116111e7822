//! The headers that the program reads and writes, field by field as they lie in a
//! frame.
//!
//! A frame starts at an even address and every header has an even length, so that
//! all are aligned to 2 bytes and none to more.

mod checksum;
mod ipv4;
mod ipv6;
mod network;

use lb_abi::Macs;

pub(crate) use checksum::checksum;
pub(crate) use ipv4::{ETHERTYPE_IPV4, IPV4_MORE_FRAGMENTS, IPV4_OFFSET, Ipv4};
pub(crate) use ipv6::{
    ETHERTYPE_IPV6, Extension, FragmentHeader, IPV6_MORE_FRAGMENTS, IPV6_OFFSET, IPV6_VERSION,
    IPV6_VERSION_MASK, Ipv6,
};
pub(crate) use network::NetworkHeader;

/// IEEE 802.1Q.
const ETHERTYPE_CUSTOMER_TAG: u16 = 0x8100_u16.to_be();
/// IEEE 802.1ad.
const ETHERTYPE_SERVICE_TAG: u16 = 0x88A8_u16.to_be();

/// IEEE 802.3.
#[repr(C, packed(2))]
pub(crate) struct Ethernet {
    pub(crate) macs: Macs,
    pub(crate) ethertype: u16,
}

impl Ethernet {
    /// Sets both addresses.
    #[inline(always)]
    pub(crate) fn set_macs(&mut self, macs: &Macs) {
        self.macs.destination.copy_from(&macs.destination);
        self.macs.source.copy_from(&macs.source);
    }
}

/// True if `ethertype` announces a VLAN tag.
#[inline(always)]
pub(crate) fn is_tag(ethertype: u16) -> bool {
    ethertype == ETHERTYPE_CUSTOMER_TAG || ethertype == ETHERTYPE_SERVICE_TAG
}

/// RFC 9293 §3.1.
#[repr(C, packed(2))]
pub(crate) struct Tcp {
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) sequence: u32,
    pub(crate) acknowledged: u32,
    pub(crate) data_offset: u8,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) checksum: u16,
    pub(crate) urgent: u16,
}

pub(crate) const TCP_FIN: u8 = 1;
pub(crate) const TCP_SYN: u8 = 1 << 1;
pub(crate) const TCP_RST: u8 = 1 << 2;
pub(crate) const TCP_ACK: u8 = 1 << 4;

/// RFC 768.
#[repr(C, packed(2))]
pub(crate) struct Udp {
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) length: u16,
    pub(crate) checksum: u16,
}

/// The ports of TCP and UDP, which an ICMP error always quotes (RFC 792: 64 bits of
/// the original datagram's data).
#[repr(C, packed(2))]
pub(crate) struct Ports {
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
}

/// RFC 792, RFC 4443.
#[repr(C, packed(2))]
pub(crate) struct Icmp {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    pub(crate) checksum: u16,
    pub(crate) rest: u32,
}
