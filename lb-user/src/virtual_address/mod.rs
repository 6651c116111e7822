//! Virtual addresses: a master holds them and tells the network segment so.

mod arp;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::netlink;
use crate::netlink::address::{self, Added, InterfaceAddress};
use crate::netlink::link::{self, Link};
use arp::{FrameSender, announcement};

/// A virtual address, and where it is held.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VirtualAddress {
    /// The address.
    pub address: IpAddr,
    /// Its prefix length.
    pub prefix_length: u8,
    /// Name of the interface.
    pub interface: String,
    /// Its label, for IPv4.
    pub label: Option<String>,
}

/// How gratuitous ARPs are sent (keepalived.conf(5), `garp_master_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announcing {
    /// How many in a volley.
    pub repeat: u32,
    /// Delay of the second volley; zero for none.
    pub delay: Duration,
}

impl Default for Announcing {
    fn default() -> Self {
        Self {
            repeat: 5,
            delay: Duration::from_secs(5),
        }
    }
}

/// Why an address cannot be held or announced.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The interface does not exist.
    #[error("there is no network interface {0}")]
    NoInterface(String),
    /// The kernel refuses the address.
    #[error("cannot add {address} to {interface}: {source}")]
    Add {
        /// The address.
        address: IpAddr,
        /// Name of the interface.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel does not answer about interfaces.
    #[error("cannot read the list of interfaces: {0}")]
    Interfaces(#[source] io::Error),
    /// Gratuitous ARPs cannot be sent.
    #[error("cannot open a packet socket for gratuitous ARP (needs CAP_NET_RAW): {0}")]
    PacketSocket(#[source] io::Error),
}

/// The virtual addresses that are held now.
#[derive(Debug)]
pub struct Mastership {
    /// What was added, and so is to be removed.
    added: Vec<(InterfaceAddress, String)>,
    announcer: Option<JoinHandle<()>>,
}

impl Mastership {
    /// Adds the addresses and announces them.
    ///
    /// An address that is there already is announced, and left alone at the end.
    ///
    /// # Errors
    /// An interface is missing or the kernel refuses an address; what was added
    /// until then has been removed again.
    pub async fn take(
        connection: &netlink::Connection,
        addresses: &[VirtualAddress],
        announcing: Announcing,
    ) -> Result<Self, Error> {
        let mut mastership = Self {
            added: Vec::new(),
            announcer: None,
        };
        match mastership.add_all(connection, addresses).await {
            Ok(frames) => {
                let sender = FrameSender::open().map_err(Error::PacketSocket);
                match sender {
                    Ok(sender) => {
                        mastership.announcer =
                            Some(tokio::spawn(announce(sender, frames, announcing)));
                        Ok(mastership)
                    }
                    Err(error) => {
                        mastership.release(connection).await;
                        Err(error)
                    }
                }
            }
            Err(error) => {
                mastership.release(connection).await;
                Err(error)
            }
        }
    }

    async fn add_all(
        &mut self,
        connection: &netlink::Connection,
        addresses: &[VirtualAddress],
    ) -> Result<Vec<(u32, Vec<u8>)>, Error> {
        let mut links: HashMap<&str, Link> = HashMap::new();
        let mut frames = Vec::new();
        for wanted in addresses {
            let interface = wanted.interface.as_str();
            if !links.contains_key(interface) {
                let link = link::by_name(&connection.handle, interface)
                    .await
                    .map_err(Error::Interfaces)?
                    .ok_or_else(|| Error::NoInterface(interface.to_owned()))?;
                links.insert(interface, link);
            }
            let link = &links[interface];
            let address = InterfaceAddress {
                interface_index: link.index,
                address: wanted.address,
                prefix_length: wanted.prefix_length,
                label: wanted.label.clone(),
            };
            let added = address::add(&connection.handle, &address)
                .await
                .map_err(|source| Error::Add {
                    address: wanted.address,
                    interface: interface.to_owned(),
                    source,
                })?;
            match added {
                Added::New => {
                    log::info!("{}: added to {interface}", wanted.address);
                    self.added.push((address, interface.to_owned()));
                }
                Added::AlreadyThere => log::warn!(
                    "{}: was on {interface} already, and will be left there on exit",
                    wanted.address
                ),
            }
            if let (IpAddr::V4(address), Some(mac)) = (wanted.address, link.mac) {
                frames.push((link.index, announcement(address, mac).to_vec()));
            }
        }
        Ok(frames)
    }

    /// Removes the addresses that were added.
    pub async fn release(mut self, connection: &netlink::Connection) {
        if let Some(announcer) = self.announcer.take() {
            announcer.abort();
        }
        for (address, interface) in self.added.drain(..) {
            match address::remove(&connection.handle, &address).await {
                Ok(()) => log::info!("{}: removed from {interface}", address.address),
                Err(error) => {
                    log::error!(
                        "{}: cannot be removed from {interface}: {error}",
                        address.address
                    )
                }
            }
        }
    }
}

async fn announce(sender: FrameSender, frames: Vec<(u32, Vec<u8>)>, announcing: Announcing) {
    volley(&sender, &frames, announcing.repeat);
    if !announcing.delay.is_zero() {
        tokio::time::sleep(announcing.delay).await;
        volley(&sender, &frames, announcing.repeat);
    }
}

fn volley(sender: &FrameSender, frames: &[(u32, Vec<u8>)], repeat: u32) {
    for _ in 0..repeat {
        for (interface_index, frame) in frames {
            if let Err(error) = sender.send(*interface_index, frame) {
                log::warn!("gratuitous ARP not sent: {error}");
            }
        }
    }
}
