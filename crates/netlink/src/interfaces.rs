//! The interfaces of this machine and their addresses, followed as they change.

use net_types::MacAddress;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};
use tokio::runtime::Builder;
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

/// The addresses among which a source is looked for, by the address that is to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those of IPv4.
    Ipv4,
    /// Those of IPv6 that are valid beyond the link.
    Ipv6,
    /// Those of IPv6 that are valid on the link only (RFC 4291 §2.5.6).
    LinkLocalIpv6,
}

impl Scope {
    /// The scope that an address belongs to.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Self::LinkLocalIpv6,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }
}

impl Interface {
    /// Its first address of a scope, those left aside that several hosts share: what this host
    /// sends from in its own name.
    pub fn own_address(&self, scope: Scope, is_shared: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let mut addresses = self.addresses.iter().copied();
        addresses.find(|address| Scope::of(*address) == scope && !is_shared(*address))
    }
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

/// Reads all interfaces once, for a thread that has no runtime of tokio.
///
/// # Errors
/// No thread or descriptor left, or the kernel does not answer.
///
/// # Panics
/// If it is called within a runtime.
pub fn read_blocking() -> io::Result<Interfaces> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let netlink = Connection::open()?;
        read(&netlink.handle).await
    })
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_first_address_of_a_scope_that_is_not_shared_is_our_own() {
        let addresses = [
            "192.0.2.200",
            "192.0.2.11",
            "2001:db8::200",
            "fe80::200",
            "2001:db8::11",
            "fe80::11",
            "192.0.2.12",
        ];
        let interface = Interface {
            index: 2,
            mac: None,
            mtu: 1500,
            running: true,
            addresses: addresses.map(|it| it.parse().expect("an address")).to_vec(),
        };
        let is_shared = |address: IpAddr| address.to_string().ends_with("200");
        for (scope, first, own) in [
            (Scope::Ipv4, "192.0.2.200", "192.0.2.11"),
            (Scope::Ipv6, "2001:db8::200", "2001:db8::11"),
            (Scope::LinkLocalIpv6, "fe80::200", "fe80::11"),
        ] {
            let text = |found: Option<IpAddr>| found.map(|it| it.to_string());
            let found = text(interface.own_address(scope, |_| false));
            assert_eq!(found.as_deref(), Some(first));
            let found = text(interface.own_address(scope, is_shared));
            assert_eq!(found.as_deref(), Some(own));
            assert_eq!(interface.own_address(scope, |_| true), None);
        }
    }

    #[test]
    fn a_thread_without_a_runtime_can_read_the_interfaces() {
        let interfaces = read_blocking().expect("the kernel answers");
        let loopback = interfaces.get("lo").expect("there is always one");
        if loopback.running {
            let own = loopback.own_address(Scope::Ipv4, |_| false);
            assert_eq!(own, Some(Ipv4Addr::LOCALHOST.into()));
        }
    }
}
