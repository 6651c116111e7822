//! `vrrp_instance`, `vrrp_sync_group` and `vrrp_script`

use super::Writer;
use lb_model::config::quoted;
use lb_model::config::{
    AuthType, Authentication, InitialState, UnicastPeer, VirtualIpAddress, VrrpInstance,
    VrrpScript, VrrpSyncGroup,
};

impl Writer {
    pub fn vrrp_instance(&mut self, instance: &VrrpInstance) {
        let VrrpInstance {
            name,
            state,
            interface,
            version,
            virtual_router_id,
            priority,
            advert_int,
            down_timer_adverts,
            authentication,
            virtual_ipaddress,
            virtual_ipaddress_excluded,
            virtual_routes,
            mcast_src_ip,
            mcast_dst_ip,
            track_src_ip,
            unicast_src_ip,
            unicast_peer,
            unicast_ttl,
            check_unicast_src,
            nopreempt,
            preempt_delay,
            accept,
            garp_master_delay,
            garp_master_repeat,
            garp_lower_prio_delay,
            garp_lower_prio_repeat,
            garp_master_refresh,
            garp_master_refresh_repeat,
            lower_prio_no_advert,
            higher_prio_send_advert,
            dont_track_primary,
            track_interface,
            track_script,
            track_file,
            track_quorum,
            notify,
            location: _,
        } = instance;
        self.block(format_args!("vrrp_instance {}", quoted(name)), |out| {
            out.line(match state {
                InitialState::Master => "state MASTER",
                InitialState::Backup => "state BACKUP",
            });
            out.text("interface", interface.as_ref());
            out.value("version", *version);
            out.value("virtual_router_id", Some(virtual_router_id));
            out.value("priority", *priority);
            out.seconds("advert_int", *advert_int);
            out.value("down_timer_adverts", *down_timer_adverts);
            if let Some(Authentication {
                auth_type: AuthType::Pass,
                auth_pass,
            }) = authentication
            {
                out.block("authentication", |out| {
                    out.line("auth_type PASS");
                    out.text("auth_pass", Some(auth_pass));
                });
            }
            out.block_of(
                "virtual_ipaddress",
                virtual_ipaddress,
                Self::virtual_address,
            );
            let excluded = virtual_ipaddress_excluded;
            out.block_of(
                "virtual_ipaddress_excluded",
                excluded,
                Self::virtual_address,
            );
            out.block_of("virtual_routes", virtual_routes, Self::route);
            out.value("mcast_src_ip", *mcast_src_ip);
            out.value("mcast_dst_ip", *mcast_dst_ip);
            out.flag("track_src_ip", *track_src_ip);
            out.value("unicast_src_ip", *unicast_src_ip);
            out.block_of("unicast_peer", unicast_peer, Self::unicast_peer);
            out.value("unicast_ttl", *unicast_ttl);
            out.switch("check_unicast_src", *check_unicast_src);
            out.flag("nopreempt", *nopreempt);
            out.seconds("preempt_delay", *preempt_delay);
            if let Some(accept) = accept {
                out.line(if *accept { "accept" } else { "no_accept" });
            }
            out.seconds("garp_master_delay", *garp_master_delay);
            out.value("garp_master_repeat", *garp_master_repeat);
            out.seconds("garp_lower_prio_delay", *garp_lower_prio_delay);
            out.value("garp_lower_prio_repeat", *garp_lower_prio_repeat);
            out.seconds("garp_master_refresh", *garp_master_refresh);
            out.value("garp_master_refresh_repeat", *garp_master_refresh_repeat);
            out.switch("lower_prio_no_advert", *lower_prio_no_advert);
            out.switch("higher_prio_send_advert", *higher_prio_send_advert);
            out.flag("dont_track_primary", *dont_track_primary);
            out.block_of("track_interface", track_interface, Self::tracked);
            out.block_of("track_script", track_script, Self::tracked);
            out.block_of("track_file", track_file, Self::tracked_file);
            out.value("track_quorum", *track_quorum);
            for (word, script) in notify.scripts() {
                out.script(word, script);
            }
        });
    }

    pub fn vrrp_sync_group(&mut self, group: &VrrpSyncGroup) {
        let VrrpSyncGroup {
            name,
            group: members,
            track_interface,
            track_script,
            track_file,
            notify,
            location: _,
        } = group;
        self.block(format_args!("vrrp_sync_group {}", quoted(name)), |out| {
            out.block_of("group", members, |out, member| out.line(quoted(member)));
            out.block_of("track_interface", track_interface, Self::tracked);
            out.block_of("track_script", track_script, Self::tracked);
            out.block_of("track_file", track_file, Self::tracked_file);
            for (word, script) in notify.scripts() {
                out.script(word, script);
            }
        });
    }

    pub fn vrrp_script(&mut self, script: &VrrpScript) {
        let VrrpScript {
            name,
            script,
            interval,
            timeout,
            weight,
            reverse,
            rise,
            fall,
            init_fail,
            location: _,
        } = script;
        self.block(format_args!("vrrp_script {}", quoted(name)), |out| {
            out.script("script", Some(script));
            out.seconds("interval", *interval);
            out.seconds("timeout", *timeout);
            out.weight(*weight, *reverse);
            out.value("rise", *rise);
            out.value("fall", *fall);
            out.flag("init_fail", *init_fail);
        });
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

    fn unicast_peer(&mut self, peer: &UnicastPeer) {
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
