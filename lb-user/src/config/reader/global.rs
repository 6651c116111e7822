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
                "vrrp_garp_master_delay" => global.vrrp_garp_master_delay = self.seconds(item),
                "vrrp_garp_master_repeat" => {
                    global.vrrp_garp_master_repeat = self.number(item, 1..=100);
                }
                _ => self.not_served(item, &GLOBAL_DEFS),
            }
        }
    }
}
