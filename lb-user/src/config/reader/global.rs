//! `global_defs`

use super::super::model::GlobalDefs;
use super::super::tree::Directive;
use super::Reader;
use super::vocabulary::GLOBAL_DEFS;

impl Reader<'_> {
    pub fn global_defs(&mut self, block: &Directive, global: &mut GlobalDefs) {
        for item in self.block(block) {
            match item.keyword.as_str() {
                "default_interface" => global.default_interface = self.text(item),
                "script_user" => {
                    global.script_user = self
                        .user(item)
                        .map(|(user, group)| [user].into_iter().chain(group).collect());
                }
                "vrrp_version" => {
                    global.vrrp_version = self.number(item, 2..=3);
                }
                "vrrp_mcast_group4" => global.vrrp_mcast_group4 = self.ip_address(item),
                "vrrp_mcast_group6" => global.vrrp_mcast_group6 = self.ip_address(item),
                "vrrp_startup_delay" => global.vrrp_startup_delay = self.seconds(item),
                "vrrp_garp_master_delay" => global.vrrp_garp_master_delay = self.seconds(item),
                "vrrp_garp_master_repeat" => {
                    global.vrrp_garp_master_repeat = self.number(item, 1..=100);
                }
                "vrrp_garp_lower_prio_delay" => {
                    global.vrrp_garp_lower_prio_delay = self.seconds(item)
                }
                "vrrp_garp_lower_prio_repeat" => {
                    global.vrrp_garp_lower_prio_repeat = self.number(item, 0..=100);
                }
                "vrrp_garp_master_refresh" => global.vrrp_garp_master_refresh = self.seconds(item),
                "vrrp_garp_master_refresh_repeat" => {
                    global.vrrp_garp_master_refresh_repeat = self.number(item, 1..=100);
                }
                _ => self.not_served(item, &GLOBAL_DEFS),
            }
        }
    }
}
