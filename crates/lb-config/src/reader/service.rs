//! `virtual_server`, `virtual_server_group` and `real_server`

use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use conf_kit::did_you_mean;

use super::Reader;
use crate::names::{PROTOCOLS, SCHEDULERS, value_of};
use conf_kit::Directive;
use lb_model::config::{ALL_PORTS, AddressRange, DEFAULT_PERSISTENCE_TIMEOUT_S, LbKind, bounds};
use lb_model::{Protocol, Scheduler};
use net_types::MacAddress;

/// Schedulers of IPVS that make no sense or no difference here.
const NOT_SERVED: [(&str, &str); 3] = [
    ("lblc", LOCALITY),
    ("lblcr", LOCALITY),
    (
        "twos",
        "`wlc` compares all servers, and so chooses none worse than the better of two at random",
    ),
];

/// ip_vs_lblc.c: "the least-connection scheduling for locality-based cache clusters".
const LOCALITY: &str = "it chooses by the destination, for transparent caches behind a firewall \
                        mark, and a virtual server here has one destination";

impl Reader<'_> {
    pub(crate) fn mac_address(&mut self, item: &Directive) -> Option<MacAddress> {
        let mac = item.parsed(MacAddress::EXPECTED, |_| true);
        self.diagnostics.take(mac)
    }

    /// `ADDRESS [PORT]`, `FIRST-LAST [PORT]` or `ADDRESS/PREFIX [PORT]`
    pub(crate) fn address_range(&mut self, item: &Directive) -> Option<AddressRange> {
        let port = match item.arguments.as_slice() {
            [] => Some(ALL_PORTS),
            [port] => port.parse().ok(),
            _ => None,
        };
        let range = match (item.keyword.split_once('-'), item.keyword.split_once('/')) {
            (Some((first, last)), _) => first.parse().ok().and_then(|first| {
                Some((
                    first,
                    Some(last.parse().ok().or_else(|| with_last_part(first, last))?),
                ))
            }),
            (None, Some((first, prefix))) => first.parse().ok().and_then(|first| {
                Some((first, Some(last_of_network(first, prefix.parse().ok()?)?)))
            }),
            (None, None) => item.keyword.parse().ok().map(|first| (first, None)),
        };
        let range = match (range, port) {
            (Some((first, last)), Some(port)) => AddressRange { first, last, port },
            _ => {
                let words = iter::once(&item.keyword).chain(&item.arguments);
                let found: Vec<&str> = words.map(String::as_str).collect();
                let message = format!(
                    "expected `ADDRESS [PORT]`, `FIRST-LAST [PORT]` or `ADDRESS/PREFIX [PORT]`, \
                     found `{}`",
                    found.join(" ")
                );
                self.diagnostics.error(&item.location, message);
                return None;
            }
        };
        if !bounds::RANGE.contains(&range.count()) {
            let message = format!(
                "`{}` has {} addresses; expected {}",
                item.keyword,
                range.count(),
                bounds::words(&bounds::RANGE)
            );
            self.diagnostics.error(&item.location, message);
            return None;
        }
        Some(range)
    }

    pub(crate) fn scheduler(&mut self, item: &Directive) -> Option<Scheduler> {
        let served = SCHEDULERS.map(|(name, _)| name).join(", ");
        let name = self.argument(item, &format!("a scheduler ({served})"))?;
        if let Some(scheduler) = value_of(&SCHEDULERS, name) {
            return Some(scheduler);
        }
        let message = if let Some(reason) = value_of(&NOT_SERVED, name) {
            format!("scheduler `{name}` is not served: {reason}; expected one of: {served}")
        } else {
            let known = SCHEDULERS.iter().map(|(known, _)| *known);
            let suggestion = did_you_mean(name, known);
            format!("unknown scheduler `{name}`; expected one of: {served}{suggestion}")
        };
        self.diagnostics.error(&item.location, message);
        None
    }

    pub(crate) fn lb_kind(&mut self, item: &Directive) -> Option<LbKind> {
        const EXPECTED: &str = "DR (direct routing) or TUN (a tunnel)";
        let words: Vec<&str> = item.arguments.iter().map(String::as_str).collect();
        match words[..] {
            ["DR"] => return Some(LbKind::DirectRouting),
            ["TUN"] | ["TUN", "type", "ipip"] => return Some(LbKind::Tunnel),
            ["NAT", ..] => self.diagnostics.error(
                &item.location,
                format!("forwarding method `NAT` is not served; expected {EXPECTED}"),
            ),
            ["TUN", "type", kind @ ("gue" | "gre"), ..] => self.diagnostics.error(
                &item.location,
                format!("tunnels of type `{kind}` are not served; expected `TUN type ipip`"),
            ),
            _ => self.wrong(item, EXPECTED),
        }
        None
    }

    pub(crate) fn protocol(&mut self, item: &Directive) -> Option<Protocol> {
        const EXPECTED: &str = "TCP or UDP";
        if item.arguments == ["SCTP"] {
            let message = format!("protocol SCTP is not served; expected {EXPECTED}");
            self.diagnostics.error(&item.location, message);
            return None;
        }
        self.choice(item, &PROTOCOLS, EXPECTED)
    }

    pub(crate) fn persistence_timeout(&mut self, item: &Directive) -> Option<u32> {
        if item.arguments.is_empty() {
            return Some(DEFAULT_PERSISTENCE_TIMEOUT_S);
        }
        if item.arguments.first().is_some_and(|word| word == "0") {
            self.diagnostics.error(
                &item.location,
                "`persistence_timeout 0` means nothing; leave the line out for no persistence, \
                 or give a number of seconds from 1 on",
            );
            return None;
        }
        self.number(item, bounds::PERSISTENCE_TIMEOUT_S)
    }

    /// A netmask such as 255.255.255.0, or a prefix length.
    pub(crate) fn granularity(&mut self, item: &Directive) -> Option<u8> {
        const EXPECTED: &str = "a netmask such as 255.255.255.0 or a prefix length";
        let word = self.argument(item, EXPECTED)?;
        let prefix = match word.parse::<Ipv4Addr>() {
            Ok(mask) => {
                let bits = mask.to_bits();
                let prefix = bits.leading_ones();
                (prefix == bits.count_ones()).then_some(prefix as u8)
            }
            Err(_) => word.parse::<u8>().ok(),
        };
        if !prefix.is_some_and(|prefix| bounds::PERSISTENCE_GRANULARITY.contains(&prefix)) {
            self.wrong(item, EXPECTED);
            return None;
        }
        prefix
    }
}

/// `first` with its last part replaced: 10.0.0.1 and 9 for 10.0.0.9.
fn with_last_part(first: IpAddr, last: &str) -> Option<IpAddr> {
    match first {
        IpAddr::V4(first) => {
            let [a, b, c, _] = first.octets();
            Some(Ipv4Addr::new(a, b, c, last.parse().ok()?).into())
        }
        IpAddr::V6(first) => {
            let mut segments = first.segments();
            segments[7] = u16::from_str_radix(last, 16).ok()?;
            Some(IpAddr::from(segments))
        }
    }
}

/// The last address of the network that `address` begins.
fn last_of_network(address: IpAddr, prefix: u32) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => {
            let host = u32::MAX.checked_shr(prefix).unwrap_or_default();
            (prefix <= 32).then(|| Ipv4Addr::from_bits(address.to_bits() | host).into())
        }
        IpAddr::V6(address) => {
            let host = u128::MAX.checked_shr(prefix).unwrap_or_default();
            (prefix <= 128).then(|| Ipv6Addr::from_bits(address.to_bits() | host).into())
        }
    }
}
