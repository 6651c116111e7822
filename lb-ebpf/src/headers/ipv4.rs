//! The IPv4 header.

use super::checksum::checksum;
use super::network::{NetworkHeader, TIME_TO_LIVE};

pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();

/// RFC 791 §3.1.
#[repr(C, packed(2))]
pub(crate) struct Ipv4 {
    pub(crate) version_and_length: u8,
    pub(crate) service: u8,
    pub(crate) total_length: u16,
    pub(crate) identification: u16,
    pub(crate) flags_and_offset: u16,
    pub(crate) time_to_live: u8,
    pub(crate) protocol: u8,
    pub(crate) checksum: u16,
    pub(crate) source: u32,
    pub(crate) destination: u32,
}

pub(crate) const IPV4_MORE_FRAGMENTS: u16 = 0x2000_u16.to_be();
const IPV4_DO_NOT_FRAGMENT: u16 = 0x4000_u16.to_be();
pub(crate) const IPV4_OFFSET: u16 = 0x1FFF_u16.to_be();

impl Ipv4 {
    /// Version 4, and a length of five words.
    const WITHOUT_OPTIONS: u8 = 0x45;

    /// True if neither options nor a fragment's offset stand between the header and
    /// that of a transport protocol.
    #[inline(always)]
    pub(crate) fn is_whole_without_options(&self) -> bool {
        self.version_and_length == Self::WITHOUT_OPTIONS
            && self.flags_and_offset & (IPV4_MORE_FRAGMENTS | IPV4_OFFSET) == 0
    }

    /// Fills a header without options, of a packet that must not be fragmented. The
    /// checksum is left to [`Self::seal`].
    #[inline(always)]
    pub(crate) fn fill(&mut self, total_length: u16, protocol: u8, source: u32, destination: u32) {
        self.version_and_length = Self::WITHOUT_OPTIONS;
        self.service = 0;
        self.total_length = total_length.to_be();
        // RFC 6864 §4.1: a packet that is never fragmented needs none.
        self.identification = 0;
        self.flags_and_offset = IPV4_DO_NOT_FRAGMENT;
        self.time_to_live = TIME_TO_LIVE;
        self.protocol = protocol;
        self.source = source;
        self.destination = destination;
    }

    /// Lets routers fragment the packet; `identification` tells its fragments from
    /// others (RFC 6864 §4.3).
    #[inline(always)]
    pub(crate) fn allow_fragments(&mut self, identification: u16) {
        self.flags_and_offset = 0;
        self.identification = identification;
    }

    /// Sets the checksum of a header without options.
    #[inline(always)]
    pub(crate) fn seal(&mut self) {
        let bytes = [
            [self.version_and_length, self.service],
            [self.time_to_live, self.protocol],
        ];
        self.checksum = checksum(
            u64::from(u16::from_ne_bytes(bytes[0]))
                + u64::from(self.total_length)
                + u64::from(self.identification)
                + u64::from(self.flags_and_offset)
                + u64::from(u16::from_ne_bytes(bytes[1]))
                + u64::from(self.source)
                + u64::from(self.destination),
        );
    }
}

impl NetworkHeader for Ipv4 {
    const ETHERTYPE: u16 = ETHERTYPE_IPV4;

    #[inline(always)]
    fn protocol(&self) -> u8 {
        self.protocol
    }

    #[inline(always)]
    fn class(&self) -> u8 {
        self.service
    }

    #[inline(always)]
    fn may_be_fragmented(&self) -> bool {
        self.flags_and_offset & IPV4_DO_NOT_FRAGMENT == 0
    }

    #[inline(always)]
    fn lower_hops(&mut self) {
        // The checksum is updated rather than computed anew (RFC 1624): the word of
        // time to live and protocol has one less in its upper byte.
        const ONE_HOP: u32 = 0x0100_u16.to_be() as u32;
        let sum = u32::from(self.checksum) + ONE_HOP;
        self.checksum = (sum + u32::from(sum >= 0xFFFF)) as u16;
        self.time_to_live = self.time_to_live.wrapping_sub(1);
    }
}
