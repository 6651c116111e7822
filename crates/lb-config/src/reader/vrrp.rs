//! `vrrp_instance`, `vrrp_sync_group` and `vrrp_script`

use std::net::IpAddr;

use super::Reader;
use crate::blocks::has;
use crate::keywords::AUTH_HMAC;
use crate::vocabulary::{AUTHENTICATION, UNICAST_PEER, VIRTUAL_IPADDRESS, WITH_VALUE};
use conf_kit::Directive;
use lb_model::config::{
    AuthHmac, AuthType, Authentication, HmacKey, UnicastPeer, VirtualIpAddress,
};

impl Reader<'_> {
    pub(crate) fn authentication(&mut self, block: &Directive) -> Option<Authentication> {
        let mut auth_type = None;
        let mut auth_pass = None;
        let mut names_a_type = false;
        for item in self.block(block) {
            match item.keyword.as_str() {
                "auth_type" => {
                    names_a_type = true;
                    match self.argument(item, "PASS") {
                        Some("PASS") => auth_type = Some(AuthType::Pass),
                        Some("AH") => self.diagnostics.error(
                            &item.location,
                            "`auth_type AH` is not served (RFC 5798 withdrew it); expected PASS",
                        ),
                        Some(_) => self.wrong(item, "PASS"),
                        None => {}
                    }
                }
                "auth_pass" => auth_pass = self.text(item),
                _ => self.not_served(item, &AUTHENTICATION),
            }
        }
        if let Some(password) = &auth_pass
            && password.len() > 8
        {
            self.diagnostics.warn(
                &block.location,
                "`auth_pass` is longer than 8 bytes: only the first 8 count",
            );
        }
        match (auth_type, auth_pass) {
            (Some(auth_type), Some(auth_pass)) => Some(Authentication {
                auth_type,
                auth_pass,
            }),
            // A type that is not served has been complained of.
            (None, _) if names_a_type => None,
            _ => {
                self.diagnostics.error(
                    &block.location,
                    "`authentication` expects both `auth_type` and `auth_pass`",
                );
                None
            }
        }
    }

    pub(crate) fn auth_hmac(&mut self, block: &Directive) -> Option<AuthHmac> {
        let mut given = AuthHmac {
            key: Vec::new(),
            active_key: 0,
            anti_replay: None,
            time_window: None,
            mode: None,
        };
        for item in self.block(block) {
            if item.keyword == "key" {
                given.key.extend(self.hmac_key(item));
            } else if !AUTH_HMAC.read(&mut given, item, self) {
                self.not_served(item, &AUTH_HMAC);
            }
        }
        if !has(block, "active_key") {
            self.diagnostics.error(
                &block.location,
                "`auth_hmac` has no `active_key`; expected the number of the key that signs",
            );
            return None;
        }
        Some(given)
    }

    /// `key NUMBER VALUE`
    fn hmac_key(&mut self, item: &Directive) -> Option<HmacKey> {
        if let [id, value] = item.arguments.as_slice()
            && let Ok(id @ 1..) = id.parse()
        {
            let value = value.clone();
            return Some(HmacKey { id, value });
        }
        self.diagnostics.error(
            &item.location,
            "`key` expects a number from 1 to 255 and a key (characters, `hex:BYTES` or \
             `file:PATH`)",
        );
        None
    }

    pub(crate) fn virtual_addresses(&mut self, block: &Directive) -> Vec<VirtualIpAddress> {
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
        let address = self.leading_address(item, address)?;
        let widest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix.map(str::parse::<u8>) {
            None => None,
            Some(Ok(prefix)) if prefix <= widest => Some(prefix),
            Some(_) => {
                let message = format!(
                    "expected a prefix length from 0 to {widest} in `{}`",
                    item.keyword
                );
                self.diagnostics.error(&item.location, message);
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
                    self.word_not_served(&item.location, word, &VIRTUAL_IPADDRESS);
                    if WITH_VALUE.contains(&word.as_str()) {
                        words.next();
                    }
                }
            }
        }
        Some(virtual_address)
    }

    /// `ADDRESS [min_ttl N] [max_ttl N]`
    pub(crate) fn unicast_peers(&mut self, block: &Directive) -> Vec<UnicastPeer> {
        let mut peers = Vec::new();
        for item in self.block(block) {
            let Some(address) = self.leading_address(item, &item.keyword) else {
                continue;
            };
            let mut peer = UnicastPeer {
                address,
                min_ttl: None,
                max_ttl: None,
            };
            let mut words = item.arguments.iter();
            while let Some(word) = words.next() {
                let ttl = match word.as_str() {
                    "min_ttl" => &mut peer.min_ttl,
                    "max_ttl" => &mut peer.max_ttl,
                    _ => {
                        self.word_not_served(&item.location, word, &UNICAST_PEER);
                        continue;
                    }
                };
                *ttl = words.next().and_then(|number| number.parse().ok());
                if ttl.is_none() {
                    let message = format!("`{word}` expects a whole number from 0 to 255");
                    self.diagnostics.error(&item.location, message);
                }
            }
            peers.push(peer);
        }
        peers
    }

    fn leading_address(&mut self, item: &Directive, word: &str) -> Option<IpAddr> {
        let address = word.parse().ok();
        if address.is_none() {
            let message = format!("expected an IP address instead of `{word}`");
            self.diagnostics.error(&item.location, message);
        }
        address
    }

    /// `user USER [GROUP]`
    pub(crate) fn user(&mut self, item: &Directive) -> Option<(String, Option<String>)> {
        match item.arguments.as_slice() {
            [user] => Some((user.clone(), None)),
            [user, group] => Some((user.clone(), Some(group.clone()))),
            _ => {
                self.wrong(item, "a user and perhaps a group");
                None
            }
        }
    }
}
