//! `global_defs`

use super::Reader;
use super::vocabulary::GLOBAL_DEFS;
use conf_kit::Directive;
use lb_model::config::{GlobalDefs, LvsTimeouts, bounds};

impl Reader<'_> {
    pub fn global_defs(&mut self, block: &Directive, global: &mut GlobalDefs) {
        for item in self.block(block) {
            match item.keyword.as_str() {
                "default_interface" => global.default_interface = self.text(item),
                "lvs_timeouts" => global.lvs_timeouts = self.lvs_timeouts(item),
                // All that we have set up goes when we stop, in any case; there is
                // no other balancer's to spare (`VS`).
                "lvs_flush_on_stop" | "lvs_flush_onstop" => {
                    let right = match item.arguments.as_slice() {
                        [] => true,
                        [only] => only == "VS",
                        _ => false,
                    };
                    if !right {
                        self.wrong(item, "nothing or `VS`");
                    }
                }
                "lb_reset_rate" => global.lb_reset_rate = self.number(item, 0..=u32::MAX),
                "lb_tunnel_source4" => global.lb_tunnel_source4 = self.network(item),
                "lb_tunnel_source6" => global.lb_tunnel_source6 = self.network(item),
                "script_user" => {
                    global.script_user = self
                        .user(item)
                        .map(|(user, group)| [user].into_iter().chain(group).collect());
                }
                "enable_script_security" => {
                    global.enable_script_security = self.switch(item).unwrap_or_default();
                }
                "vrrp_version" => {
                    global.vrrp_version = self.number(item, bounds::VRRP_VERSION);
                }
                "vrrp_mcast_group4" => global.vrrp_mcast_group4 = self.ip_address(item),
                "vrrp_mcast_group6" => global.vrrp_mcast_group6 = self.ip_address(item),
                "vrrp_startup_delay" => global.vrrp_startup_delay = self.seconds(item),
                "vrrp_garp_master_delay" => global.vrrp_garp_master_delay = self.seconds(item),
                "vrrp_garp_master_repeat" => {
                    global.vrrp_garp_master_repeat = self.number(item, bounds::GARP_REPEAT);
                }
                "vrrp_garp_lower_prio_delay" => {
                    global.vrrp_garp_lower_prio_delay = self.seconds(item)
                }
                "vrrp_garp_lower_prio_repeat" => {
                    global.vrrp_garp_lower_prio_repeat =
                        self.number(item, bounds::GARP_LOWER_PRIO_REPEAT);
                }
                "vrrp_garp_master_refresh" => global.vrrp_garp_master_refresh = self.seconds(item),
                "vrrp_garp_master_refresh_repeat" => {
                    global.vrrp_garp_master_refresh_repeat = self.number(item, bounds::GARP_REPEAT);
                }
                "vrrp_garp_interval" => global.vrrp_garp_interval = self.seconds(item),
                "vrrp_gna_interval" => global.vrrp_gna_interval = self.seconds(item),
                "vrrp_min_garp" => global.vrrp_min_garp = self.switch(item),
                "vrrp_lower_prio_no_advert" => {
                    global.vrrp_lower_prio_no_advert = self.switch(item);
                }
                "vrrp_higher_prio_send_advert" => {
                    global.vrrp_higher_prio_send_advert = self.switch(item);
                }
                "vrrp_down_timer_adverts" => {
                    global.vrrp_down_timer_adverts = self.number(item, 1..=100);
                }
                "vrrp_check_unicast_src" => global.vrrp_check_unicast_src = self.switch(item),
                _ => self.not_served(item, &GLOBAL_DEFS),
            }
        }
    }

    /// `[tcp SECONDS] [tcpfin SECONDS] [udp SECONDS]`
    fn lvs_timeouts(&mut self, item: &Directive) -> Option<LvsTimeouts> {
        const EXPECTED: &str = "`tcp`, `tcpfin` or `udp`, each with a number of seconds from 1 on";
        let mut timeouts = LvsTimeouts::default();
        for pair in item.arguments.chunks(2) {
            let (name, seconds) = match pair {
                [name, seconds] => (name.as_str(), seconds.parse().ok().filter(|s| *s > 0)),
                _ => ("", None),
            };
            let field = match name {
                "tcp" => &mut timeouts.tcp,
                "tcpfin" => &mut timeouts.tcpfin,
                "udp" => &mut timeouts.udp,
                _ => {
                    self.wrong(item, EXPECTED);
                    return None;
                }
            };
            if seconds.is_none() {
                self.wrong(item, EXPECTED);
                return None;
            }
            *field = seconds;
        }
        Some(timeouts)
    }
}
