//! `security { enabled on; allow|deny publish|play all|ADDRESS|CIDR; }`.

use std::net::IpAddr;

use serde::Serialize;

/// Action that a rule allows or denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Sending a stream to us.
    Publish,
    /// Receiving a stream from us.
    Play,
}

/// One `allow` or `deny` line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// True if the rule allows.
    pub allow: bool,
    /// Action that it allows or denies.
    pub action: Action,
    /// To whom; `None` for all.
    pub network: Option<Network>,
}

/// An address and how many of its leading bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Network {
    address: IpAddr,
    prefix_length: u8,
}

impl Network {
    /// Reads `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/32`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix_length = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|&length| length <= longest)?,
            None => longest,
        };
        Some(Self {
            address,
            prefix_length,
        })
    }

    /// True if `peer` lies in this network.
    #[must_use]
    pub fn contains(&self, peer: IpAddr) -> bool {
        let length = u32::from(self.prefix_length);
        match (self.address, peer.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let difference = u32::from(ours) ^ u32::from(theirs);
                difference.checked_shr(32 - length).unwrap_or(0) == 0
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let difference = u128::from(ours) ^ u128::from(theirs);
                difference.checked_shr(128 - length).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// A vhost's access rules.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Security {
    /// True if the rules are looked at; off allows everything.
    pub enabled: bool,
    /// The rules in the order of the file.
    pub rules: Vec<Rule>,
}

impl Security {
    /// True if `peer` may do `action`. As in SRS: once enabled, what no rule
    /// allows is denied, and what any rule denies is denied too.
    #[must_use]
    pub fn permits(&self, action: Action, peer: IpAddr) -> bool {
        if !self.enabled {
            return true;
        }
        let mut allowed = false;
        let matching = self.rules.iter().filter(|rule| {
            rule.action == action && rule.network.is_none_or(|network| network.contains(peer))
        });
        for rule in matching {
            if !rule.allow {
                return false;
            }
            allowed = true;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allow: bool, action: Action, network: &str) -> Rule {
        let network = (network != "all").then(|| Network::parse(network).unwrap());
        Rule {
            allow,
            action,
            network,
        }
    }

    #[test]
    fn networks_hold_their_own_addresses_only() {
        for (network, inside, outside) in [
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("192.0.2.0/24", "::ffff:192.0.2.9", "::1"),
        ] {
            let network = Network::parse(network).unwrap();
            assert!(
                network.contains(inside.parse().unwrap()),
                "{network:?} lacks {inside}"
            );
            assert!(
                !network.contains(outside.parse().unwrap()),
                "{network:?} holds {outside}"
            );
        }
        for wrong in ["192.0.2.0/33", "host", "1.2.3", "::/129", "1.2.3.4/"] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn security_denies_by_default_once_it_is_on() {
        let peer = "192.0.2.7".parse().unwrap();
        let off = Security::default();
        assert!(off.permits(Action::Publish, peer));
        let on = Security {
            enabled: true,
            rules: vec![rule(true, Action::Play, "all")],
        };
        assert!(on.permits(Action::Play, peer));
        assert!(!on.permits(Action::Publish, peer));
    }

    #[test]
    fn a_denial_outweighs_an_allowance() {
        let rules = vec![
            rule(true, Action::Publish, "all"),
            rule(false, Action::Publish, "192.0.2.0/24"),
        ];
        let security = Security {
            enabled: true,
            rules,
        };
        assert!(!security.permits(Action::Publish, "192.0.2.7".parse().unwrap()));
        assert!(security.permits(Action::Publish, "198.51.100.1".parse().unwrap()));
    }
}
