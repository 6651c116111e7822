//! The interfaces of this machine and their addresses, followed as they change.

use net_types::MacAddress;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::link;
use super::{Connection, io_error};

/// Notifications of the kernel that are answered by reading everything once.
const MAX_NOTIFICATIONS: usize = 256;

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its index.
    pub index: u32,
    /// Its MAC address, if it is of the Ethernet kind.
    pub mac: Option<MacAddress>,
    /// The largest packet that it takes, in bytes.
    pub mtu: u32,
    /// True if it is up and has a carrier.
    pub running: bool,
    /// Its usable addresses, in the kernel's order: the primary first.
    pub addresses: Vec<IpAddr>,
}

/// All interfaces, by name.
pub type Interfaces = BTreeMap<String, Interface>;

/// Follows the interfaces until this is dropped.
#[derive(Debug)]
pub struct Watcher {
    interfaces: watch::Receiver<Arc<Interfaces>>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Watcher {
    /// Reads all interfaces and begins to follow them.
    ///
    /// # Errors
    /// The kernel gives no netlink socket or does not answer.
    pub async fn start() -> io::Result<Self> {
        // Subscribed before the first reading: a change in between is not lost.
        let (notifications, _, events) = new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
        ])?;
        let requests = Connection::open()?;
        let notifications = tokio::spawn(notifications);
        let (publish, interfaces) = watch::channel(Arc::new(read(&requests.handle).await?));
        let follow = tokio::spawn(async move {
            // All of the connection, which ends when it is dropped: `requests.handle`
            // alone would capture just that field.
            let requests = requests;
            let mut events = Box::pin(events.ready_chunks(MAX_NOTIFICATIONS));
            while events.next().await.is_some() {
                match read(&requests.handle).await {
                    Ok(now) => {
                        publish.send_if_modified(|before| {
                            let changed = **before != now;
                            *before = Arc::new(now);
                            changed
                        });
                    }
                    Err(error) => log::warn!("cannot read the list of interfaces: {error}"),
                }
            }
        });
        Ok(Self {
            interfaces,
            _tasks: [notifications, follow].map(AbortOnDropHandle::new),
        })
    }

    /// The interfaces, now and later.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Interfaces>> {
        self.interfaces.clone()
    }
}

/// The addresses of this machine; none where the kernel does not answer.
pub async fn own_addresses() -> Vec<IpAddr> {
    let Ok(netlink) = Connection::open() else {
        return Vec::new();
    };
    let interfaces = read(&netlink.handle).await.unwrap_or_default();
    let interfaces = interfaces.into_values();
    interfaces
        .flat_map(|interface| interface.addresses)
        .collect()
}

/// Reads all interfaces once.
///
/// # Errors
/// The kernel does not answer.
pub async fn read(handle: &Handle) -> io::Result<Interfaces> {
    let mut addresses: BTreeMap<u32, Vec<IpAddr>> = BTreeMap::new();
    let mut messages = handle.address().get().execute();
    while let Some(message) = messages.try_next().await.map_err(io_error)? {
        if let Some(address) = usable(&message) {
            addresses
                .entry(message.header.index)
                .or_default()
                .push(address);
        }
    }
    let links = link::all(handle).await?;
    Ok(links
        .into_iter()
        .map(|link| {
            let interface = Interface {
                index: link.index,
                mac: link.mac,
                mtu: link.mtu,
                running: link.running,
                addresses: addresses.remove(&link.index).unwrap_or_default(),
            };
            (link.name, interface)
        })
        .collect())
}

/// The address of a message, unless duplicate address detection still runs
/// (RFC 4862 §5.4): it cannot be bound to before.
fn usable(message: &AddressMessage) -> Option<IpAddr> {
    let mut local = None;
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Flags(flags)
                if flags.contains(AddressFlags::Tentative)
                    && !flags.contains(AddressFlags::Optimistic) =>
            {
                return None;
            }
            _ => {}
        }
    }
    // On a point-to-point link "address" is the other end's.
    local.or(address)
}
