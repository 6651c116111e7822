//! Sources that no client can have. IPVS never sees packets from these: the
//! kernel's routing refuses them before (`ip_route_input_slow`, `ip6_rcv_core`).

use crate::parse::Packet;

impl Packet {
    /// Whether the packet is from an address that no host sends from, or from
    /// the service's own.
    #[inline(always)]
    pub fn is_martian(&self) -> bool {
        let client = &self.client;
        if *client == self.virtual_address {
            return true;
        }
        if self.is_ipv6 {
            const MULTICAST: u8 = 0xff;
            const LOOPBACK: u32 = 1_u32.to_be();
            let [a, b, c, d] = client.0;
            let is_none_or_loopback = a | b | c == 0 && (d == 0 || d == LOOPBACK);
            return is_none_or_loopback || client.is_ipv4() || a.to_ne_bytes()[0] == MULTICAST;
        }
        const THIS_NETWORK: u8 = 0;
        const LOOPBACK: u8 = 127;
        const BROADCAST: u32 = u32::MAX;
        let word = client.ipv4_word();
        let first = word.to_ne_bytes()[0];
        matches!(first, THIS_NETWORK | LOOPBACK | 224..=239) || word == BROADCAST
    }
}
