//! The interface that this server sends over, as the kernel describes it.

use std::path::Path;
use std::str::FromStr;

use procfs::net::RouteEntry;
use serde::{Deserialize, Serialize};

use crate::config::Capacity;

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Link {
    /// Its name.
    pub(super) name: String,
    /// What it can send, bit/s; `None` where the kernel does not know (a virtual machine's).
    pub(super) speed: Option<u64>,
    /// Bytes that it has sent.
    pub(super) sent_bytes: u64,
}

impl Link {
    /// The interface that `capacity` means; `None` if a rate is configured, or there is no
    /// such interface.
    pub(super) fn read(capacity: &Capacity) -> Option<Self> {
        let name = match capacity {
            Capacity::Rate(_) => return None,
            Capacity::Interface(name) => name.clone(),
            Capacity::Auto => default_interface()?,
        };
        let directory = Path::new("/sys/class/net").join(&name);
        // Mbit/s, -1 where it is not known (Documentation/ABI/testing/sysfs-class-net).
        let megabits: Option<i64> = number(&directory.join("speed"));
        Some(Self {
            sent_bytes: number(&directory.join("statistics/tx_bytes"))?,
            speed: megabits
                .and_then(|megabits| u64::try_from(megabits).ok())
                .filter(|megabits| *megabits > 0)
                .map(|megabits| megabits * 1_000_000),
            name,
        })
    }
}

/// The number that a file of sysfs holds.
fn number<T: FromStr>(file: &Path) -> Option<T> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The interface with the default route: that of IPv4, else that of IPv6.
fn default_interface() -> Option<String> {
    let by_ipv4 = || {
        let routes = procfs::net::route().ok()?.into_iter();
        let defaults = routes.filter(is_default);
        defaults
            .min_by_key(|route| route.metrics)
            .map(|it| it.iface)
    };
    by_ipv4().or_else(|| default_of_ipv6(&std::fs::read_to_string("/proc/net/ipv6_route").ok()?))
}

fn is_default(route: &RouteEntry) -> bool {
    route.destination.is_unspecified() && route.mask.is_unspecified()
}

/// The interface with the default route in the text of `/proc/net/ipv6_route`: destination,
/// prefix length, source, prefix length, next hop, metric, use count, flags, name
/// (`rt6_info_route` in net/ipv6/route.c).
fn default_of_ipv6(routes: &str) -> Option<String> {
    let default = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [destination, length, .., metric, _, _, _, name] = *fields.as_slice() else {
            return None;
        };
        let is_default = destination.bytes().all(|digit| digit == b'0') && length == "00";
        let metric = u32::from_str_radix(metric, 16).ok()?;
        (is_default && name != "lo").then(|| (metric, name.to_owned()))
    };
    let defaults = routes.lines().filter_map(default);
    defaults.min().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_rate_is_no_interface_and_an_unknown_one_is_none() {
        assert_eq!(Link::read(&Capacity::Rate(1)), None);
        let missing = Capacity::Interface("no-such-link".to_owned());
        assert_eq!(Link::read(&missing), None);
        let loopback = Link::read(&Capacity::Interface("lo".to_owned())).unwrap();
        assert_eq!((&*loopback.name, loopback.speed), ("lo", None));
    }

    #[test]
    fn the_default_route_of_ipv6_with_the_lowest_metric_counts() {
        let none = "00000000000000000000000000000000";
        let route = |to: &str, length: &str, metric: &str, name: &str| {
            format!("{to} {length} {none} 00 {none} {metric} 00000001 00000000 00000001 {name}\n")
        };
        let text = route(none, "00", "00000400", "eth1")
            + &route(none, "00", "00000100", "eth0")
            + &route("20010db8000000000000000000000000", "40", "00000001", "eth2")
            + &route(none, "00", "00000001", "lo");
        assert_eq!(default_of_ipv6(&text).as_deref(), Some("eth0"));
        assert_eq!(default_of_ipv6("unreadable"), None);
    }
}
