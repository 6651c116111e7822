//! What a configuration must keep to whatever it was written in.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::diagnostic::Diagnostics;
use super::model::{Config, VirtualServer, VrrpInstance};

/// Reports everything about `config` that cannot work, or that probably is not
/// meant.
pub fn validate(config: &Config, diagnostics: &mut Diagnostics) {
    vrrp_instances(config, diagnostics);
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
        if instance.virtual_ipaddress.is_empty() {
            diagnostics.warn(
                &instance.origin,
                format!("vrrp_instance {name} holds no virtual_ipaddress"),
            );
        }
        for address in &instance.virtual_ipaddress {
            if address.address.is_ipv6() {
                diagnostics.error(
                    &instance.origin,
                    format!(
                        "virtual_ipaddress {} of vrrp_instance {name} is no IPv4 address; \
                         expected an IPv4 address",
                        address.address
                    ),
                );
            }
        }
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

fn at(origin: &super::diagnostic::Origin) -> String {
    origin
        .0
        .as_ref()
        .map_or_else(String::new, |position| format!(" at {position}"))
}
