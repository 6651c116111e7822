//! Servers that are directors themselves: this machine, one that it shares virtual addresses
//! with, or whichever holds a virtual address.

use std::net::{IpAddr, SocketAddr};

use super::references::at;
use conf_kit::{Diagnostics, Location};
use lb_model::config::{Config, VirtualServer, VrrpInstance};

/// Warns of real servers and sorry servers that have a virtual address.
pub(crate) fn validate(config: &Config, diagnostics: &mut Diagnostics) {
    for server in config
        .virtual_server
        .iter()
        .flat_map(|service| servers(config, service))
    {
        let Server { what, address, .. } = &server;
        if is_virtual(config, *address) {
            diagnostics.warn(
                server.location,
                format!(
                    "{what} has a virtual address: packets go to the director that holds it, in \
                     a circle or nowhere; expected the server's own address"
                ),
            );
        }
    }
}

/// Warns of what a machine with `addresses` lacks to share a service with its directors: the
/// virtual address, where it is a real server, and a place among the real servers, where
/// another director is one.
pub(crate) fn warn_of_directors(
    config: &Config,
    addresses: &[IpAddr],
    diagnostics: &mut Diagnostics,
) {
    let is_own = |address: IpAddr| address.is_loopback() || addresses.contains(&address);
    for service in &config.virtual_server {
        let (own, others): (Vec<_>, Vec<_>) =
            servers(config, service).partition(|server| is_own(server.address));
        let mut held = config.addresses(service).into_iter().map(|it| it.ip());
        let missing = held.find(|address| !addresses.contains(address));
        if let (Some(server), Some(missing)) = (own.first(), missing) {
            diagnostics.warn(
                server.location,
                format!(
                    "{} is this machine, which accepts connections to {missing} only while it has \
                     that address itself: put it on lo, as `millrace-realserver start {missing} \
                     --persist` does",
                    server.what
                ),
            );
        }
        if !own.is_empty() {
            continue;
        }
        for server in others {
            if let Some(instance) = instance_of_peer(config, server.address) {
                diagnostics.warn(
                    server.location,
                    format!(
                        "{} is another director (unicast_peer of vrrp_instance {}{}), which takes \
                         frames from here for a client's unless this machine is a real server of \
                         the service, too: name this machine's address as a real_server, or run \
                         the server on a machine that is no director",
                        server.what,
                        instance.name,
                        at(&instance.location)
                    ),
                );
            }
        }
    }
}

/// A real server or sorry server.
struct Server<'a> {
    /// As the file names it.
    what: String,
    address: IpAddr,
    location: &'a Location,
}

fn servers<'a>(config: &Config, service: &'a VirtualServer) -> impl Iterator<Item = Server<'a>> {
    let named = |word, address: SocketAddr, location| Server {
        what: format!("{word} {} {}", address.ip(), address.port()),
        address: address.ip(),
        location,
    };
    // One at the service's own address is refused, not warned of.
    let own = config.addresses(service).first().map(SocketAddr::ip);
    let real = service.real_server.iter();
    let real = real.filter(move |server| Some(server.address.ip()) != own);
    let real = real.map(move |server| named("real_server", server.address, &server.location));
    let sorry = service.sorry_server;
    real.chain(sorry.map(|address| named("sorry_server", address, &service.location)))
}

fn is_virtual(config: &Config, address: IpAddr) -> bool {
    let is_held = config.vrrp_instance.iter().any(|instance| {
        let held = instance.virtual_ipaddress.iter();
        let mut held = held.chain(&instance.virtual_ipaddress_excluded);
        held.any(|held| held.address == address)
    });
    let mut services = config.virtual_server.iter();
    is_held
        || services.any(|service| {
            config
                .addresses(service)
                .iter()
                .any(|it| it.ip() == address)
        })
}

fn instance_of_peer(config: &Config, address: IpAddr) -> Option<&VrrpInstance> {
    let mut instances = config.vrrp_instance.iter();
    instances.find(|instance| {
        let mut peers = instance.unicast_peer.iter();
        peers.any(|peer| peer.address == address)
    })
}
