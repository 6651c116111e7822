//! The bounds of every value, block by block.

use conf_kit::{Diagnostics, Location};
use lb_model::config::{Check, CheckKind, Config, bounds};

use crate::bounds::Bounds;
use crate::keywords::{
    DISCOVER, GLOBAL_DEFS, REAL_SERVER, REAL_SERVER_TEMPLATE, TCP_CHECK, TRACK_FILE, URL,
    VIRTUAL_SERVER, VRRP_INSTANCE, VRRP_SCRIPT, VRRP_SYNC_GROUP, block_of,
};

/// Reports every value that is out of bounds or makes no sense.
pub(crate) fn validate(config: &Config, diagnostics: &mut Diagnostics) {
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
        let mut check = Bounds::of(what, &service.location, diagnostics);
        VIRTUAL_SERVER.check(service, &mut check);
        for server in &service.real_server {
            let what = format!("real_server {}", server.address);
            let mut bounds = Bounds::of(what, &server.location, diagnostics);
            REAL_SERVER.check(server, &mut bounds);
            for check in &server.checks {
                real_server_check(check, &mut bounds);
            }
        }
        for source in &service.discover {
            let what = format!("discover of virtual_server {}", service.address);
            let mut bounds = Bounds::of(what, &source.location, diagnostics);
            DISCOVER.check(source, &mut bounds);
        }
        if let Some(template) = &service.real_server_template {
            let what = format!("real_server_template of virtual_server {}", service.address);
            let mut bounds = Bounds::of(what, &template.location, diagnostics);
            REAL_SERVER_TEMPLATE.check(template, &mut bounds);
            for check in &template.checks {
                real_server_check(check, &mut bounds);
            }
        }
    }
}

fn real_server_check(check: &Check, bounds: &mut Bounds<'_>) {
    let (_, keywords) = block_of(&check.kind);
    keywords.check(check, bounds);
    match &check.kind {
        CheckKind::Http { url } | CheckKind::Https { url, .. } => {
            bounds.holds(!url.is_empty(), "url", "empty", "a page at least");
            url.iter().for_each(|page| URL.check(page, bounds));
        }
        // JSON can give it what keepalived.conf cannot, without effect.
        CheckKind::File { .. } => TCP_CHECK.check(check, bounds),
        _ => {}
    }
}
