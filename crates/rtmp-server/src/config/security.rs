//! `security { enabled on; allow|deny publish|play all|ADDRESS|CIDR; }`.

use std::net::IpAddr;

use net_types::Network;
use serde::{Serialize, Serializer};

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
    #[serde(serialize_with = "serialize_parts")]
    pub network: Option<Network>,
}

/// Writes a network as its two parts: `{"address": …, "prefix_length": …}`.
fn serialize_parts<S: Serializer>(
    network: &Option<Network>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Parts {
        address: IpAddr,
        prefix_length: u8,
    }
    let parts = network.map(|network| Parts {
        address: network.address(),
        prefix_length: network.prefix_length(),
    });
    parts.serialize(serializer)
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
        // An IPv4 client of a dual-stack socket has an address such as ::ffff:192.0.2.7.
        let peer = peer.to_canonical();
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
        let network = (network != "all").then(|| network.parse().unwrap());
        Rule {
            allow,
            action,
            network,
        }
    }

    #[test]
    fn a_rule_is_for_the_addresses_of_its_network() {
        for (network, inside, outside) in [
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("192.0.2.0/24", "::ffff:192.0.2.9", "::1"),
        ] {
            let security = Security {
                enabled: true,
                rules: vec![rule(true, Action::Play, network)],
            };
            let permits = |peer: &str| security.permits(Action::Play, peer.parse().unwrap());
            assert!(permits(inside), "{network} lacks {inside}");
            assert!(!permits(outside), "{network} holds {outside}");
        }
    }

    #[test]
    fn a_rule_is_printed_with_address_and_prefix_length() {
        let printed = serde_json::to_value(rule(true, Action::Play, "192.0.2.0/24")).unwrap();
        let network = serde_json::json!({"address": "192.0.2.0", "prefix_length": 24});
        let expected = serde_json::json!({"allow": true, "action": "play", "network": network});
        assert_eq!(printed, expected);
        let all = serde_json::to_value(rule(true, Action::Play, "all")).unwrap();
        assert_eq!(all["network"], serde_json::Value::Null);
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
