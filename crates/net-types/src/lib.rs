//! MAC addresses and networks as people write them.

#![forbid(unsafe_code)]

mod mac_address;
mod network;

pub use mac_address::{MacAddress, NoMacAddress};
pub use network::Network;
