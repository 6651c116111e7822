//! `vrrp_instance`, `vrrp_sync_group` and `vrrp_script`

use std::net::IpAddr;

use super::Reader;
use super::vocabulary::{
    AUTHENTICATION, UNICAST_PEER, VIRTUAL_IPADDRESS, VRRP_INSTANCE, VRRP_SCRIPT, VRRP_SYNC_GROUP,
};
use conf_kit::Directive;
use lb_model::config::{
    AuthType, Authentication, InitialState, Notify, Script, UnicastPeer, VirtualIpAddress,
    VrrpInstance, VrrpScript, VrrpSyncGroup, bounds,
};

impl Reader<'_> {
    pub fn vrrp_instance(&mut self, block: &Directive) -> Option<VrrpInstance> {
        let name = self.argument(block, "a name")?.to_owned();
        let mut instance = VrrpInstance {
            name,
            location: block.location.clone(),
            ..Default::default()
        };
        let mut has_virtual_router_id = false;
        for item in self.block(block) {
            match item.keyword.as_str() {
                // Who signs adverts believes none that are not signed.
                "auth_hmac" => self.diagnostics.error(
                    &item.location,
                    "`auth_hmac` is not served: the others would believe none of our adverts",
                ),
                "state" => instance.state = self.initial_state(item),
                "interface" => instance.interface = self.text(item),
                "version" => instance.version = self.number(item, bounds::VRRP_VERSION),
                "virtual_router_id" => {
                    has_virtual_router_id = true;
                    instance.virtual_router_id = self
                        .number(item, bounds::VIRTUAL_ROUTER_ID)
                        .unwrap_or_default();
                }
                "priority" => instance.priority = self.number(item, bounds::PRIORITY),
                "advert_int" => instance.advert_int = self.positive_seconds(item),
                "down_timer_adverts" => {
                    instance.down_timer_adverts = self.number(item, bounds::DOWN_TIMER_ADVERTS)
                }
                "authentication" => instance.authentication = self.authentication(item),
                "virtual_ipaddress" => instance.virtual_ipaddress = self.virtual_addresses(item),
                "virtual_ipaddress_excluded" => {
                    instance.virtual_ipaddress_excluded = self.virtual_addresses(item);
                }
                "virtual_routes" => instance.virtual_routes = self.routes(item),
                "mcast_src_ip" => instance.mcast_src_ip = self.ip_address(item),
                "mcast_dst_ip" => instance.mcast_dst_ip = self.ip_address(item),
                "track_src_ip" => instance.track_src_ip = true,
                "check_unicast_src" => instance.check_unicast_src = self.switch(item),
                "dont_track_primary" => instance.dont_track_primary = true,
                "unicast_src_ip" => instance.unicast_src_ip = self.ip_address(item),
                "unicast_peer" => instance.unicast_peer = self.unicast_peers(item),
                "unicast_ttl" => instance.unicast_ttl = self.number(item, bounds::UNICAST_TTL),
                "nopreempt" => instance.nopreempt = true,
                "preempt" => instance.nopreempt = false,
                "preempt_delay" => instance.preempt_delay = self.seconds(item),
                "accept" => instance.accept = Some(true),
                "no_accept" => instance.accept = Some(false),
                "garp_master_delay" => instance.garp_master_delay = self.seconds(item),
                "garp_master_repeat" => {
                    instance.garp_master_repeat = self.number(item, bounds::GARP_REPEAT)
                }
                "garp_lower_prio_delay" => instance.garp_lower_prio_delay = self.seconds(item),
                "garp_lower_prio_repeat" => {
                    instance.garp_lower_prio_repeat =
                        self.number(item, bounds::GARP_LOWER_PRIO_REPEAT);
                }
                "garp_master_refresh" => instance.garp_master_refresh = self.seconds(item),
                "garp_master_refresh_repeat" => {
                    instance.garp_master_refresh_repeat = self.number(item, bounds::GARP_REPEAT);
                }
                "lower_prio_no_advert" => instance.lower_prio_no_advert = self.switch(item),
                "higher_prio_send_advert" => instance.higher_prio_send_advert = self.switch(item),
                "track_interface" => instance.track_interface = self.tracked(item),
                "track_script" => instance.track_script = self.tracked(item),
                "track_file" => instance.track_file = self.tracked_files(item),
                "track_quorum" => instance.track_quorum = self.number(item, bounds::QUORUM_WEIGHT),
                _ if self.notify(item, &mut instance.notify) => {}
                _ => self.not_served(item, &VRRP_INSTANCE),
            }
        }
        if !has_virtual_router_id {
            let name = &instance.name;
            let message = format!(
                "vrrp_instance {name} has no `virtual_router_id`; expected one from 1 to 255"
            );
            self.diagnostics.error(&block.location, message);
        }
        Some(instance)
    }

    pub fn vrrp_sync_group(&mut self, block: &Directive) -> Option<VrrpSyncGroup> {
        let name = self.argument(block, "a name")?.to_owned();
        let mut group = VrrpSyncGroup {
            name,
            location: block.location.clone(),
            ..Default::default()
        };
        for item in self.block(block) {
            match item.keyword.as_str() {
                "group" => {
                    let members = self.block(item);
                    group.group = members
                        .iter()
                        .map(|member| member.keyword.clone())
                        .collect();
                }
                "track_interface" => group.track_interface = self.tracked(item),
                "track_script" => group.track_script = self.tracked(item),
                "track_file" => group.track_file = self.tracked_files(item),
                _ if self.notify(item, &mut group.notify) => {}
                member if self.instances.iter().any(|name| name == member) => {
                    let message = format!(
                        "`{member}` stands outside `group {{ … }}` of vrrp_sync_group {}, and is \
                         ignored",
                        group.name
                    );
                    self.diagnostics.warn(&item.location, message);
                }
                _ => self.not_served(item, &VRRP_SYNC_GROUP),
            }
        }
        Some(group)
    }

    pub fn vrrp_script(&mut self, block: &Directive) -> Option<VrrpScript> {
        let mut script = VrrpScript {
            name: self.argument(block, "a name")?.to_owned(),
            script: Script::default(),
            interval: None,
            timeout: None,
            weight: None,
            reverse: false,
            rise: None,
            fall: None,
            init_fail: false,
            location: block.location.clone(),
        };
        let mut user: Option<(String, Option<String>)> = None;
        for item in self.block(block) {
            match item.keyword.as_str() {
                "script" => script.script = self.script(item)?,
                "interval" => script.interval = self.positive_seconds(item),
                "timeout" => script.timeout = self.positive_seconds(item),
                "weight" => (script.weight, script.reverse) = self.script_weight(item),
                "rise" => script.rise = self.number(item, bounds::COUNT),
                "fall" => script.fall = self.number(item, bounds::COUNT),
                "user" => user = self.user(item),
                "init_fail" => script.init_fail = true,
                _ => self.not_served(item, &VRRP_SCRIPT),
            }
        }
        if script.script.command.is_empty() {
            let name = script.name;
            let message = format!("vrrp_script {name} has no `script`, and counts for nothing");
            self.diagnostics.warn(&block.location, message);
            self.without_script.push(name);
            return None;
        }
        if let Some((user, group)) = user {
            (script.script.user, script.script.group) = (Some(user), group);
        }
        Some(script)
    }

    fn initial_state(&mut self, item: &Directive) -> InitialState {
        match self.argument(item, "MASTER or BACKUP") {
            Some("MASTER") => InitialState::Master,
            Some("BACKUP") | None => InitialState::Backup,
            Some(_) => {
                self.wrong(item, "MASTER or BACKUP");
                InitialState::Backup
            }
        }
    }

    fn authentication(&mut self, block: &Directive) -> Option<Authentication> {
        let mut auth_type = None;
        let mut auth_pass = None;
        let mut names_a_type = false;
        for item in self.block(block) {
            match item.keyword.as_str() {
                "auth_type" => {
                    names_a_type = true;
                    match self.argument(item, "PASS") {
                        Some("PASS") => auth_type = Some(AuthType::Pass),
                        Some("AH") => self.diagnostics.error(
                            &item.location,
                            "`auth_type AH` is not served (RFC 5798 withdrew it); expected PASS",
                        ),
                        Some(_) => self.wrong(item, "PASS"),
                        None => {}
                    }
                }
                "auth_pass" => auth_pass = self.text(item),
                _ => self.not_served(item, &AUTHENTICATION),
            }
        }
        if let Some(password) = &auth_pass
            && password.len() > 8
        {
            self.diagnostics.warn(
                &block.location,
                "`auth_pass` is longer than 8 bytes: only the first 8 count",
            );
        }
        match (auth_type, auth_pass) {
            (Some(auth_type), Some(auth_pass)) => Some(Authentication {
                auth_type,
                auth_pass,
            }),
            // A type that is not served has been complained of.
            (None, _) if names_a_type => None,
            _ => {
                self.diagnostics.error(
                    &block.location,
                    "`authentication` expects both `auth_type` and `auth_pass`",
                );
                None
            }
        }
    }

    pub fn virtual_addresses(&mut self, block: &Directive) -> Vec<VirtualIpAddress> {
        self.block(block)
            .iter()
            .filter_map(|item| self.virtual_address(item))
            .collect()
    }

    /// `ADDRESS[/PREFIX] [dev NAME] [label LABEL] …`
    fn virtual_address(&mut self, item: &Directive) -> Option<VirtualIpAddress> {
        let (address, prefix) = match item.keyword.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (item.keyword.as_str(), None),
        };
        let address = self.leading_address(item, address)?;
        let widest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix.map(str::parse::<u8>) {
            None => None,
            Some(Ok(prefix)) if prefix <= widest => Some(prefix),
            Some(_) => {
                let message = format!(
                    "expected a prefix length from 0 to {widest} in `{}`",
                    item.keyword
                );
                self.diagnostics.error(&item.location, message);
                return None;
            }
        };
        let mut virtual_address = VirtualIpAddress {
            address,
            prefix,
            dev: None,
            label: None,
        };
        let mut words = item.arguments.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "dev" => virtual_address.dev = words.next().cloned(),
                "label" => virtual_address.label = words.next().cloned(),
                _ => {
                    self.word_not_served(&item.location, word, &VIRTUAL_IPADDRESS);
                    if VIRTUAL_IPADDRESS.takes_value(word) {
                        words.next();
                    }
                }
            }
        }
        Some(virtual_address)
    }

    /// `ADDRESS [min_ttl N] [max_ttl N]`
    fn unicast_peers(&mut self, block: &Directive) -> Vec<UnicastPeer> {
        let mut peers = Vec::new();
        for item in self.block(block) {
            let Some(address) = self.leading_address(item, &item.keyword) else {
                continue;
            };
            let mut peer = UnicastPeer {
                address,
                min_ttl: None,
                max_ttl: None,
            };
            let mut words = item.arguments.iter();
            while let Some(word) = words.next() {
                let ttl = match word.as_str() {
                    "min_ttl" => &mut peer.min_ttl,
                    "max_ttl" => &mut peer.max_ttl,
                    _ => {
                        self.word_not_served(&item.location, word, &UNICAST_PEER);
                        continue;
                    }
                };
                *ttl = words.next().and_then(|number| number.parse().ok());
                if ttl.is_none() {
                    let message = format!("`{word}` expects a whole number from 0 to 255");
                    self.diagnostics.error(&item.location, message);
                }
            }
            peers.push(peer);
        }
        peers
    }

    fn leading_address(&mut self, item: &Directive, word: &str) -> Option<IpAddr> {
        let address = word.parse().ok();
        if address.is_none() {
            let message = format!("expected an IP address instead of `{word}`");
            self.diagnostics.error(&item.location, message);
        }
        address
    }

    /// Reads a script for a change of state; false if `item` is none.
    fn notify(&mut self, item: &Directive, notify: &mut Notify) -> bool {
        let script = match item.keyword.as_str() {
            "notify_master" => &mut notify.master,
            "notify_backup" => &mut notify.backup,
            "notify_fault" => &mut notify.fault,
            "notify_stop" => &mut notify.stop,
            "notify" => &mut notify.any,
            _ => return false,
        };
        *script = self.script(item);
        true
    }

    /// `user USER [GROUP]`
    pub fn user(&mut self, item: &Directive) -> Option<(String, Option<String>)> {
        match item.arguments.as_slice() {
            [user] => Some((user.clone(), None)),
            [user, group] => Some((user.clone(), Some(group.clone()))),
            _ => {
                self.wrong(item, "a user and perhaps a group");
                None
            }
        }
    }
}
