//! What a configuration must keep to whatever it was written in.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::diagnostic::{Diagnostics, Origin, did_you_mean};
use super::model::{Config, Tracked, VirtualServer, VrrpInstance};

/// Reports everything about `config` that cannot work, or that probably is not
/// meant.
pub fn validate(config: &Config, diagnostics: &mut Diagnostics) {
    vrrp_instances(config, diagnostics);
    sync_groups(config, diagnostics);
    services(config, diagnostics);
    for service in &config.virtual_server {
        service_address(service, config, diagnostics);
        real_servers(service, diagnostics);
    }
}

fn vrrp_instances(config: &Config, diagnostics: &mut Diagnostics) {
    let mut routers: HashMap<(&str, u8), &VrrpInstance> = HashMap::new();
    for instance in &config.vrrp_instance {
        let name = &instance.name;
        let Some(interface) = instance
            .interface
            .as_deref()
            .or(config.global_defs.default_interface.as_deref())
        else {
            diagnostics.error(
                &instance.origin,
                format!("vrrp_instance {name} has no `interface`, and `global_defs` no `default_interface`"),
            );
            continue;
        };
        if let Some(other) = routers.insert((interface, instance.virtual_router_id), instance) {
            diagnostics.error(
                &instance.origin,
                format!(
                    "vrrp_instance {name} has virtual_router_id {} on {interface}, which \
                     vrrp_instance {} has{}",
                    instance.virtual_router_id,
                    other.name,
                    at(&other.origin),
                ),
            );
        }
        for tracked in &instance.track_script {
            known_script(tracked, &instance.origin, config, diagnostics);
        }
        if instance.virtual_ipaddress.is_empty() {
            diagnostics.warn(
                &instance.origin,
                format!("vrrp_instance {name} holds no virtual_ipaddress"),
            );
        }
    }
}

fn sync_groups(config: &Config, diagnostics: &mut Diagnostics) {
    let names = || {
        config
            .vrrp_instance
            .iter()
            .map(|instance| instance.name.as_str())
    };
    let mut member_of: HashMap<&str, &str> = HashMap::new();
    for group in &config.vrrp_sync_group {
        let name = &group.name;
        for member in &group.group {
            if !names().any(|instance| instance == member) {
                let suggestion = did_you_mean(member, names());
                diagnostics.error(
                    &group.origin,
                    format!(
                        "vrrp_sync_group {name} names vrrp_instance `{member}`, which does not \
                         exist{suggestion}"
                    ),
                );
            } else if let Some(other) = member_of.insert(member, name) {
                diagnostics.error(
                    &group.origin,
                    format!("vrrp_instance {member} is in vrrp_sync_group {other} and in {name}"),
                );
            }
        }
        for tracked in &group.track_script {
            known_script(tracked, &group.origin, config, diagnostics);
        }
    }
}

fn known_script(
    tracked: &Tracked,
    origin: &Origin,
    config: &Config,
    diagnostics: &mut Diagnostics,
) {
    let names = || config.vrrp_script.iter().map(|script| script.name.as_str());
    if !names().any(|script| script == tracked.name) {
        let suggestion = did_you_mean(&tracked.name, names());
        diagnostics.error(
            origin,
            format!(
                "`track_script` names `{}`, which is no vrrp_script{suggestion}",
                tracked.name
            ),
        );
    }
}

fn services(config: &Config, diagnostics: &mut Diagnostics) {
    if config.virtual_server.is_empty() {
        diagnostics.warn(
            &Default::default(),
            "there is no `virtual_server`: nothing is balanced",
        );
    }
    let mut seen = HashMap::new();
    for service in &config.virtual_server {
        if let Some(other) = seen.insert((service.protocol, service.address), service) {
            diagnostics.error(
                &service.origin,
                format!(
                    "virtual_server {} {} is there already{}; expected each address, port and \
                     protocol once",
                    service.address.ip(),
                    service.address.port(),
                    at(&other.origin),
                ),
            );
        }
    }
}

fn service_address(service: &VirtualServer, config: &Config, diagnostics: &mut Diagnostics) {
    let address = service.address;
    let what = format!("virtual_server {} {}", address.ip(), address.port());
    if address.is_ipv6() {
        diagnostics.error(
            &service.origin,
            format!("{what} is no IPv4 service; expected an IPv4 address"),
        );
        return;
    }
    if address.port() == 0 {
        diagnostics.error(
            &service.origin,
            format!("{what}: port 0 is no port; expected 1 to 65535"),
        );
    }
    if address.ip().is_unspecified() || address.ip().is_multicast() || address.ip().is_loopback() {
        diagnostics.error(
            &service.origin,
            format!("{what}: {} cannot be a virtual address", address.ip()),
        );
    }
    let held = config
        .vrrp_instance
        .iter()
        .flat_map(|instance| &instance.virtual_ipaddress)
        .any(|held| held.address == address.ip());
    if !held && !config.vrrp_instance.is_empty() {
        diagnostics.warn(
            &service.origin,
            format!(
                "{what}: no vrrp_instance holds {}; it must reach this machine some other way",
                address.ip()
            ),
        );
    }
    if service
        .persistence_granularity
        .is_some_and(|prefix| prefix > 32)
    {
        diagnostics.error(
            &service.origin,
            format!("{what}: `persistence_granularity` of an IPv4 service is at most 32 bits"),
        );
    }
}

fn real_servers(service: &VirtualServer, diagnostics: &mut Diagnostics) {
    let mut seen = HashMap::new();
    if service.real_server.is_empty() {
        diagnostics.warn(
            &service.origin,
            format!(
                "virtual_server {} {} has no real_server",
                service.address.ip(),
                service.address.port()
            ),
        );
    }
    for server in &service.real_server {
        let what = format!(
            "real_server {} {}",
            server.address.ip(),
            server.address.port()
        );
        if let Some(other) = seen.insert(server.address, server) {
            diagnostics.error(
                &server.origin,
                format!(
                    "{what} is in this virtual_server already{}",
                    at(&other.origin)
                ),
            );
        }
        if server.address.port() == 0 {
            diagnostics.error(
                &server.origin,
                format!("{what}: port 0 is no port; expected 1 to 65535"),
            );
        }
        if server.address.is_ipv4() != service.address.is_ipv4() {
            diagnostics.error(
                &server.origin,
                format!("{what} and its virtual_server must both be IPv4 or both be IPv6"),
            );
        }
        if server.address.ip() == service.address.ip() {
            diagnostics.error(
                &server.origin,
                format!("{what} is the virtual address itself; expected the server's own address"),
            );
        } else if server.address.port() != service.address.port() {
            diagnostics.warn(
                &server.origin,
                other_port(&what, server.address, service.address),
            );
        }
        if server.checks.is_empty() {
            diagnostics.warn(
                &server.origin,
                format!("{what} has no check: it always counts as up"),
            );
        }
    }
}

fn other_port(what: &str, server: SocketAddr, service: SocketAddr) -> String {
    format!(
        "{what}: direct routing leaves ports alone, viewers reach the server at port {}; only \
         checks connect to port {}",
        service.port(),
        server.port()
    )
}

fn at(origin: &Origin) -> String {
    origin
        .0
        .as_ref()
        .map_or_else(String::new, |position| format!(" at {position}"))
}
