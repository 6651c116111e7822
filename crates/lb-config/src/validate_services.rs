//! Rules for virtual and real servers.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use conf_kit::did_you_mean;

use super::references::{at, known_file};
use conf_kit::{Diagnostics, Location};
use lb_model::config::{
    ALL_PORTS, Check, CheckKind, Config, DEFAULT_PERSISTENCE_TIMEOUT_S, Discover, LbKind,
    RealServer, ServiceAddress, SynValidation, VirtualServer,
};

/// Reports everything about services that cannot work, or that probably is not
/// meant.
pub(crate) fn validate(config: &Config, diagnostics: &mut Diagnostics) {
    if config.virtual_server.is_empty() {
        diagnostics.warn(
            &Location::default(),
            "there is no `virtual_server`: nothing is balanced",
        );
    }
    one_mac_address_each(config, diagnostics);
    let mut seen = HashMap::new();
    for service in &config.virtual_server {
        known_group(service, config, diagnostics);
        let addresses = config.addresses(service);
        for address in &addresses {
            if let Some(other) = seen.insert((service.protocol, *address), service) {
                diagnostics.error(
                    &service.location,
                    format!(
                        "virtual_server {} {} is there already{}; expected each address, port \
                         and protocol once",
                        address.ip(),
                        address.port(),
                        at(&other.location),
                    ),
                );
            }
            service_address(service, *address, config, diagnostics);
        }
        if service.ops && !service.is_one_packet() {
            diagnostics.warn(
                &service.location,
                format!(
                    "virtual_server {}: `ops` is ignored: only packets of UDP are scheduled one \
                     by one",
                    service.address
                ),
            );
        }
        sloppy_while_validating(service, config, diagnostics);
        real_servers(service, &addresses, config, diagnostics);
        discovery(service, config, diagnostics);
    }
}

/// What a source says of etcd.
fn etcd(source: &Discover, of_service: &str, diagnostics: &mut Diagnostics) {
    let url = source.etcd.as_deref().unwrap_or_default();
    let is_tls = url.starts_with("https://");
    let mut error = |problem: &str| {
        let message = format!("discover {of_service}: {problem}");
        diagnostics.error(&source.location, message);
    };
    if source.etcd.is_some() && !is_tls && !url.starts_with("http://") {
        error(&format!(
            "`etcd` is {url}; expected https://HOST:PORT or http://HOST:PORT"
        ));
    }
    for (keyword, file) in [
        ("etcd_ca", &source.etcd_ca),
        ("etcd_cert", &source.etcd_cert),
        ("etcd_key", &source.etcd_key),
    ] {
        if file.is_some() && !is_tls {
            error(&format!(
                "`{keyword}` is of no use without TLS; expected `etcd https://HOST:PORT`"
            ));
        }
    }
    if source.etcd_cert.is_some() != source.etcd_key.is_some() {
        error("expected both `etcd_cert` and `etcd_key`, or neither");
    }
    if source.etcd_username.is_some() != source.etcd_password.is_some() {
        error("expected both `etcd_username` and `etcd_password`, or neither");
    }
    if source.etcd_username.is_some() && source.etcd.is_none() {
        error("`etcd_username` belongs to an `etcd`, which it does not name");
    }
    if source.etcd_password.is_some() && url.starts_with("http://") {
        let message = format!(
            "discover {of_service}: the password goes to {url} in clear; https:// hides it"
        );
        diagnostics.warn(&source.location, message);
    }
}

fn discovery(service: &VirtualServer, config: &Config, diagnostics: &mut Diagnostics) {
    let of_service = format!("of virtual_server {}", service.address);
    for source in &service.discover {
        let kinds = [&source.file, &source.dns, &source.etcd];
        let named = kinds.into_iter().flatten().count();
        if named != 1 {
            let message = format!(
                "discover {of_service} names {named} of `file`, `dns` and `etcd`; expected one"
            );
            diagnostics.error(&source.location, message);
        }
        etcd(source, &of_service, diagnostics);
    }
    let template = match &service.real_server_template {
        Some(template) if !template.checks.is_empty() || service.discover.is_empty() => template,
        template => {
            if let Some(source) = service.discover.first() {
                let message = format!(
                    "discover {of_service}: its servers always count as up; expected a \
                     `real_server_template` with a check"
                );
                diagnostics.warn(&source.location, message);
            }
            match template {
                Some(template) => template,
                None => return,
            }
        }
    };
    let what = format!("real_server_template {of_service}");
    thresholds(
        &what,
        (template.uthreshold, template.lthreshold),
        &template.location,
        diagnostics,
    );
    for check in &template.checks {
        if let CheckKind::File { track_file, .. } = &check.kind {
            known_file(track_file, &template.location, config, diagnostics);
        }
    }
}

/// Validation challenges SYNs; a sloppy service is open to other packets.
fn sloppy_while_validating(
    service: &VirtualServer,
    config: &Config,
    diagnostics: &mut Diagnostics,
) {
    let validation = config.global_defs.lb_syn_validation.unwrap_or_default();
    if validation != SynValidation::Off && service.is_sloppy() {
        diagnostics.warn(
            &service.location,
            format!(
                "virtual_server {}: `lb_syn_validation` does not keep a flood of ACKs from a \
                 service with `sloppy` (default with `lb_algo mh`); `sloppy off` does, but \
                 viewers then reconnect when another director takes over",
                service.address
            ),
        );
    }
}

/// Whoever names the MAC address of a server in several services must mean the
/// same.
fn one_mac_address_each(config: &Config, diagnostics: &mut Diagnostics) {
    let mut named: HashMap<IpAddr, &RealServer> = HashMap::new();
    let servers = config
        .virtual_server
        .iter()
        .flat_map(|service| &service.real_server);
    for server in servers.filter(|server| server.mac_address.is_some()) {
        let address = server.address.ip();
        let first = named.entry(address).or_insert(server);
        if first.mac_address != server.mac_address {
            diagnostics.error(
                &server.location,
                format!(
                    "real_server {address} has another `mac_address`{}",
                    at(&first.location)
                ),
            );
        }
    }
}

fn known_group(service: &VirtualServer, config: &Config, diagnostics: &mut Diagnostics) {
    let ServiceAddress::Group { group } = &service.address else {
        return;
    };
    let names = || {
        config
            .virtual_server_group
            .iter()
            .map(|group| group.name.as_str())
    };
    if !names().any(|name| name == group) {
        let suggestion = did_you_mean(group, names());
        diagnostics.error(
            &service.location,
            format!("there is no virtual_server_group `{group}`{suggestion}"),
        );
    }
}

fn service_address(
    service: &VirtualServer,
    address: SocketAddr,
    config: &Config,
    diagnostics: &mut Diagnostics,
) {
    let what = format!("virtual_server {} {}", address.ip(), address.port());
    if address.port() == ALL_PORTS && service.persistence_timeout.is_none() {
        diagnostics.warn(
            &service.location,
            format!(
                "{what}: a service of all ports needs persistence; as in keepalived it has \
                 `persistence_timeout {DEFAULT_PERSISTENCE_TIMEOUT_S}`"
            ),
        );
    }
    if address.ip().is_unspecified() || address.ip().is_multicast() || address.ip().is_loopback() {
        diagnostics.error(
            &service.location,
            format!("{what}: {} cannot be a virtual address", address.ip()),
        );
    }
    let held = config
        .vrrp_instance
        .iter()
        .flat_map(|instance| {
            instance
                .virtual_ipaddress
                .iter()
                .chain(&instance.virtual_ipaddress_excluded)
        })
        .any(|held| held.address == address.ip());
    if !held && !config.vrrp_instance.is_empty() {
        diagnostics.warn(
            &service.location,
            format!(
                "{what}: no vrrp_instance holds {}; it must reach this machine some other way",
                address.ip()
            ),
        );
    }
    // keepalived and the kernel have a netmask for IPv4, which may be 0.0.0.0, and a
    // prefix length for IPv6.
    let bits = if address.is_ipv4() { 0..=32 } else { 1..=128 };
    if service
        .persistence_granularity
        .is_some_and(|prefix| !bits.contains(&prefix))
    {
        let (first, last) = (bits.start(), bits.end());
        diagnostics.error(
            &service.location,
            format!(
                "{what}: `persistence_granularity` of an IPv{version} service is {first} to {last} bits",
                version = if address.is_ipv4() { 4 } else { 6 },
            ),
        );
    }
}

fn real_servers(
    service: &VirtualServer,
    addresses: &[SocketAddr],
    config: &Config,
    diagnostics: &mut Diagnostics,
) {
    let mut seen: HashMap<SocketAddr, &RealServer> = HashMap::new();
    let has_more = !service.discover.is_empty() || service.real_server_template.is_some();
    if service.real_server.is_empty() && !has_more {
        diagnostics.warn(
            &service.location,
            format!("virtual_server {} has no real_server", service.address),
        );
    }
    let quorum = service.attainable_quorum();
    if let Some(given) = service.quorum
        && given > quorum
        && !has_more
    {
        diagnostics.warn(
            &service.location,
            format!(
                "virtual_server {}: a quorum of {given} is more than all its servers weigh; \
                 it is taken for {quorum}",
                service.address
            ),
        );
    }
    for server in &service.real_server {
        let what = format!(
            "real_server {} {}",
            server.address.ip(),
            server.address.port()
        );
        if let Some(other) = seen.get(&server.address) {
            diagnostics.warn(
                &server.location,
                format!(
                    "{what} is in this virtual_server already{}; this one is ignored",
                    at(&other.location)
                ),
            );
            continue;
        }
        seen.insert(server.address, server);
        thresholds(
            &what,
            (server.uthreshold, server.lthreshold),
            &server.location,
            diagnostics,
        );
        for check in &server.checks {
            port_of_check(&what, check, server, diagnostics);
            if let CheckKind::File { track_file, .. } = &check.kind {
                known_file(track_file, &server.location, config, diagnostics);
            }
        }
        if server.checks.is_empty() {
            diagnostics.warn(
                &server.location,
                format!("{what} has no check: it always counts as up"),
            );
        }
        // One service of a group stands for all.
        if let Some(address) = addresses.first() {
            let kind = server.lb_kind.or(service.lb_kind);
            against_service(&what, server, kind, *address, diagnostics);
        }
    }
}

/// IPVS refuses to add a server of such thresholds (`ip_vs_add_dest`, ip_vs_ctl.c).
fn thresholds(
    what: &str,
    (upper, lower): (Option<u32>, Option<u32>),
    location: &Location,
    diagnostics: &mut Diagnostics,
) {
    let (upper, lower) = (upper.unwrap_or(0), lower.unwrap_or(0));
    if lower > upper {
        diagnostics.error(
            location,
            format!(
                "{what}: `lthreshold` is {lower} and `uthreshold` {upper}; expected a \
                 `uthreshold` that is no less"
            ),
        );
    }
}

fn port_of_check(what: &str, check: &Check, server: &RealServer, diagnostics: &mut Diagnostics) {
    if server.address.port() == 0
        && connects_to_servers_port(check)
        && let Some(word) = check.connecting_word()
    {
        diagnostics.error(
            &server.location,
            format!(
                "{what}: its `{word}` has no port to connect to; expected `connect_port` within \
                 it, or a port behind the server's address"
            ),
        );
    }
}

fn against_service(
    what: &str,
    server: &RealServer,
    lb_kind: Option<LbKind>,
    service: SocketAddr,
    diagnostics: &mut Diagnostics,
) {
    let is_tunnel = lb_kind == Some(LbKind::Tunnel);
    if server.address.is_ipv4() != service.is_ipv4() && !is_tunnel {
        diagnostics.error(
            &server.location,
            format!(
                "{what} and its virtual_server must both be IPv4 or both be IPv6; only a tunnel \
                 (`lb_kind TUN`) carries one in the other"
            ),
        );
    } else if server.address.ip() == service.ip() {
        diagnostics.error(
            &server.location,
            format!("{what} is the virtual address itself; expected the server's own address"),
        );
    } else if server.address.port() != service.port() && server.address.port() != 0 {
        let port = server.address.port();
        let reached = match service.port() {
            ALL_PORTS => "the port that they connect to".to_owned(),
            port => format!("port {port}"),
        };
        let its_use = match server.checks.iter().any(connects_to_servers_port) {
            true => format!("only checks connect to port {port}"),
            false => format!("nothing connects to port {port}"),
        };
        diagnostics.warn(
            &server.location,
            format!(
                "{what}: ports stay as they are, viewers reach the server at {reached}; {its_use}"
            ),
        );
    }
}

/// True if a check connects to the port that its real server is named with.
fn connects_to_servers_port(check: &Check) -> bool {
    check.connecting_word().is_some() && check.connection.connect_port.is_none()
}
