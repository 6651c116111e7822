//! `vrrp_instance`

use std::net::IpAddr;

use super::super::model::{AuthType, Authentication, InitialState, VirtualIpAddress, VrrpInstance};
use super::super::tree::Directive;
use super::Reader;
use super::vocabulary::{AUTHENTICATION, VIRTUAL_IPADDRESS, VRRP_INSTANCE};

impl Reader<'_> {
    pub fn vrrp_instance(&mut self, block: &Directive) -> Option<VrrpInstance> {
        let name = self.argument(block, "a name")?.to_owned();
        let mut virtual_router_id = None;
        let mut instance = VrrpInstance {
            name,
            state: InitialState::default(),
            interface: None,
            virtual_router_id: 0,
            priority: None,
            advert_int: None,
            authentication: None,
            virtual_ipaddress: Vec::new(),
            origin: block.origin.clone(),
        };
        for item in self.block(block) {
            match item.keyword.as_str() {
                "state" => instance.state = self.initial_state(item),
                "interface" => instance.interface = self.text(item),
                "virtual_router_id" => virtual_router_id = Some(self.number(item, 1..=255)),
                "priority" => instance.priority = self.number(item, 1..=255),
                "advert_int" => instance.advert_int = self.positive_seconds(item),
                "authentication" => instance.authentication = self.authentication(item),
                "virtual_ipaddress" => instance.virtual_ipaddress = self.virtual_ipaddress(item),
                _ => self.not_served(item, &VRRP_INSTANCE),
            }
        }
        match virtual_router_id {
            Some(id) => instance.virtual_router_id = id?,
            None => {
                let message = format!(
                    "vrrp_instance {} has no `virtual_router_id`; expected one from 1 to 255",
                    instance.name
                );
                self.diagnostics.error(&block.origin, message);
                return None;
            }
        }
        Some(instance)
    }

    fn initial_state(&mut self, item: &Directive) -> InitialState {
        match self.argument(item, "MASTER or BACKUP") {
            Some("MASTER") => InitialState::Master,
            Some("BACKUP") | None => InitialState::Backup,
            Some(_) => {
                self.wrong(item, "MASTER or BACKUP");
                InitialState::Backup
            }
        }
    }

    fn authentication(&mut self, block: &Directive) -> Option<Authentication> {
        let mut auth_type = None;
        let mut auth_pass = None;
        for item in self.block(block) {
            match item.keyword.as_str() {
                "auth_type" => match self.argument(item, "PASS") {
                    Some("PASS") => auth_type = Some(AuthType::Pass),
                    Some("AH") => self.diagnostics.error(
                        &item.origin,
                        "`auth_type AH` is not served (RFC 5798 withdrew it); expected PASS",
                    ),
                    Some(_) => self.wrong(item, "PASS"),
                    None => {}
                },
                "auth_pass" => auth_pass = self.text(item),
                _ => self.not_served(item, &AUTHENTICATION),
            }
        }
        if let Some(password) = &auth_pass
            && password.len() > 8
        {
            self.diagnostics.warn(
                &block.origin,
                "`auth_pass` is longer than 8 bytes: only the first 8 count",
            );
        }
        match (auth_type, auth_pass) {
            (Some(auth_type), Some(auth_pass)) => Some(Authentication {
                auth_type,
                auth_pass,
            }),
            _ => {
                self.diagnostics.error(
                    &block.origin,
                    "`authentication` expects both `auth_type` and `auth_pass`",
                );
                None
            }
        }
    }

    fn virtual_ipaddress(&mut self, block: &Directive) -> Vec<VirtualIpAddress> {
        self.block(block)
            .iter()
            .filter_map(|item| self.virtual_address(item))
            .collect()
    }

    /// `ADDRESS[/PREFIX] [dev NAME] [label LABEL] …`
    fn virtual_address(&mut self, item: &Directive) -> Option<VirtualIpAddress> {
        let (address, prefix) = match item.keyword.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (item.keyword.as_str(), None),
        };
        let Ok(address) = address.parse::<IpAddr>() else {
            let message = format!("expected an IP address instead of `{}`", item.keyword);
            self.diagnostics.error(&item.origin, message);
            return None;
        };
        let widest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix.map(str::parse::<u8>) {
            None => None,
            Some(Ok(prefix)) if prefix <= widest => Some(prefix),
            Some(_) => {
                let message = format!(
                    "expected a prefix length from 0 to {widest} in `{}`",
                    item.keyword
                );
                self.diagnostics.error(&item.origin, message);
                return None;
            }
        };
        let mut virtual_address = VirtualIpAddress {
            address,
            prefix,
            dev: None,
            label: None,
        };
        let mut words = item.arguments.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "dev" => virtual_address.dev = words.next().cloned(),
                "label" => virtual_address.label = words.next().cloned(),
                _ => {
                    let stray = Directive {
                        keyword: word.clone(),
                        arguments: Vec::new(),
                        block: None,
                        origin: item.origin.clone(),
                    };
                    self.not_served(&stray, &VIRTUAL_IPADDRESS);
                    if VIRTUAL_IPADDRESS.takes_value(word) {
                        words.next();
                    }
                }
            }
        }
        Some(virtual_address)
    }
}
