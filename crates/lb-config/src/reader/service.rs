//! `virtual_server`, `virtual_server_group` and `real_server`

use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use conf_kit::did_you_mean;

use super::Reader;
use crate::keywords::{REAL_SERVER, VIRTUAL_SERVER};
use crate::names::{ORPHAN_POLICIES, SCHEDULERS, value_of};
use conf_kit::Directive;
use lb_model::config::{
    ALL_PORTS, AddressRange, CheckTiming, DEFAULT_PERSISTENCE_TIMEOUT_S, LbKind, RealServer,
    Recovery, ServiceAddress, VirtualServer, VirtualServerGroup, bounds,
};
use lb_model::{OrphanPolicy, Protocol, Scheduler};
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
    pub fn virtual_server(&mut self, block: &Directive) -> Option<VirtualServer> {
        if block.arguments.first().is_some_and(|word| word == "fwmark") {
            self.diagnostics.error(
                &block.location,
                "`virtual_server fwmark` is not served: packets reach the balancer before the \
                 firewall could mark them; expected `virtual_server ADDRESS PORT`",
            );
            return None;
        }
        let (address, port) = match block.arguments.as_slice() {
            [word, group] if word == "group" => (
                ServiceAddress::Group {
                    group: group.clone(),
                },
                ALL_PORTS,
            ),
            _ => {
                let address = self.socket_address(block, ALL_PORTS)?;
                (ServiceAddress::One(address), address.port())
            }
        };
        let mut service = VirtualServer {
            address,
            protocol: Protocol::Tcp,
            lb_algo: None,
            lb_kind: None,
            persistence_timeout: None,
            persistence_granularity: None,
            expire_quiescent: false,
            hash_port: false,
            hash_fallback: false,
            ops: false,
            orphans: None,
            sloppy: None,
            quorum: None,
            hysteresis: None,
            quorum_up: None,
            quorum_down: None,
            sorry_server: None,
            virtualhost: None,
            inhibit_on_failure: None,
            omega: false,
            timing: CheckTiming::default(),
            recovery: Recovery::default(),
            real_server: Vec::new(),
            location: block.location.clone(),
        };
        // That of servers that say none.
        let mut weight = None;
        for item in self.block(block) {
            if self.timing(item, &mut service.timing) || self.recovery(item, &mut service.recovery)
            {
                continue;
            }
            match item.keyword.as_str() {
                "weight" => weight = self.number(item, bounds::WEIGHT),
                "lb_algo" | "lvs_sched" => service.lb_algo = self.scheduler(item),
                "lb_kind" | "lvs_method" => service.lb_kind = self.lb_kind(item),
                "protocol" => service.protocol = self.protocol(item),
                "persistence_timeout" => {
                    service.persistence_timeout = self.persistence_timeout(item);
                }
                "persistence_granularity" => {
                    service.persistence_granularity = self.granularity(item);
                }
                "expire_quiescent" => service.expire_quiescent = true,
                // ip_vs.h: the flags of the schedulers `sh` and `mh`.
                "sh-port" | "mh-port" | "flag-2" => service.hash_port = true,
                "sh-fallback" | "mh-fallback" | "flag-1" => service.hash_fallback = true,
                "ops" => service.ops = true,
                "orphans" => service.orphans = self.orphans(item),
                "sloppy" => service.sloppy = self.switch(item),
                "quorum" => service.quorum = self.number(item, bounds::COUNT),
                "hysteresis" => service.hysteresis = self.number(item, 0..=u32::MAX),
                "quorum_up" => service.quorum_up = self.script(item),
                "quorum_down" => service.quorum_down = self.script(item),
                "sorry_server" => {
                    service.sorry_server = self.socket_address(item, port);
                }
                "virtualhost" => service.virtualhost = self.text(item),
                "inhibit_on_failure" => service.inhibit_on_failure = self.switch(item),
                "omega" => service.omega = self.switch(item).unwrap_or_default(),
                "real_server" => {
                    service.real_server.extend(self.real_server(item, port));
                }
                _ => self.not_served(item, &VIRTUAL_SERVER),
            }
        }
        for server in &mut service.real_server {
            server.weight = server.weight.or(weight);
        }
        Some(service)
    }

    fn real_server(&mut self, block: &Directive, service_port: u16) -> Option<RealServer> {
        let address = self.socket_address(block, service_port)?;
        let mut server = RealServer {
            address,
            mac_address: None,
            weight: None,
            uthreshold: None,
            lthreshold: None,
            lb_kind: None,
            virtualhost: None,
            inhibit_on_failure: None,
            notify_up: None,
            notify_down: None,
            timing: CheckTiming::default(),
            recovery: Recovery::default(),
            checks: Vec::new(),
            location: block.location.clone(),
        };
        for item in self.block(block) {
            if self.timing(item, &mut server.timing) || self.recovery(item, &mut server.recovery) {
                continue;
            }
            match item.keyword.as_str() {
                "mac_address" => server.mac_address = self.mac_address(item),
                "weight" => server.weight = self.number(item, bounds::WEIGHT),
                "uthreshold" => server.uthreshold = self.number(item, 0..=u32::MAX),
                "lthreshold" => server.lthreshold = self.number(item, 0..=u32::MAX),
                "lb_kind" | "lvs_method" => server.lb_kind = self.lb_kind(item),
                "inhibit_on_failure" => server.inhibit_on_failure = self.switch(item),
                "notify_up" => server.notify_up = self.script(item),
                "notify_down" => server.notify_down = self.script(item),
                "virtualhost" => server.virtualhost = self.text(item),
                "TCP_CHECK" | "HTTP_GET" | "SSL_GET" | "MISC_CHECK" | "UDP_CHECK"
                | "PING_CHECK" | "RTMP_CHECK" | "DNS_CHECK" | "SMTP_CHECK" | "FILE_CHECK" => {
                    server.checks.extend(self.check(item))
                }
                _ => self.not_served(item, &REAL_SERVER),
            }
        }
        Some(server)
    }

    fn mac_address(&mut self, item: &Directive) -> Option<MacAddress> {
        let mac = self.argument(item, MacAddress::EXPECTED)?.parse().ok();
        if mac.is_none() {
            self.wrong(item, MacAddress::EXPECTED);
        }
        mac
    }

    /// Reads a directive about servers that come back; false if `item` is none.
    fn recovery(&mut self, item: &Directive, recovery: &mut Recovery) -> bool {
        match item.keyword.as_str() {
            "slow_start" => recovery.slow_start = self.seconds(item),
            "flap_limit" => recovery.flap_limit = self.number(item, bounds::FLAP_LIMIT),
            "flap_window" => recovery.flap_window = self.positive_seconds(item),
            "flap_hold_down" => recovery.flap_hold_down = self.positive_seconds(item),
            "flap_hold_down_max" => recovery.flap_hold_down_max = self.positive_seconds(item),
            _ => return false,
        }
        true
    }

    pub fn virtual_server_group(&mut self, block: &Directive) -> Option<VirtualServerGroup> {
        let name = self.argument(block, "a name")?.to_owned();
        let mut group = VirtualServerGroup {
            name,
            address: Vec::new(),
            location: block.location.clone(),
        };
        for item in self.block(block) {
            if item.keyword == "fwmark" {
                self.diagnostics.error(
                    &item.location,
                    "`fwmark` is not served: packets reach the balancer before the firewall \
                     could mark them; expected `ADDRESS PORT`",
                );
            } else {
                group.address.extend(self.address_range(item));
            }
        }
        Some(group)
    }

    /// `ADDRESS [PORT]`, `FIRST-LAST [PORT]` or `ADDRESS/PREFIX [PORT]`
    fn address_range(&mut self, item: &Directive) -> Option<AddressRange> {
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

    /// What becomes of connections whose server is gone: a word of Millrace's.
    fn orphans(&mut self, item: &Directive) -> Option<OrphanPolicy> {
        const EXPECTED: &str = "reset, drop or reschedule";
        let policy = value_of(&ORPHAN_POLICIES, self.argument(item, EXPECTED)?);
        if policy.is_none() {
            self.wrong(item, EXPECTED);
        }
        policy
    }

    fn scheduler(&mut self, item: &Directive) -> Option<Scheduler> {
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

    fn lb_kind(&mut self, item: &Directive) -> Option<LbKind> {
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

    fn protocol(&mut self, item: &Directive) -> Protocol {
        match self.argument(item, "TCP or UDP") {
            Some("TCP") | None => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => {
                self.diagnostics.error(
                    &item.location,
                    "protocol SCTP is not served; expected TCP or UDP",
                );
                Protocol::Tcp
            }
            Some(_) => {
                self.wrong(item, "TCP or UDP");
                Protocol::Tcp
            }
        }
    }

    fn persistence_timeout(&mut self, item: &Directive) -> Option<u32> {
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
    fn granularity(&mut self, item: &Directive) -> Option<u8> {
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
