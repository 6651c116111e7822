//! Addresses of interfaces.

use std::io;
use std::net::IpAddr;

use nix::errno::Errno;
use rtnetlink::Handle;
use rtnetlink::packet_route::address::AddressAttribute;

use super::{errno, io_error};

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

/// Whether an address had to be added.
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
    match request.execute().await {
        Ok(()) => Ok(Added::New),
        Err(error) if errno(&error) == Some(Errno::EEXIST) => Ok(Added::AlreadyThere),
        Err(error) => Err(io_error(error)),
    }
}

/// Removes an address from an interface; one that is gone already is no error.
///
/// # Errors
/// The kernel refuses.
pub async fn remove(handle: &Handle, address: &InterfaceAddress) -> io::Result<()> {
    let request = handle.address().add(
        address.interface_index,
        address.address,
        address.prefix_length,
    );
    let mut request = request;
    let mut message = request.message_mut().clone();
    message
        .attributes
        .retain(|attribute| !matches!(attribute, AddressAttribute::Broadcast(_)));
    match handle.address().del(message).execute().await {
        Ok(()) => Ok(()),
        Err(error) => match errno(&error) {
            Some(Errno::EADDRNOTAVAIL | Errno::ENODEV) => Ok(()),
            _ => Err(io_error(error)),
        },
    }
}
