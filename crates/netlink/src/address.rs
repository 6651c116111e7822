//! Addresses of interfaces.

use std::io;
use std::net::IpAddr;

use nix::errno::Errno;
use rtnetlink::Handle;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, CacheInfo};

use super::{errno, io_error};

/// A lifetime without end (RFC 4861 §4.6.2).
const FOREVER: u32 = u32::MAX;

/// An address with its prefix length on an interface.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InterfaceAddress {
    /// Index of the interface.
    pub interface_index: u32,
    /// The address.
    pub address: IpAddr,
    /// Its prefix length.
    pub prefix_length: u8,
    /// Its label, for IPv4.
    pub label: Option<String>,
}

/// The result of adding an address or a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It was not there before.
    New,
    /// It was there already.
    AlreadyThere,
}

/// Adds an address to an interface, without a broadcast address as keepalived
/// does.
///
/// # Errors
/// The kernel refuses; `EPERM` without `CAP_NET_ADMIN`.
pub async fn add(handle: &Handle, address: &InterfaceAddress) -> io::Result<Added> {
    let mut request = handle.address().add(
        address.interface_index,
        address.address,
        address.prefix_length,
    );
    let attributes = &mut request.message_mut().attributes;
    attributes.retain(|attribute| !matches!(attribute, AddressAttribute::Broadcast(_)));
    attributes.extend(address.label.clone().map(AddressAttribute::Label));
    if address.address.is_ipv6() {
        attributes.extend(ipv6_attributes(address.prefix_length));
    }
    match request.execute().await {
        Ok(()) => Ok(Added::New),
        Err(error) if errno(&error) == Some(Errno::EEXIST) => Ok(Added::AlreadyThere),
        Err(error) => Err(io_error(error)),
    }
}

/// Attributes of IPv6 addresses, as keepalived sets them. Without duplicate address
/// detection they are usable at once, though their last holder may still answer for
/// them. One with prefix length 128 is deprecated (RFC 4862 §5.5.4), so that the kernel
/// does not choose it as the source of our own packets.
fn ipv6_attributes(prefix_length: u8) -> Vec<AddressAttribute> {
    let mut attributes = vec![AddressAttribute::Flags(AddressFlags::Nodad)];
    if prefix_length == 128 {
        let mut lifetimes = CacheInfo::default();
        lifetimes.ifa_preferred = 0;
        lifetimes.ifa_valid = FOREVER;
        attributes.push(AddressAttribute::CacheInfo(lifetimes));
    }
    attributes
}

/// Removes an address from an interface; returns true if it was there.
///
/// # Errors
/// The kernel refuses.
pub async fn remove(handle: &Handle, address: &InterfaceAddress) -> io::Result<bool> {
    let mut request = handle.address().add(
        address.interface_index,
        address.address,
        address.prefix_length,
    );
    let mut message = request.message_mut().clone();
    message
        .attributes
        .retain(|attribute| !matches!(attribute, AddressAttribute::Broadcast(_)));
    match handle.address().del(message).execute().await {
        Ok(()) => Ok(true),
        Err(error) => match errno(&error) {
            Some(Errno::EADDRNOTAVAIL | Errno::ENODEV) => Ok(false),
            _ => Err(io_error(error)),
        },
    }
}
