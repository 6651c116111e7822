//! What values JSON could give that no word of keepalived.conf does: its reader
//! keeps to the same [`bounds`] word by word, where it can name the line.

use std::fmt::Display;
use std::ops::RangeInclusive;

use conf_kit::{Diagnostics, Location};
use lb_model::config::hex;
use lb_model::config::{
    Check, CheckKind, CheckTiming, Config, RealServer, Recovery, Route, Script, Seconds,
    StatusCodes, Tracked, TrackedFile, VirtualIpAddress, VirtualServer, VrrpInstance, VrrpScript,
    bounds,
};

/// Reports every value that is out of bounds or makes no sense.
pub fn validate(config: &Config, diagnostics: &mut Diagnostics) {
    let nowhere = Location::default();
    global_defs(
        config,
        &mut Bounds::of("global_defs", &nowhere, diagnostics),
    );
    Bounds::of("static_ipaddress", &nowhere, diagnostics).addresses(&config.static_ipaddress);
    Bounds::of("static_routes", &nowhere, diagnostics).routes(&config.static_routes);
    for file in &config.track_file {
        let what = format!("track_file {}", file.name);
        let mut check = Bounds::of(what, &file.location, diagnostics);
        check.name(&file.name);
        check.holds(!file.file.is_empty(), "file", "empty", "a path");
        check.within("weight", file.weight, &bounds::FILE_WEIGHT);
        check.reversible("weight", file.weight, file.reverse);
    }
    for script in &config.vrrp_script {
        let what = format!("vrrp_script {}", script.name);
        vrrp_script(script, &mut Bounds::of(what, &script.location, diagnostics));
    }
    for group in &config.vrrp_sync_group {
        let what = format!("vrrp_sync_group {}", group.name);
        let mut check = Bounds::of(what, &group.location, diagnostics);
        check.name(&group.name);
        check.tracked("track_interface", &group.track_interface);
        check.tracked("track_script", &group.track_script);
        check.tracked_files(&group.track_file);
        for (word, script) in group.notify.scripts() {
            check.script(word, script);
        }
    }
    for instance in &config.vrrp_instance {
        let what = format!("vrrp_instance {}", instance.name);
        vrrp_instance(
            instance,
            &mut Bounds::of(what, &instance.location, diagnostics),
        );
    }
    for group in &config.virtual_server_group {
        let what = format!("virtual_server_group {}", group.name);
        let mut check = Bounds::of(what, &group.location, diagnostics);
        for range in &group.address {
            let count = range.count();
            let right = bounds::RANGE.contains(&count);
            let given = format!("of {count} addresses");
            check.holds(right, "address", &given, &bounds::words(&bounds::RANGE));
        }
    }
    for service in &config.virtual_server {
        let what = format!("virtual_server {}", service.address);
        virtual_server(
            service,
            &mut Bounds::of(what, &service.location, diagnostics),
        );
        for server in &service.real_server {
            let what = format!("real_server {}", server.address);
            real_server(server, &mut Bounds::of(what, &server.location, diagnostics));
        }
    }
}

fn global_defs(config: &Config, check: &mut Bounds) {
    let global = &config.global_defs;
    let timeouts = global.lvs_timeouts.unwrap_or_default();
    for (name, seconds) in [
        ("tcp", timeouts.tcp),
        ("tcpfin", timeouts.tcpfin),
        ("udp", timeouts.udp),
    ] {
        check.within(&format!("lvs_timeouts {name}"), seconds, &bounds::COUNT);
    }
    for (word, network, is_ipv4, expected) in [
        (
            "lb_tunnel_source4",
            global.lb_tunnel_source4,
            true,
            "an IPv4 network",
        ),
        (
            "lb_tunnel_source6",
            global.lb_tunnel_source6,
            false,
            "an IPv6 network",
        ),
    ] {
        if let Some(network) = network {
            let right = network.address().is_ipv4() == is_ipv4;
            check.holds(right, word, &network.to_string(), expected);
        }
    }
    if let Some(user) = &global.script_user {
        let right = (1..=2).contains(&user.len());
        check.holds(
            right,
            "script_user",
            &user.join(" "),
            "a user and perhaps a group",
        );
    }
    check.within("vrrp_version", global.vrrp_version, &bounds::VRRP_VERSION);
    for (word, repeat, range) in [
        (
            "vrrp_garp_master_repeat",
            global.vrrp_garp_master_repeat,
            bounds::GARP_REPEAT,
        ),
        (
            "vrrp_garp_lower_prio_repeat",
            global.vrrp_garp_lower_prio_repeat,
            bounds::GARP_LOWER_PRIO_REPEAT,
        ),
        (
            "vrrp_garp_master_refresh_repeat",
            global.vrrp_garp_master_refresh_repeat,
            bounds::GARP_REPEAT,
        ),
    ] {
        check.within(word, repeat, &range);
    }
}

fn vrrp_script(script: &VrrpScript, check: &mut Bounds) {
    check.script("script", Some(&script.script));
    check.positive("interval", script.interval);
    check.positive("timeout", script.timeout);
    check.within("weight", script.weight, &bounds::TRACKED_WEIGHT);
    check.reversible("script", script.weight, script.reverse);
    check.within("rise", script.rise, &bounds::COUNT);
    check.within("fall", script.fall, &bounds::COUNT);
}

fn vrrp_instance(instance: &VrrpInstance, check: &mut Bounds) {
    check.name(&instance.name);
    let vrid = Some(instance.virtual_router_id);
    check.within("virtual_router_id", vrid, &bounds::VIRTUAL_ROUTER_ID);
    check.within("version", instance.version, &bounds::VRRP_VERSION);
    check.within("priority", instance.priority, &bounds::PRIORITY);
    check.positive("advert_int", instance.advert_int);
    check.within(
        "track_quorum",
        instance.track_quorum,
        &bounds::QUORUM_WEIGHT,
    );
    check.within(
        "down_timer_adverts",
        instance.down_timer_adverts,
        &bounds::DOWN_TIMER_ADVERTS,
    );
    check.within("unicast_ttl", instance.unicast_ttl, &bounds::UNICAST_TTL);
    for (word, repeat, range) in [
        (
            "garp_master_repeat",
            instance.garp_master_repeat,
            bounds::GARP_REPEAT,
        ),
        (
            "garp_lower_prio_repeat",
            instance.garp_lower_prio_repeat,
            bounds::GARP_LOWER_PRIO_REPEAT,
        ),
        (
            "garp_master_refresh_repeat",
            instance.garp_master_refresh_repeat,
            bounds::GARP_REPEAT,
        ),
    ] {
        check.within(word, repeat, &range);
    }
    let addresses = instance
        .virtual_ipaddress
        .iter()
        .chain(&instance.virtual_ipaddress_excluded);
    check.addresses(addresses);
    check.routes(&instance.virtual_routes);
    check.tracked("track_interface", &instance.track_interface);
    check.tracked("track_script", &instance.track_script);
    check.tracked_files(&instance.track_file);
    for (word, script) in instance.notify.scripts() {
        check.script(word, script);
    }
}

fn virtual_server(service: &VirtualServer, check: &mut Bounds) {
    check.timing(&service.timing);
    let (timeout, range) = (service.persistence_timeout, bounds::PERSISTENCE_TIMEOUT_S);
    check.within("persistence_timeout", timeout, &range);
    let (bits, range) = (
        service.persistence_granularity,
        bounds::PERSISTENCE_GRANULARITY,
    );
    check.within("persistence_granularity", bits, &range);
    check.within("quorum", service.quorum, &bounds::COUNT);
    check.script("quorum_up", service.quorum_up.as_ref());
    check.script("quorum_down", service.quorum_down.as_ref());
    check.recovery(&service.recovery);
}

fn real_server(server: &RealServer, check: &mut Bounds) {
    check.timing(&server.timing);
    check.recovery(&server.recovery);
    check.within("weight", server.weight, &bounds::WEIGHT);
    check.script("notify_up", server.notify_up.as_ref());
    check.script("notify_down", server.notify_down.as_ref());
    for one in &server.checks {
        real_server_check(one, check);
    }
}

fn real_server_check(one: &Check, check: &mut Bounds) {
    check.timing(&one.timing);
    check.within("connect_port", one.connection.connect_port, &bounds::PORT);
    check.within("bind_port", one.connection.bind_port, &bounds::PORT);
    match &one.kind {
        CheckKind::Http { url } | CheckKind::Https { url, .. } => {
            check.holds(!url.is_empty(), "url", "empty", "a page at least");
            for page in url {
                if let Some(pattern) = &page.regex {
                    let right = regex::bytes::Regex::new(pattern).is_ok();
                    check.holds(right, "regex", pattern, "a regular expression");
                }
                for StatusCodes(low, high) in &page.status_code {
                    check.within("status_code", Some(*low), &bounds::STATUS_CODE);
                    check.within(
                        "status_code",
                        Some(*high),
                        &(*low..=*bounds::STATUS_CODE.end()),
                    );
                }
            }
        }
        CheckKind::Misc {
            misc_path,
            misc_timeout,
            ..
        } => {
            check.script("misc_path", Some(misc_path));
            check.positive("misc_timeout", *misc_timeout);
        }
        CheckKind::Udp {
            payload,
            require_reply,
            ..
        } => {
            let payload = payload.as_deref().unwrap_or("0");
            check.holds(hex::is_payload(payload), "payload", payload, hex::EXPECTED);
            let reply = require_reply.as_deref().unwrap_or_default();
            check.holds(
                hex::parse(reply).is_some(),
                "require_reply",
                reply,
                hex::EXPECTED,
            );
        }
        CheckKind::File {
            weight, reverse, ..
        } => {
            check.within("weight", *weight, &bounds::FILE_WEIGHT);
            check.reversible("weight", *weight, *reverse);
        }
        CheckKind::Rtmp { play_timeout, .. } => check.positive("play_timeout", *play_timeout),
        CheckKind::Dns { name, .. } => {
            let name = name.as_deref().unwrap_or(".");
            let right = simple_dns::Name::new(name.strip_suffix('.').unwrap_or(name)).is_ok();
            check.holds(right, "name", name, "a domain name");
        }
        CheckKind::Smtp { helo_name } => {
            let name = helo_name.as_deref().unwrap_or("localhost");
            let right = !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic());
            check.holds(right, "helo_name", name, "the name of a host");
        }
        CheckKind::Tcp | CheckKind::Ping => {}
    }
}

/// Checks the numbers of one block.
struct Bounds<'a> {
    what: String,
    location: &'a Location,
    diagnostics: &'a mut Diagnostics,
}

impl<'a> Bounds<'a> {
    fn of(
        what: impl Into<String>,
        location: &'a Location,
        diagnostics: &'a mut Diagnostics,
    ) -> Self {
        Self {
            what: what.into(),
            location,
            diagnostics,
        }
    }

    fn addresses<'i>(&mut self, addresses: impl IntoIterator<Item = &'i VirtualIpAddress>) {
        for address in addresses {
            let widest = if address.address.is_ipv4() { 32 } else { 128 };
            self.within("prefix", address.prefix, &(0..=widest));
            let label = address.label.as_deref().unwrap_or_default();
            let expected = format!("at most {} bytes", bounds::MAX_LABEL_BYTES);
            let fits = label.len() <= bounds::MAX_LABEL_BYTES;
            self.holds(fits, "label", label, &expected);
        }
    }

    fn routes(&mut self, routes: &[Route]) {
        for route in routes {
            let widest = if route.address.is_ipv4() { 32 } else { 128 };
            self.within("prefix", route.prefix, &(0..=widest));
            self.within("table", route.table, &bounds::ROUTING_TABLE);
            for hop in &route.nexthop {
                self.within("weight", hop.weight, &bounds::NEXT_HOP_WEIGHT);
            }
        }
    }

    fn name(&mut self, name: &str) {
        self.holds(!name.is_empty(), "name", "empty", "a name");
    }

    fn timing(&mut self, timing: &CheckTiming) {
        self.positive("delay_loop", timing.delay_loop);
        self.positive("connect_timeout", timing.connect_timeout);
    }

    fn recovery(&mut self, recovery: &Recovery) {
        self.within("flap_limit", recovery.flap_limit, &bounds::FLAP_LIMIT);
        self.positive("flap_window", recovery.flap_window);
        self.positive("flap_hold_down", recovery.flap_hold_down);
        self.positive("flap_hold_down_max", recovery.flap_hold_down_max);
    }

    fn positive(&mut self, word: &str, seconds: Option<Seconds>) {
        if let Some(seconds) = seconds {
            let given = format!("{} s", seconds.0.as_secs_f64());
            let expected = bounds::MORE_THAN_0_SECONDS;
            self.holds(bounds::is_positive(seconds), word, &given, expected);
        }
    }

    fn within<T>(&mut self, word: &str, number: Option<T>, range: &RangeInclusive<T>)
    where
        T: Display + PartialOrd,
    {
        if let Some(number) = number {
            let expected = bounds::words(range);
            self.holds(
                range.contains(&number),
                word,
                &number.to_string(),
                &expected,
            );
        }
    }

    fn tracked(&mut self, word: &str, list: &[Tracked]) {
        for tracked in list {
            let word = format!("{word} {}", tracked.name);
            self.within(&word, tracked.weight, &bounds::TRACKED_WEIGHT);
            self.reversible(&word, tracked.weight, tracked.reverse);
        }
    }

    fn tracked_files(&mut self, list: &[TrackedFile]) {
        for tracked in list {
            let word = format!("track_file {}", tracked.name);
            self.within(&word, tracked.weight, &bounds::TRACKED_FILE_WEIGHT);
            self.reversible(&word, tracked.weight, tracked.reverse);
        }
    }

    fn reversible<T>(&mut self, word: &str, weight: Option<T>, reverse: bool) {
        let right = weight.is_some() || !reverse;
        self.holds(
            right,
            word,
            "reversed without a weight",
            "`weight` beside `reverse`",
        );
    }

    fn script(&mut self, word: &str, script: Option<&Script>) {
        let Some(script) = script else { return };
        self.holds(!script.command.is_empty(), word, "empty", "a command");
        let right = script.group.is_none() || script.user.is_some();
        self.holds(
            right,
            word,
            "with a group but no user",
            "a user before the group",
        );
    }

    fn holds(&mut self, holds: bool, word: &str, given: &str, expected: &str) {
        if !holds {
            let message = format!("{}: `{word}` is {given}; expected {expected}", self.what);
            self.diagnostics.error(self.location, message);
        }
    }
}
