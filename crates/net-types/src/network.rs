//! Networks: all addresses that begin alike.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `ADDRESS` or `ADDRESS/LENGTH`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_length: u8,
}

impl Network {
    /// The addresses whose first `prefix_length` bits are those of `address`; all of
    /// them, where it has no more.
    pub const fn new(address: IpAddr, prefix_length: u8) -> Self {
        Self {
            address,
            prefix_length,
        }
    }

    /// One of its addresses.
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// How many bits its addresses have in common.
    pub const fn prefix_length(self) -> u8 {
        self.prefix_length
    }

    /// Whether `address` is one of its own.
    pub fn has(self, address: IpAddr) -> bool {
        self.overlaps(Self::new(address, u8::MAX))
    }

    /// Whether they have an address in common: one lies within the other.
    pub fn overlaps(self, other: Self) -> bool {
        let length = self.prefix_length.min(other.prefix_length);
        let kept = |bits: u128, longest: u8| match longest.saturating_sub(length) {
            128 => 0,
            dropped => bits >> dropped,
        };
        match (self.address, other.address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                kept(a.to_bits().into(), 32) == kept(b.to_bits().into(), 32)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => kept(a.to_bits(), 128) == kept(b.to_bits(), 128),
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (address, length) = match text.split_once('/') {
                Some((address, length)) => (address, Some(length)),
                None => (text, None),
            };
            let address: IpAddr = address.parse().ok()?;
            let longest = if address.is_ipv4() { 32 } else { 128 };
            let prefix_length = match length {
                Some(length) => length.parse().ok().filter(|length| *length <= longest)?,
                None => longest,
            };
            Some(Self::new(address, prefix_length))
        };
        parse().ok_or_else(|| format!("`{text}` is no address; expected ADDRESS or ADDRESS/LENGTH"))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_length)
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
