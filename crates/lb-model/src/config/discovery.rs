//! Real servers that are not in the file, but found while the agent runs.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Check, CheckTiming, LbKind, RealServer, Recovery, Script, VirtualServer};
use conf_kit::Location;

/// `max_servers`
pub const MAX_SERVERS: RangeInclusive<u32> = 1..=4096;

/// `max_servers` where the file names none.
const DEFAULT_MAX_SERVERS: u32 = 256;

/// `discover`: a source of real servers; it names one of `file`, `dns` and `etcd`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Discover {
    /// File of servers: a line for each, or JSON. It is read again when it changes.
    pub file: Option<String>,
    /// Name whose records are the servers: SRV records if it begins with `_`, else A and
    /// AAAA records. They are asked for again when their time to live has passed.
    pub dns: Option<String>,
    /// Name server; default those of `/etc/resolv.conf`.
    pub dns_server: Option<SocketAddr>,
    /// Address of an etcd server (version 3), such as `https://etcd.example.org:2379`.
    pub etcd: Option<String>,
    /// File of the authorities (PEM) whose certificates etcd may have; default this
    /// machine's.
    pub etcd_ca: Option<String>,
    /// File of the certificate (PEM), with those between it and its authority, that etcd is
    /// shown.
    pub etcd_cert: Option<String>,
    /// File of its private key (PEM).
    pub etcd_key: Option<String>,
    /// User of etcd, where it asks for one.
    pub etcd_username: Option<String>,
    /// The user's password.
    pub etcd_password: Option<String>,
    /// Beginning of the keys in etcd whose values are servers; default `/millrace/`.
    pub prefix: Option<String>,
    /// Servers that are taken at most; a source that has more is refused. Default 256.
    pub max_servers: Option<u32>,
    /// Place of the block.
    #[serde(skip)]
    pub location: Location,
}

impl Discover {
    /// Servers that are taken at most.
    pub fn max_servers(&self) -> u32 {
        self.max_servers.unwrap_or(DEFAULT_MAX_SERVERS)
    }
}

/// `real_server_template`: what each server is like that is discovered, or added by an order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RealServerTemplate {
    /// Share of new connections, where the source names none; default 1.
    pub weight: Option<u32>,
    /// Connections with which it is given no new ones; 0, the default, for no limit.
    pub uthreshold: Option<u32>,
    /// Connections below which it is given new ones again; 0, the default, for three
    /// quarters of `uthreshold`.
    pub lthreshold: Option<u32>,
    /// Forwarding method; default the service's.
    pub lb_kind: Option<LbKind>,
    /// Host that HTTP and RTMP checks ask for.
    pub virtualhost: Option<String>,
    /// Keep it at weight 0 when it fails rather than taking it out.
    pub inhibit_on_failure: Option<bool>,
    /// Run when it comes up.
    pub notify_up: Option<Script>,
    /// Run when it goes down.
    pub notify_down: Option<Script>,
    /// Defaults for its checks.
    #[serde(flatten)]
    pub timing: CheckTiming,
    /// Its return when it has been down; default as its service's.
    #[serde(flatten)]
    pub recovery: Recovery,
    /// Its checks; it is up while all of them succeed.
    pub checks: Vec<Check>,
    /// Place of the block.
    #[serde(skip)]
    pub location: Location,
}

impl RealServerTemplate {
    /// The server at `address`.
    pub fn server(&self, address: SocketAddr, weight: Option<u32>) -> RealServer {
        let Self {
            weight: default_weight,
            uthreshold,
            lthreshold,
            lb_kind,
            virtualhost,
            inhibit_on_failure,
            notify_up,
            notify_down,
            timing,
            recovery,
            checks,
            location,
        } = self.clone();
        RealServer {
            address,
            mac_address: None,
            weight: weight.or(default_weight),
            uthreshold,
            lthreshold,
            lb_kind,
            virtualhost,
            inhibit_on_failure,
            notify_up,
            notify_down,
            timing,
            recovery,
            checks,
            location,
        }
    }
}

/// A server that a source names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DiscoveredServer {
    /// Its address.
    pub address: IpAddr,
    /// Its port; `None`: its service's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Its share of new connections; `None`: the template's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

impl VirtualServer {
    /// Servers that may be discovered, or added by orders, at most.
    pub fn max_discovered(&self) -> u32 {
        let of_sources = self.discover.iter().map(Discover::max_servers);
        let of_orders = self.real_server_template.as_ref().map(|_| MAX_ADDED);
        of_sources.chain(of_orders).sum()
    }

    /// Appends `found` to the real servers, but for those of the other family than the
    /// service's `addresses`, where no tunnel carries one in the other: a name may have
    /// addresses of both. The port of one without is that of all `addresses`.
    pub fn add_discovered<'a>(
        &mut self,
        addresses: &[SocketAddr],
        found: impl IntoIterator<Item = &'a DiscoveredServer>,
    ) {
        let default_port = common(addresses, SocketAddr::port).unwrap_or(0);
        let template = self.real_server_template.clone().unwrap_or_default();
        let is_tunnel = template.lb_kind.or(self.lb_kind) == Some(LbKind::Tunnel);
        let family = common(addresses, SocketAddr::is_ipv4).filter(|_| !is_tunnel);
        let found = found.into_iter();
        let found = found.filter(|it| family.is_none_or(|is_v4| is_v4 == it.address.is_ipv4()));
        let servers = found.map(|found| {
            let port = found.port.unwrap_or(default_port);
            template.server(SocketAddr::new(found.address, port), found.weight)
        });
        self.real_server.extend(servers);
    }
}

/// What all of `addresses` have in common; `None` if they differ.
fn common<T: PartialEq>(addresses: &[SocketAddr], of: impl Fn(&SocketAddr) -> T) -> Option<T> {
    let first = of(addresses.first()?);
    addresses
        .iter()
        .all(|address| of(address) == first)
        .then_some(first)
}

/// Servers that orders may add to a service.
pub const MAX_ADDED: u32 = 64;
