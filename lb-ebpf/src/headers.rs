//! The headers that we read and write, field by field as they lie in a frame.
//!
//! A frame starts at an even address and every header has an even length, so
//! that all are aligned to 2 and none to more.

use lb_abi::Macs;

pub const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
pub const ETHERTYPE_IPV6: u16 = 0x86DD_u16.to_be();
/// IEEE 802.1Q.
pub const ETHERTYPE_CUSTOMER_TAG: u16 = 0x8100_u16.to_be();
/// IEEE 802.1ad.
pub const ETHERTYPE_SERVICE_TAG: u16 = 0x88A8_u16.to_be();

/// IEEE 802.3.
#[repr(C, packed(2))]
pub struct Ethernet {
    pub macs: Macs,
    pub ethertype: u16,
}

/// What a VLAN tag puts between the MAC addresses and the next type.
#[repr(C, packed(2))]
pub struct VlanTag {
    pub control: u16,
    pub ethertype: u16,
}

/// RFC 791 §3.1.
#[repr(C, packed(2))]
pub struct Ipv4 {
    pub version_and_length: u8,
    pub service: u8,
    pub total_length: u16,
    pub identification: u16,
    pub flags_and_offset: u16,
    pub time_to_live: u8,
    pub protocol: u8,
    pub checksum: u16,
    pub source: u32,
    pub destination: u32,
}

pub const IPV4_MORE_FRAGMENTS: u16 = 0x2000_u16.to_be();
pub const IPV4_DO_NOT_FRAGMENT: u16 = 0x4000_u16.to_be();
pub const IPV4_OFFSET: u16 = 0x1FFF_u16.to_be();

/// RFC 8200 §3.
#[repr(C, packed(2))]
pub struct Ipv6 {
    pub version_and_class: u32,
    pub payload_length: u16,
    pub next_header: u8,
    pub hop_limit: u8,
    pub source: [u32; 4],
    pub destination: [u32; 4],
}

pub const IPV6_VERSION_MASK: u32 = 0xF000_0000_u32.to_be();
pub const IPV6_VERSION: u32 = 0x6000_0000_u32.to_be();

/// The start that most extension headers share (RFC 8200 §4).
#[repr(C, packed(2))]
pub struct Extension {
    pub next_header: u8,
    pub length: u8,
}

/// RFC 8200 §4.5.
#[repr(C, packed(2))]
pub struct FragmentHeader {
    pub next_header: u8,
    pub reserved: u8,
    pub offset_and_more: u16,
    pub identification: u32,
}

pub const IPV6_OFFSET: u16 = 0xFFF8_u16.to_be();
pub const IPV6_MORE_FRAGMENTS: u16 = 1_u16.to_be();

/// RFC 9293 §3.1.
#[repr(C, packed(2))]
pub struct Tcp {
    pub source_port: u16,
    pub destination_port: u16,
    pub sequence: u32,
    pub acknowledged: u32,
    pub data_offset: u8,
    pub flags: u8,
    pub window: u16,
    pub checksum: u16,
    pub urgent: u16,
}

pub const TCP_FIN: u8 = 1;
pub const TCP_SYN: u8 = 1 << 1;
pub const TCP_RST: u8 = 1 << 2;
pub const TCP_ACK: u8 = 1 << 4;

/// RFC 768.
#[repr(C, packed(2))]
pub struct Udp {
    pub source_port: u16,
    pub destination_port: u16,
    pub length: u16,
    pub checksum: u16,
}

/// What TCP and UDP have in common, and what an ICMP error always quotes
/// (RFC 792: 64 bits of the original datagram's data).
#[repr(C, packed(2))]
pub struct Ports {
    pub source_port: u16,
    pub destination_port: u16,
}

/// RFC 792, RFC 4443.
#[repr(C, packed(2))]
pub struct Icmp {
    pub kind: u8,
    pub code: u8,
    pub checksum: u16,
    pub rest: u32,
}
