//! MAC addresses and networks as people write them, and the Internet checksum.

#![forbid(unsafe_code)]

mod checksum;
mod mac_address;
mod network;

pub use checksum::{internet_checksum, pseudo_header};
pub use mac_address::{MacAddress, NoMacAddress};
pub use network::Network;
