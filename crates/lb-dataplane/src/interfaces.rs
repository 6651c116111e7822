//! The addresses of the interfaces whose frames the program sees.

use std::io;

use aya::Ebpf;
use aya::maps::{HashMap, MapData, MapError};
use lb_abi::{Interface, MAX_INTERFACES, Mac, maps};
use net_types::MacAddress;
use nix::ifaddrs::getifaddrs;

use super::error::Error;
use super::map_io::{read, take, write};

/// The map of interfaces' addresses.
pub(crate) struct Interfaces {
    map: HashMap<MapData, u32, Interface>,
}

impl Interfaces {
    /// Takes the map out of a loaded object.
    pub(crate) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let map = take(ebpf, maps::INTERFACES)?;
        Ok(Self { map })
    }

    /// Writes the addresses of `interfaces`, by index and name, as they are now, and removes
    /// those of others. Where an address is not known, the program counts all frames of
    /// that interface as addressed to us.
    pub(crate) fn update<'a>(
        &mut self,
        interfaces: impl Iterator<Item = (u32, &'a str)>,
    ) -> Result<(), Error> {
        let now: Vec<(u32, Interface)> = interfaces
            .filter_map(|(index, name)| Some((index, interface(name)?)))
            .take(MAX_INTERFACES)
            .collect();
        let known = read(
            maps::INTERFACES,
            self.map.keys().collect::<Result<Vec<_>, _>>(),
        )?;
        for index in known {
            if !now.iter().any(|(other, _)| *other == index) {
                match self.map.remove(&index) {
                    Err(MapError::KeyNotFound) => {}
                    result => write(maps::INTERFACES, result)?,
                }
            }
        }
        for (index, interface) in now {
            write(maps::INTERFACES, self.map.insert(index, interface, 0))?;
        }
        Ok(())
    }
}

/// The record of an Ethernet interface; `None` for others, which have addresses of
/// other lengths, or none.
fn interface(name: &str) -> Option<Interface> {
    let MacAddress(mac) = mac_address(name).ok()??;
    Some(Interface {
        mac: mac.into(),
        reserved: 0,
    })
}

/// The MAC address of an interface, all zero for `lo`; `None` if it is none of Ethernet's kind,
/// or does not exist.
///
/// # Errors
/// The kernel does not list its interfaces.
pub fn mac_address(interface: &str) -> io::Result<Option<MacAddress>> {
    let mut of_interface = getifaddrs()?.filter(|found| found.interface_name == interface);
    let address = of_interface.find_map(|found| {
        let address = found.address?;
        let link = address.as_link_addr()?;
        (link.halen() == size_of::<Mac>()).then(|| link.addr())?
    });
    Ok(address.map(MacAddress))
}
