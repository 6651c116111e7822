//! `vrrp_instance`, `vrrp_sync_group` and `vrrp_script`

use lb_model::config::{
    UnicastPeer, VirtualIpAddress, VrrpInstance, VrrpScript, VrrpSyncGroup, quoted,
};

use super::Writer;
use crate::keywords::{VRRP_INSTANCE, VRRP_SCRIPT, VRRP_SYNC_GROUP};

impl Writer {
    pub fn vrrp_instance(&mut self, instance: &VrrpInstance) {
        let head = format!("vrrp_instance {}", quoted(&instance.name));
        self.block(head, |out| VRRP_INSTANCE.write(instance, out));
    }

    pub fn vrrp_sync_group(&mut self, group: &VrrpSyncGroup) {
        let head = format!("vrrp_sync_group {}", quoted(&group.name));
        self.block(head, |out| VRRP_SYNC_GROUP.write(group, out));
    }

    pub fn vrrp_script(&mut self, script: &VrrpScript) {
        let head = format!("vrrp_script {}", quoted(&script.name));
        self.block(head, |out| VRRP_SCRIPT.write(script, out));
    }

    pub fn virtual_address(&mut self, address: &VirtualIpAddress) {
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

    pub fn unicast_peer(&mut self, peer: &UnicastPeer) {
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
