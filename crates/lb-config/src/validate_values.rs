//! The bounds of every value, block by block.

use conf_kit::{Diagnostics, Location};
use lb_model::config::{
    Check, CheckKind, Config, RealServer, StatusCodes, VirtualServer, bounds, hex,
};

use crate::bounds::Bounds;
use crate::keywords::{GLOBAL_DEFS, TRACK_FILE, VRRP_INSTANCE, VRRP_SCRIPT, VRRP_SYNC_GROUP};

/// Reports every value that is out of bounds or makes no sense.
pub fn validate(config: &Config, diagnostics: &mut Diagnostics) {
    let nowhere = Location::default();
    let mut bounds = Bounds::of("global_defs", &nowhere, diagnostics);
    GLOBAL_DEFS.check(&config.global_defs, &mut bounds);
    Bounds::of("static_ipaddress", &nowhere, diagnostics).addresses(&config.static_ipaddress);
    Bounds::of("static_routes", &nowhere, diagnostics).routes(&config.static_routes);
    for file in &config.track_file {
        let what = format!("track_file {}", file.name);
        let mut check = Bounds::of(what, &file.location, diagnostics);
        check.name(&file.name);
        TRACK_FILE.check(file, &mut check);
    }
    for script in &config.vrrp_script {
        let what = format!("vrrp_script {}", script.name);
        VRRP_SCRIPT.check(script, &mut Bounds::of(what, &script.location, diagnostics));
    }
    for group in &config.vrrp_sync_group {
        let what = format!("vrrp_sync_group {}", group.name);
        let mut check = Bounds::of(what, &group.location, diagnostics);
        check.name(&group.name);
        VRRP_SYNC_GROUP.check(group, &mut check);
    }
    for instance in &config.vrrp_instance {
        let what = format!("vrrp_instance {}", instance.name);
        let mut check = Bounds::of(what, &instance.location, diagnostics);
        check.name(&instance.name);
        VRRP_INSTANCE.check(instance, &mut check);
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
