//! The part of the model that is about routes.

use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds;
use super::quoted::quoted;
use conf_kit::Location;

/// One line of `static_routes` or `virtual_routes`, as `ip route add` has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Route {
    /// The network that it leads to; `0.0.0.0` with prefix 0: any.
    pub address: IpAddr,
    /// Prefix length of the network; default 32 for IPv4 and 128 for IPv6.
    #[schemars(range(max = 128))]
    pub prefix: Option<u8>,
    /// Fate of packets; default: they are sent.
    #[serde(default, rename = "type")]
    pub kind: RouteKind,
    /// The router that they are sent to.
    pub via: Option<IpAddr>,
    /// Interface that they are sent from; default: where the router is.
    pub dev: Option<String>,
    /// Source address of packets of our own.
    pub src: Option<IpAddr>,
    /// Number of the routing table; default 254, `main`.
    #[schemars(range(min = *bounds::ROUTING_TABLE.start()))]
    pub table: Option<u32>,
    /// The lower, the sooner the route is taken.
    pub metric: Option<u32>,
    /// The largest packet, in bytes.
    pub mtu: Option<u32>,
    /// Its reach; default `global` by way of a router, else `link`.
    pub scope: Option<RouteScope>,
    /// Takes the router to be on the interface's own segment.
    #[serde(default)]
    pub onlink: bool,
    /// Several routers in place of one.
    #[serde(default)]
    pub nexthop: Vec<NextHop>,
    /// If it is taken away, it stays away.
    #[serde(default)]
    pub no_track: bool,
    /// Its place.
    #[serde(skip)]
    pub location: Location,
}

impl Route {
    /// The prefix length of its network.
    pub fn prefix_length(&self) -> u8 {
        let host = if self.address.is_ipv4() { 32 } else { 128 };
        self.prefix.unwrap_or(host)
    }
}

/// As keepalived.conf(5) has it.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            address,
            prefix,
            kind,
            via,
            dev,
            src,
            table,
            metric,
            mtu,
            scope,
            onlink,
            nexthop,
            no_track,
            location: _,
        } = self;
        let mut words = Vec::new();
        if *kind != RouteKind::default() {
            words.push(word_of(&RouteKind::WORDS, kind).to_owned());
        }
        let prefix = prefix.map(|prefix| format!("/{prefix}"));
        words.push(format!("{address}{}", prefix.unwrap_or_default()));
        words.extend(via.map(|via| format!("via {via}")));
        words.extend(dev.as_ref().map(|dev| format!("dev {}", quoted(dev))));
        words.extend(src.map(|src| format!("src {src}")));
        words.extend(table.map(|table| format!("table {table}")));
        words.extend(metric.map(|metric| format!("metric {metric}")));
        words.extend(mtu.map(|mtu| format!("mtu {mtu}")));
        let scope = scope.map(|scope| word_of(&RouteScope::WORDS, &scope));
        words.extend(scope.map(|scope| format!("scope {scope}")));
        words.extend(onlink.then(|| "onlink".to_owned()));
        words.extend(no_track.then(|| "no_track".to_owned()));
        words.extend(nexthop.iter().map(NextHop::to_string));
        f.write_str(&words.join(" "))
    }
}

/// One of several routers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct NextHop {
    /// Its address.
    pub via: Option<IpAddr>,
    /// Interface that leads to it.
    pub dev: Option<String>,
    /// Its share of the traffic; default 1.
    #[schemars(range(min = *bounds::NEXT_HOP_WEIGHT.start(), max = *bounds::NEXT_HOP_WEIGHT.end()))]
    pub weight: Option<u16>,
    /// Takes it to be on the interface's own segment.
    #[serde(default)]
    pub onlink: bool,
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            via,
            dev,
            weight,
            onlink,
        } = self;
        let mut words = vec!["nexthop".to_owned()];
        words.extend(via.map(|via| format!("via {via}")));
        words.extend(dev.as_ref().map(|dev| format!("dev {}", quoted(dev))));
        words.extend(weight.map(|weight| format!("weight {weight}")));
        words.extend(onlink.then(|| "onlink".to_owned()));
        f.write_str(&words.join(" "))
    }
}

/// Fate of packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RouteKind {
    /// They are sent.
    #[default]
    Unicast,
    /// They are dropped in silence.
    Blackhole,
    /// They are dropped, and their sender is told that nobody is there.
    Unreachable,
    /// They are dropped, and their sender is told that it may not.
    Prohibit,
    /// The next rule's table is asked.
    Throw,
}

impl RouteKind {
    /// Each with its word.
    pub const WORDS: [(&str, Self); 5] = [
        ("unicast", Self::Unicast),
        ("blackhole", Self::Blackhole),
        ("unreachable", Self::Unreachable),
        ("prohibit", Self::Prohibit),
        ("throw", Self::Throw),
    ];
}

/// Reach of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RouteScope {
    /// Anywhere.
    Global,
    /// Within the site.
    Site,
    /// To neighbours.
    Link,
    /// To this machine.
    Host,
}

impl RouteScope {
    /// Each with its word.
    pub const WORDS: [(&str, Self); 4] = [
        ("global", Self::Global),
        ("site", Self::Site),
        ("link", Self::Link),
        ("host", Self::Host),
    ];
}

/// The word of a value.
fn word_of<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    let found = words.iter().find(|(_, known)| known == value);
    found.map_or("", |(word, _)| word)
}
