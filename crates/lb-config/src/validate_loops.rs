//! Servers that are directors themselves: packets to them would come back, or go
//! nowhere.

use std::net::{IpAddr, SocketAddr};

use super::references::at;
use conf_kit::{Diagnostics, Location};
use lb_model::config::{Config, VrrpInstance};

/// Warns of real servers and sorry servers that are known to be directors: this
/// one, one that it shares its virtual addresses with, or whichever holds a
/// virtual address.
pub(crate) fn validate(config: &Config, diagnostics: &mut Diagnostics) {
    for server in servers(config) {
        if let Some(reason) = reason(config, &server) {
            diagnostics.warn(server.location, reason);
        }
    }
}

/// Warns of real servers and sorry servers that are this machine, which has
/// `addresses`. Those of which [`validate`] warns are left out.
pub(crate) fn warn_of_own(config: &Config, addresses: &[IpAddr], diagnostics: &mut Diagnostics) {
    for server in servers(config) {
        if addresses.contains(&server.address) && reason(config, &server).is_none() {
            diagnostics.warn(server.location, is_this_machine(&server));
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

fn servers(config: &Config) -> impl Iterator<Item = Server<'_>> {
    config.virtual_server.iter().flat_map(|service| {
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
    })
}

fn is_this_machine(server: &Server<'_>) -> String {
    format!(
        "{} is this machine: a director cannot be its own real server, so it gets nothing and \
         counts for nothing; run the server on another machine, or in a network namespace with \
         an address of its own",
        server.what
    )
}

fn reason(config: &Config, server: &Server<'_>) -> Option<String> {
    let Server { what, address, .. } = server;
    let address = *address;
    if address.is_loopback() || address.is_unspecified() {
        return Some(is_this_machine(server));
    }
    if let Some(instance) = find(config, |instance| {
        let sources = instance.unicast_src_ip.iter().chain(&instance.mcast_src_ip);
        sources.into_iter().any(|source| *source == address)
    }) {
        let this_machine = is_this_machine(server);
        return Some(format!(
            "{this_machine} (vrrp_instance {} speaks from that address{})",
            instance.name,
            at(&instance.location)
        ));
    }
    if let Some(instance) = find(config, |instance| {
        instance
            .unicast_peer
            .iter()
            .any(|peer| peer.address == address)
    }) {
        return Some(format!(
            "{what} is another director (unicast_peer of vrrp_instance {}{}): where it balances \
             this service, too, connections go from one to the other and back; run the server on \
             a machine that is no director",
            instance.name,
            at(&instance.location)
        ));
    }
    let is_virtual = find(config, |instance| {
        let held = instance.virtual_ipaddress.iter();
        let mut held = held.chain(&instance.virtual_ipaddress_excluded);
        held.any(|held| held.address == address)
    })
    .is_some()
        || config
            .virtual_server
            .iter()
            .flat_map(|service| config.addresses(service))
            .any(|service| service.ip() == address);
    is_virtual.then(|| {
        format!(
            "{what} has a virtual address: packets go to the director that holds it, in a circle \
             or nowhere; expected the server's own address"
        )
    })
}

fn find(config: &Config, is_it: impl Fn(&VrrpInstance) -> bool) -> Option<&VrrpInstance> {
    config.vrrp_instance.iter().find(|instance| is_it(instance))
}
