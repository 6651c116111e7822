//! `static_routes` and `virtual_routes`

use std::fs;
use std::iter::Peekable;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::slice::Iter;
use std::str::FromStr;

use conf_kit::did_you_mean;

use super::Reader;
use crate::vocabulary::Vocabulary;
use crate::vocabulary::{ESSENTIAL, ROUTE};
use conf_kit::Directive;
use lb_model::config::{NextHop, Route, RouteKind, RouteScope, bounds};

/// Numbers of tables by their names, besides those of the kernel.
const TABLES: [&str; 2] = ["/etc/iproute2/rt_tables", "/usr/share/iproute2/rt_tables"];

/// The words of a route that are still to be read.
type Words<'a> = Peekable<Iter<'a, String>>;

/// Expectation that a route does not meet.
struct Expected(String);

impl From<&str> for Expected {
    fn from(expected: &str) -> Self {
        Self(expected.to_owned())
    }
}

impl Reader<'_> {
    /// Routes, one a line.
    pub(crate) fn routes(&mut self, block: &Directive) -> Vec<Route> {
        let lines = self.block(block).iter();
        lines.filter_map(|line| self.route(line)).collect()
    }

    fn route(&mut self, line: &Directive) -> Option<Route> {
        let all: Vec<String> = [&line.keyword]
            .into_iter()
            .chain(&line.arguments)
            .cloned()
            .collect();
        let route = self.words_of_route(line, &all);
        match route {
            Ok(route) => Some(route),
            Err(Expected(expected)) => {
                let message = format!("the route `{}`: expected {expected}", all.join(" "));
                self.diagnostics.error(&line.location, message);
                None
            }
        }
    }

    fn words_of_route(&mut self, line: &Directive, all: &[String]) -> Result<Route, Expected> {
        let mut words = all.iter().peekable();
        let mut to = None;
        let mut is_ipv6 = None;
        let mut route = Route {
            address: Ipv4Addr::UNSPECIFIED.into(),
            prefix: None,
            kind: RouteKind::default(),
            via: None,
            dev: None,
            src: None,
            table: None,
            metric: None,
            mtu: None,
            scope: None,
            onlink: false,
            nexthop: Vec::new(),
            no_track: false,
            location: line.location.clone(),
        };
        while let Some(word) = words.next() {
            let kind = RouteKind::WORDS.iter().find(|(known, _)| known == word);
            match word.as_str() {
                _ if kind.is_some() => route.kind = kind.map_or(route.kind, |(_, kind)| *kind),
                "inet" | "inet6" => is_ipv6 = Some(word == "inet6"),
                "to" => to = Some(destination(words.next())?),
                "via" | "gw" => route.via = Some(router(&mut words)?),
                "or" => {
                    let via = Some(router(&mut words)?);
                    route.nexthop.push(NextHop {
                        via,
                        ..NextHop::default()
                    });
                }
                "dev" | "oif" => route.dev = Some(named(&mut words, "an interface")?),
                "src" => route.src = Some(value(&mut words, "an IP address after `src`")?),
                "table" => route.table = Some(table(words.next())?),
                "metric" | "priority" | "preference" => {
                    route.metric = Some(value(&mut words, "a number after `metric`")?);
                }
                "mtu" => {
                    words.next_if(|word| *word == "lock");
                    route.mtu = Some(value(&mut words, "a number of bytes after `mtu`")?);
                }
                "scope" => route.scope = Some(scope(words.next())?),
                "onlink" => route.onlink = true,
                "no_track" => route.no_track = true,
                // The kernel is asked in one way, which is keepalived's own: a
                // route goes before those that are like it.
                "add" | "append" | "prepend" => {}
                "nexthop" => {
                    route.nexthop.push(next_hop(&mut words)?);
                }
                essential if ESSENTIAL.contains(&essential) => {
                    return Err(Expected(format!(
                        "no `{essential}`, which Millrace does not serve and without which this \
                         would be another route; set it with `ip route` before the start"
                    )));
                }
                _ if ROUTE.reason_not_served(word).is_some() => {
                    self.word_not_served(&line.location, word, &ROUTE);
                    // Each has a value; `lock` stands before some.
                    words.next_if(|word| *word == "lock");
                    words.next();
                }
                _ if to.is_none() => to = Some(destination(Some(word))?),
                "weight" => {
                    return Err(Expected(
                        "`weight` behind the `nexthop` that it belongs to: `nexthop via ADDRESS \
                         weight N`"
                            .to_owned(),
                    ));
                }
                _ => {
                    let suggestion = did_you_mean(word, ROUTE.words());
                    return Err(Expected(format!(
                        "words of a route, not `{word}`{suggestion}"
                    )));
                }
            }
        }
        // `via A or B` names two routers on one interface.
        if route.nexthop.iter().any(|hop| hop.dev.is_none()) && route.via.is_some() {
            let first = NextHop {
                via: route.via.take(),
                ..NextHop::default()
            };
            route.nexthop.insert(0, first);
            let dev = route.dev.take();
            for hop in &mut route.nexthop {
                hop.dev = hop.dev.take().or_else(|| dev.clone());
                hop.onlink |= route.onlink;
            }
        }
        let to = to.ok_or("the network that it leads to")?;
        let is_ipv6 = is_ipv6.unwrap_or_else(|| {
            let hops = route.nexthop.iter().filter_map(|hop| hop.via);
            let mut addresses = route.via.into_iter().chain(route.src).chain(hops);
            addresses.any(|address| address.is_ipv6())
        });
        (route.address, route.prefix) = to.of_family(is_ipv6);
        Ok(route)
    }
}

/// Destination of a route.
enum Destination {
    Network(IpAddr, Option<u8>),
    /// Anywhere, of the family that the rest of the route is of.
    Default,
}

impl Destination {
    fn of_family(&self, is_ipv6: bool) -> (IpAddr, Option<u8>) {
        match self {
            Self::Network(address, prefix) => (*address, *prefix),
            Self::Default if is_ipv6 => (Ipv6Addr::UNSPECIFIED.into(), Some(0)),
            Self::Default => (Ipv4Addr::UNSPECIFIED.into(), Some(0)),
        }
    }
}

fn destination(word: Option<&String>) -> Result<Destination, Expected> {
    const EXPECTED: &str = "a network such as 10.0.0.0/8, or `default`";
    let word = word.ok_or(EXPECTED)?;
    if word == "default" {
        return Ok(Destination::Default);
    }
    let (address, prefix) = match word.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix.parse().map_err(|_| EXPECTED)?)),
        None => (word.as_str(), None),
    };
    let address: IpAddr = address.parse().map_err(|_| EXPECTED)?;
    let widest = if address.is_ipv4() { 32 } else { 128 };
    if prefix.is_some_and(|prefix: u8| prefix > widest) {
        return Err(EXPECTED.into());
    }
    Ok(Destination::Network(address, prefix))
}

/// `[inet|inet6] ADDRESS`
fn router(words: &mut Words<'_>) -> Result<IpAddr, Expected> {
    words.next_if(|word| *word == "inet" || *word == "inet6");
    value(words, "the address of a router")
}

fn value<T: FromStr>(words: &mut Words<'_>, expected: &str) -> Result<T, Expected> {
    let value = words.next().and_then(|word| word.parse().ok());
    value.ok_or_else(|| expected.into())
}

fn named(words: &mut Words<'_>, expected: &str) -> Result<String, Expected> {
    words.next().cloned().ok_or_else(|| expected.into())
}

/// `via ADDRESS`, `dev NAME`, `weight N`, `onlink`
fn next_hop(words: &mut Words<'_>) -> Result<NextHop, Expected> {
    let mut hop = NextHop::default();
    let belongs = |word: &&String| ["via", "dev", "weight", "onlink"].contains(&word.as_str());
    while let Some(word) = words.next_if(belongs) {
        match word.as_str() {
            "via" => hop.via = Some(router(words)?),
            "dev" => hop.dev = Some(named(words, "an interface")?),
            "weight" => {
                let weight = value(words, "a weight")?;
                if !bounds::NEXT_HOP_WEIGHT.contains(&weight) {
                    return Err("a weight from 1 to 256".into());
                }
                hop.weight = Some(weight);
            }
            _ => hop.onlink = true,
        }
    }
    if hop.via.is_none() && hop.dev.is_none() {
        return Err("`via`, `dev` or both after `nexthop`".into());
    }
    Ok(hop)
}

/// A number, or a name that the kernel or iproute2 knows.
fn table(word: Option<&String>) -> Result<u32, Expected> {
    const EXPECTED: &str = "the number of a routing table from 1 on, or a name of \
                            /etc/iproute2/rt_tables";
    let word = word.ok_or(EXPECTED)?;
    let number = match word.as_str() {
        "default" => Some(253),
        "main" => Some(254),
        "local" => Some(255),
        _ => word.parse().ok().or_else(|| named_table(word)),
    };
    let number = number.filter(|number| bounds::ROUTING_TABLE.contains(number));
    number.ok_or_else(|| EXPECTED.into())
}

fn named_table(name: &str) -> Option<u32> {
    let lines = TABLES
        .into_iter()
        .filter_map(|file| fs::read_to_string(file).ok());
    let lines: Vec<String> = lines.collect();
    lines.iter().flat_map(|text| text.lines()).find_map(|line| {
        let mut words = line.split_whitespace();
        let number = words.next()?.parse().ok()?;
        (words.next() == Some(name)).then_some(number)
    })
}

/// A word, or the number that the kernel knows it by.
fn scope(word: Option<&String>) -> Result<RouteScope, Expected> {
    let word = word.map(String::as_str).unwrap_or_default();
    let name = match word {
        "universe" | "0" => "global",
        "200" => "site",
        "253" => "link",
        "254" => "host",
        name => name,
    };
    let mut words = RouteScope::WORDS.iter();
    let found = words.find(|(known, _)| *known == name);
    found
        .map(|(_, scope)| *scope)
        .ok_or_else(|| "`global`, `site`, `link` or `host` after `scope`".into())
}
