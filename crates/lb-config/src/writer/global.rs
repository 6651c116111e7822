//! `global_defs`

use super::Writer;
use lb_model::config::quoted;
use lb_model::config::{GlobalDefs, LvsTimeouts};

impl Writer {
    pub fn global_defs(&mut self, global: &GlobalDefs) {
        if *global == GlobalDefs::default() {
            return;
        }
        let GlobalDefs {
            default_interface,
            lvs_timeouts,
            lb_reset_rate,
            lb_tunnel_source4,
            lb_tunnel_source6,
            script_user,
            enable_script_security,
            vrrp_version,
            vrrp_mcast_group4,
            vrrp_mcast_group6,
            vrrp_startup_delay,
            vrrp_garp_master_delay,
            vrrp_garp_master_repeat,
            vrrp_garp_lower_prio_delay,
            vrrp_garp_lower_prio_repeat,
            vrrp_garp_master_refresh,
            vrrp_garp_master_refresh_repeat,
            vrrp_garp_interval,
            vrrp_gna_interval,
            vrrp_min_garp,
            vrrp_lower_prio_no_advert,
            vrrp_higher_prio_send_advert,
            vrrp_down_timer_adverts,
            vrrp_check_unicast_src,
        } = global;
        self.block("global_defs", |out| {
            out.text("default_interface", default_interface.as_ref());
            if let Some(LvsTimeouts { tcp, tcpfin, udp }) = lvs_timeouts {
                let pairs = [("tcp", tcp), ("tcpfin", tcpfin), ("udp", udp)];
                let words = pairs
                    .iter()
                    .filter_map(|(name, seconds)| Some(format!(" {name} {}", (**seconds)?)));
                out.line(format_args!("lvs_timeouts{}", words.collect::<String>()));
            }
            out.value("lb_reset_rate", *lb_reset_rate);
            out.value("lb_tunnel_source4", *lb_tunnel_source4);
            out.value("lb_tunnel_source6", *lb_tunnel_source6);
            let user = script_user.as_ref();
            out.value(
                "script_user",
                user.map(|words| {
                    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
                    words.join(" ")
                }),
            );
            out.flag("enable_script_security", *enable_script_security);
            out.value("vrrp_version", *vrrp_version);
            out.value("vrrp_mcast_group4", *vrrp_mcast_group4);
            out.value("vrrp_mcast_group6", *vrrp_mcast_group6);
            out.seconds("vrrp_startup_delay", *vrrp_startup_delay);
            out.seconds("vrrp_garp_master_delay", *vrrp_garp_master_delay);
            out.value("vrrp_garp_master_repeat", *vrrp_garp_master_repeat);
            out.seconds("vrrp_garp_lower_prio_delay", *vrrp_garp_lower_prio_delay);
            out.value("vrrp_garp_lower_prio_repeat", *vrrp_garp_lower_prio_repeat);
            out.seconds("vrrp_garp_master_refresh", *vrrp_garp_master_refresh);
            out.value(
                "vrrp_garp_master_refresh_repeat",
                *vrrp_garp_master_refresh_repeat,
            );
            out.seconds("vrrp_garp_interval", *vrrp_garp_interval);
            out.seconds("vrrp_gna_interval", *vrrp_gna_interval);
            out.switch("vrrp_min_garp", *vrrp_min_garp);
            out.switch("vrrp_lower_prio_no_advert", *vrrp_lower_prio_no_advert);
            out.switch(
                "vrrp_higher_prio_send_advert",
                *vrrp_higher_prio_send_advert,
            );
            out.value("vrrp_down_timer_adverts", *vrrp_down_timer_adverts);
            out.switch("vrrp_check_unicast_src", *vrrp_check_unicast_src);
        });
    }
}
