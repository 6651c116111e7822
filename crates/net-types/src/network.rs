//! Networks in CIDR notation (RFC 4632).

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An IPv4 or IPv6 network, written `ADDRESS/LENGTH`, or `ADDRESS` for a single
/// address. The address is kept as it was written, with the bits beyond the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(IpNet);

impl Network {
    /// The network of the addresses whose first `prefix_length` bits are those of
    /// `address`; a longer prefix than the address is the address itself.
    pub fn new(address: IpAddr, prefix_length: u8) -> Self {
        Self(IpNet::new(address, prefix_length).unwrap_or_else(|_| address.into()))
    }

    /// The address that it was written with.
    pub fn address(self) -> IpAddr {
        self.0.addr()
    }

    /// Length of the prefix in bits.
    pub fn prefix_length(self) -> u8 {
        self.0.prefix_len()
    }

    /// The first of its addresses: all bits beyond the prefix are 0.
    pub fn first(self) -> IpAddr {
        self.0.network()
    }

    /// This network, written with its first address.
    #[must_use]
    pub fn truncated(self) -> Self {
        Self(self.0.trunc())
    }

    /// Returns true if `address` is in the network.
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Returns true if the two have an address in common: one lies within the other.
    pub fn overlaps(self, other: Self) -> bool {
        self.0.contains(&other.0) || other.0.contains(&self.0)
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || match text.split_once('/') {
            Some((address, length)) => {
                let (address, length) = (address.parse().ok()?, length.parse().ok()?);
                IpNet::new(address, length).ok()
            }
            None => text.parse::<IpAddr>().ok().map(IpNet::from),
        };
        parse()
            .map(Self)
            .ok_or_else(|| format!("`{text}` is no address; expected ADDRESS or ADDRESS/LENGTH"))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Network {
    fn schema_name() -> Cow<'static, str> {
        "Network".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().expect("a network")
    }

    #[test]
    fn an_address_alone_is_a_network_of_one_and_bits_beyond_the_prefix_are_kept() {
        let table = [
            ("192.0.2.7", "192.0.2.7/32"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("192.0.2.7/24", "192.0.2.7/24"),
            ("::/0", "::/0"),
        ];
        for (text, expected) in table {
            assert_eq!(network(text).to_string(), expected);
        }
        let wrong = [
            "",
            "host",
            "1.2.3",
            "192.0.2.0/33",
            "::/129",
            "1.2.3.4/",
            "1.2.3.4/8/9",
            "/8",
        ];
        for wrong in wrong {
            let error = wrong.parse::<Network>().expect_err(wrong);
            let expected = format!("`{wrong}` is no address; expected ADDRESS or ADDRESS/LENGTH");
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn a_network_contains_the_addresses_with_its_prefix() {
        // A network, an address within, one without.
        let table = [
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.7/24", "192.0.2.255", "192.0.3.0"),
            ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::/0", "ff02::1", "192.0.2.1"),
        ];
        for (text, inside, outside) in table {
            let contains = |address: &str| {
                let address = address.parse().expect("an address");
                network(text).contains(address)
            };
            assert!(contains(inside), "{text} lacks {inside}");
            assert!(!contains(outside), "{text} has {outside}");
        }
    }

    #[test]
    fn networks_overlap_where_one_lies_within_the_other() {
        let table = [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.1.2.3", "10.0.0.0/8", true),
            ("10.0.0.0/9", "10.128.0.0/9", false),
            ("0.0.0.0/0", "::/0", false),
            ("fd00::/8", "fd12::/16", true),
        ];
        for (one, other, expected) in table {
            assert_eq!(
                network(one).overlaps(network(other)),
                expected,
                "{one}, {other}"
            );
        }
    }

    #[test]
    fn the_first_address_has_no_bits_beyond_the_prefix() {
        let table = [
            ("10.1.2.3", 8, "10.0.0.0"),
            ("10.1.2.3", 32, "10.1.2.3"),
            ("10.1.2.3", 0, "0.0.0.0"),
            ("10.1.2.3", 255, "10.1.2.3"),
            ("fd00::1:2", 112, "fd00::1:0"),
            ("fd00::1", 128, "fd00::1"),
            ("fd00::1", 0, "::"),
        ];
        for (address, length, expected) in table {
            let network = Network::new(address.parse().expect("an address"), length);
            assert_eq!(network.first().to_string(), expected);
        }
    }

    #[test]
    fn json_has_the_text() {
        let read: Network = serde_json::from_str("\"fd00::/8\"").expect("a network");
        let written = serde_json::to_string(&read).expect("it is text");
        assert_eq!(written, "\"fd00::/8\"");
        assert!(serde_json::from_str::<Network>("\"fd00::/129\"").is_err());
    }
}
