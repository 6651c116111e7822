//! `virtual_server`, `virtual_server_group` and `real_server`

use conf_kit::Directive;
use lb_model::Protocol;
use lb_model::config::{
    ALL_PORTS, CheckTiming, Discover, RealServer, RealServerTemplate, Recovery, ServiceAddress,
    VirtualServer, VirtualServerGroup, bounds,
};

use crate::keywords::{DISCOVER, REAL_SERVER, REAL_SERVER_TEMPLATE, VIRTUAL_SERVER, empty_kind};
use crate::reader::Reader;

impl Reader<'_> {
    pub(crate) fn virtual_server(&mut self, block: &Directive) -> Option<VirtualServer> {
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
            announce: None,
            sorry_server: None,
            virtualhost: None,
            inhibit_on_failure: None,
            omega: false,
            timing: CheckTiming::default(),
            recovery: Recovery::default(),
            real_server: Vec::new(),
            discover: Vec::new(),
            real_server_template: None,
            location: block.location.clone(),
        };
        self.service_port = port;
        // That of servers that say none.
        let mut weight = None;
        for item in self.block(block) {
            match item.keyword.as_str() {
                "weight" => weight = self.number(item, bounds::WEIGHT),
                "real_server" => service.real_server.extend(self.real_server(item, port)),
                "discover" => service.discover.push(self.discover(item)),
                "real_server_template" => {
                    service.real_server_template = Some(self.real_server_template(item));
                }
                _ if VIRTUAL_SERVER.read(&mut service, item, self) => {}
                _ => self.not_served(item, &VIRTUAL_SERVER),
            }
        }
        for server in &mut service.real_server {
            server.weight = server.weight.or(weight);
        }
        if let Some(template) = &mut service.real_server_template {
            template.weight = template.weight.or(weight);
        }
        Some(service)
    }

    pub(crate) fn real_server(
        &mut self,
        block: &Directive,
        service_port: u16,
    ) -> Option<RealServer> {
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
            if REAL_SERVER.read(&mut server, item, self) {
                continue;
            }
            match empty_kind(&item.keyword) {
                Some(_) => server.checks.extend(self.check(item)),
                None => self.not_served(item, &REAL_SERVER),
            }
        }
        Some(server)
    }

    fn discover(&mut self, block: &Directive) -> Discover {
        let mut source = Discover {
            location: block.location.clone(),
            ..Discover::default()
        };
        for item in self.block(block) {
            if !DISCOVER.read(&mut source, item, self) {
                self.not_served(item, &DISCOVER);
            }
        }
        source
    }

    fn real_server_template(&mut self, block: &Directive) -> RealServerTemplate {
        let mut template = RealServerTemplate {
            location: block.location.clone(),
            ..RealServerTemplate::default()
        };
        for item in self.block(block) {
            if REAL_SERVER_TEMPLATE.read(&mut template, item, self) {
                continue;
            }
            match empty_kind(&item.keyword) {
                Some(_) => template.checks.extend(self.check(item)),
                None => self.not_served(item, &REAL_SERVER_TEMPLATE),
            }
        }
        template
    }

    pub(crate) fn virtual_server_group(&mut self, block: &Directive) -> Option<VirtualServerGroup> {
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
}
