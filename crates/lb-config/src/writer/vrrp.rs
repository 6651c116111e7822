//! Lines of virtual routers.

use lb_model::config::{UnicastPeer, VirtualIpAddress, quoted};

use super::Writer;

impl Writer {
    pub(crate) fn virtual_address(&mut self, address: &VirtualIpAddress) {
        let VirtualIpAddress {
            address,
            prefix,
            dev,
            label,
        } = address;
        let prefix = prefix.map(|prefix| format!("/{prefix}"));
        let dev = dev.as_ref().map(|dev| format!(" dev {}", quoted(dev)));
        let label = label
            .as_ref()
            .map(|label| format!(" label {}", quoted(label)));
        let words = [prefix, dev, label].map(Option::unwrap_or_default);
        self.line(format_args!("{address}{}", words.concat()));
    }

    pub(crate) fn unicast_peer(&mut self, peer: &UnicastPeer) {
        let UnicastPeer {
            address,
            min_ttl,
            max_ttl,
        } = peer;
        let min = min_ttl.map(|ttl| format!(" min_ttl {ttl}"));
        let max = max_ttl.map(|ttl| format!(" max_ttl {ttl}"));
        let words = [min, max].map(Option::unwrap_or_default);
        self.line(format_args!("{address}{}", words.concat()));
    }
}
