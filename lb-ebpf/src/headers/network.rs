//! The properties that the IPv4 and the IPv6 header have in common.

/// Time to live, or hop limit, of the packets that the program makes.
pub(super) const TIME_TO_LIVE: u8 = 64;

/// IPv4 or IPv6.
pub(crate) trait NetworkHeader {
    /// Ethernet type of the header.
    const ETHERTYPE: u16;

    /// IP protocol number of what follows.
    fn protocol(&self) -> u8;

    /// DSCP and ECN.
    fn class(&self) -> u8;

    /// True if routers may fragment the packet inside a tunnel.
    fn may_be_fragmented(&self) -> bool;

    /// Decrements the time to live, or hop limit.
    fn lower_hops(&mut self);
}
