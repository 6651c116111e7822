//! `virtual_server` and `real_server`

use std::net::Ipv4Addr;

use super::super::diagnostic::did_you_mean;
use super::super::model::{CheckTiming, LbKind, RealServer, VirtualServer};
use super::super::tree::Directive;
use super::Reader;
use super::vocabulary::{REAL_SERVER, VIRTUAL_SERVER};
use crate::dataplane::state::{Protocol, Scheduler};

/// Persistence of a bare `persistence_timeout`, in seconds (keepalived.conf(5)).
const BARE_PERSISTENCE_TIMEOUT_S: u32 = 360;

impl Reader<'_> {
    pub fn virtual_server(&mut self, block: &Directive) -> Option<VirtualServer> {
        if block.arguments.first().is_some_and(|word| word == "fwmark") {
            self.diagnostics.error(
                &block.origin,
                "`virtual_server fwmark` is not served: packets reach the balancer before the \
                 firewall could mark them; expected `virtual_server ADDRESS PORT`",
            );
            return None;
        }
        let address = self.socket_address(block, None)?;
        let mut service = VirtualServer {
            address,
            protocol: Protocol::Tcp,
            lb_algo: None,
            lb_kind: None,
            persistence_timeout: None,
            persistence_granularity: None,
            quorum: None,
            hysteresis: None,
            quorum_up: None,
            quorum_down: None,
            sorry_server: None,
            inhibit_on_failure: None,
            omega: false,
            timing: CheckTiming::default(),
            real_server: Vec::new(),
            origin: block.origin.clone(),
        };
        for item in self.block(block) {
            if self.timing(item, &mut service.timing) {
                continue;
            }
            match item.keyword.as_str() {
                "lb_algo" | "lvs_sched" => service.lb_algo = self.scheduler(item),
                "lb_kind" | "lvs_method" => service.lb_kind = self.lb_kind(item),
                "protocol" => service.protocol = self.protocol(item),
                "persistence_timeout" => {
                    service.persistence_timeout = self.persistence_timeout(item);
                }
                "persistence_granularity" => {
                    service.persistence_granularity = self.granularity(item);
                }
                "quorum" => service.quorum = self.number(item, 1..=u32::MAX),
                "hysteresis" => service.hysteresis = self.number(item, 0..=u32::MAX),
                "quorum_up" => service.quorum_up = self.script(item),
                "quorum_down" => service.quorum_down = self.script(item),
                "sorry_server" => {
                    service.sorry_server = self.socket_address(item, Some(address.port()));
                }
                "inhibit_on_failure" => service.inhibit_on_failure = self.switch(item),
                "omega" => service.omega = self.switch(item).unwrap_or_default(),
                "real_server" => {
                    service
                        .real_server
                        .extend(self.real_server(item, address.port()));
                }
                _ => self.not_served(item, &VIRTUAL_SERVER),
            }
        }
        Some(service)
    }

    fn real_server(&mut self, block: &Directive, service_port: u16) -> Option<RealServer> {
        let address = self.socket_address(block, Some(service_port))?;
        let mut server = RealServer {
            address,
            weight: None,
            inhibit_on_failure: None,
            notify_up: None,
            notify_down: None,
            timing: CheckTiming::default(),
            checks: Vec::new(),
            origin: block.origin.clone(),
        };
        for item in self.block(block) {
            if self.timing(item, &mut server.timing) {
                continue;
            }
            match item.keyword.as_str() {
                "weight" => server.weight = self.number(item, 0..=65535),
                "inhibit_on_failure" => server.inhibit_on_failure = self.switch(item),
                "notify_up" => server.notify_up = self.script(item),
                "notify_down" => server.notify_down = self.script(item),
                "TCP_CHECK" => server.checks.push(self.tcp_check(item)),
                _ => self.not_served(item, &REAL_SERVER),
            }
        }
        Some(server)
    }

    fn scheduler(&mut self, item: &Directive) -> Option<Scheduler> {
        const SERVED: [(&str, Scheduler); 6] = [
            ("rr", Scheduler::Rr),
            ("wrr", Scheduler::Wrr),
            ("lc", Scheduler::Lc),
            ("wlc", Scheduler::Wlc),
            ("sh", Scheduler::Sh),
            ("mh", Scheduler::Mh),
        ];
        const NOT_SERVED: [&str; 8] = ["dh", "sed", "nq", "fo", "ovf", "lblc", "lblcr", "twos"];
        let served = SERVED.map(|(name, _)| name).join(", ");
        let name = self.argument(item, &format!("a scheduler ({served})"))?;
        if let Some((_, scheduler)) = SERVED.iter().find(|(known, _)| *known == name) {
            return Some(*scheduler);
        }
        let message = if NOT_SERVED.contains(&name) {
            format!("scheduler `{name}` is not served; expected one of: {served}")
        } else {
            let known = SERVED.iter().map(|(known, _)| *known);
            let suggestion = did_you_mean(name, known);
            format!("unknown scheduler `{name}`; expected one of: {served}{suggestion}")
        };
        self.diagnostics.error(&item.origin, message);
        None
    }

    fn lb_kind(&mut self, item: &Directive) -> Option<LbKind> {
        match item.arguments.first().map(String::as_str) {
            Some("DR") => return Some(LbKind::DirectRouting),
            Some(kind @ ("NAT" | "TUN")) => self.diagnostics.error(
                &item.origin,
                format!("forwarding method `{kind}` is not served; expected DR (direct routing)"),
            ),
            _ => self.wrong(item, "DR (direct routing)"),
        }
        None
    }

    fn protocol(&mut self, item: &Directive) -> Protocol {
        match self.argument(item, "TCP or UDP") {
            Some("TCP") | None => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => {
                self.diagnostics.error(
                    &item.origin,
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
            return Some(BARE_PERSISTENCE_TIMEOUT_S);
        }
        if item.arguments.first().is_some_and(|word| word == "0") {
            self.diagnostics.error(
                &item.origin,
                "`persistence_timeout 0` means nothing; leave the line out for no persistence, \
                 or give a number of seconds from 1 on",
            );
            return None;
        }
        self.number(item, 1..=31 * 24 * 3600)
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
        if !prefix.is_some_and(|prefix| (1..=128).contains(&prefix)) {
            self.wrong(item, EXPECTED);
            return None;
        }
        prefix
    }
}
