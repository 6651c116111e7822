//! Neighbours: the MAC addresses that frames for the real servers go to.
//!
//! A [`Watcher`] looks up the route to each address it is told of, makes the
//! kernel resolve the neighbour on it, follows the kernel's notices, and
//! publishes a [`Hop`] per address.

mod hop;
mod netlink;
mod probes;
mod table;

use net_types::MacAddress;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use futures_util::StreamExt;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::{Handle, MulticastGroup, new_connection, new_multicast_connection};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

pub use hop::{Hop, Path};
use probes::{Probe, Probes};
use table::{Key, Neighbor, Route, Table};

use ::netlink::io_error;
use ::netlink::link::{self, Link};

/// Interval at which everything is read anew, in case a notice of the kernel's was lost.
const REFRESH_INTERVAL: Duration = Duration::from_secs(10);

/// Addresses that are nobody's (RFC 5737, RFC 3849): the route to them is the default
/// one.
const ELSEWHERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1)),
];

/// Addresses that frames must reach, with their MAC addresses where those are
/// named rather than asked for.
pub type Addresses = BTreeMap<IpAddr, Option<MacAddress>>;

/// The hops towards all addresses asked for.
pub type Hops = BTreeMap<IpAddr, Hop>;

/// Follows the hops towards a set of addresses, until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    addresses: watch::Sender<Addresses>,
    hops: watch::Receiver<Hops>,
    tasks: [JoinHandle<()>; 3],
}

impl Watcher {
    /// Starts to watch nothing yet; must be called within a tokio runtime.
    ///
    /// # Errors
    /// The kernel gives no netlink socket.
    pub fn start() -> io::Result<Self> {
        let (addresses, wanted) = watch::channel(Addresses::new());
        let (publish, hops) = watch::channel(Hops::new());
        // Subscribed before the first dump, so that no change falls between.
        let (notices, _, events) = new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Neigh,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Ipv6Ifaddr,
        ])?;
        let (requests, handle, _) = new_connection()?;
        let follower = Follower {
            handle,
            wanted,
            publish,
            table: Table::default(),
            probes: Probes::default(),
            forgotten: HashSet::new(),
        };
        let events = events.map(|(message, _)| message.payload);
        let tasks = [
            tokio::spawn(notices),
            tokio::spawn(requests),
            tokio::spawn(follower.run(events)),
        ];
        Ok(Self {
            addresses,
            hops,
            tasks,
        })
    }

    /// Replaces the set of addresses.
    pub fn watch(&self, addresses: Addresses) {
        self.addresses.send_if_modified(|current| {
            let changed = *current != addresses;
            *current = addresses;
            changed
        });
    }

    /// Waits until a hop has changed, and returns all of them.
    ///
    /// # Errors
    /// The watcher has come to an end: the kernel closed its sockets.
    pub async fn changed(&mut self) -> io::Result<Hops> {
        self.hops
            .changed()
            .await
            .map_err(|_| io::Error::other("the netlink connection has come to an end"))?;
        Ok(self.hops.borrow_and_update().clone())
    }
}

/// Index of the interface that a packet to `address` would leave by.
pub async fn interface_towards(handle: &Handle, address: IpAddr) -> Option<u32> {
    match netlink::route_to(handle, address).await {
        Route::Via {
            interface_index, ..
        } => Some(interface_index),
        Route::Local { .. } | Route::None(_) => None,
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

struct Follower {
    handle: Handle,
    wanted: watch::Receiver<Addresses>,
    publish: watch::Sender<Hops>,
    table: Table,
    probes: Probes,
    /// Neighbours that the kernel is being made to forget.
    forgotten: HashSet<Key>,
}

/// The work to do after a notice of the kernel's, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Consequence {
    Nothing,
    Publish,
    LookUpRoutes,
}

type Payload = NetlinkPayload<RouteNetlinkMessage>;

impl Follower {
    async fn run(mut self, events: impl futures_util::Stream<Item = Payload>) {
        // A route change comes as a burst of notices: one look-up answers all.
        let mut events = Box::pin(events.ready_chunks(256));
        self.refresh().await;
        let mut refreshed = Instant::now();
        // The kernel has no notices of neighbours that it knows already.
        self.follow_up().await;
        loop {
            let refresh_at = refreshed + REFRESH_INTERVAL;
            let ask_at = self.probes.next_at().map(Instant::from_std);
            tokio::select! {
                notices = events.next() => {
                    let Some(notices) = notices else { return };
                    match notices.into_iter().map(|notice| self.note(notice)).max() {
                        Some(Consequence::LookUpRoutes) => self.look_up_routes().await,
                        Some(Consequence::Publish) => {}
                        Some(Consequence::Nothing) | None => continue,
                    }
                }
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.look_up_routes().await;
                }
                () = sleep_until(ask_at.map_or(refresh_at, |at| at.min(refresh_at))) => {
                    if Instant::now() >= refresh_at {
                        self.refresh().await;
                        refreshed = Instant::now();
                    }
                }
            }
            self.follow_up().await;
        }
    }

    /// Sends the probes that are due and publishes the hops, once the table is up to date.
    async fn follow_up(&mut self) {
        self.send_probes().await;
        self.publish();
    }

    /// Takes a notice of the kernel's into the table.
    fn note(&mut self, payload: Payload) -> Consequence {
        let NetlinkPayload::InnerMessage(message) = payload else {
            return Consequence::Nothing;
        };
        match message {
            RouteNetlinkMessage::NewNeighbour(message) => {
                let Some((key, neighbor)) = netlink::neighbor(&message) else {
                    return Consequence::Nothing;
                };
                let now = Instant::now().into_std();
                if netlink::is_confirmed(&message) {
                    self.probes.confirmed(now, key);
                } else if matches!(neighbor, Neighbor::Known(_)) {
                    self.probes.learnt(now, key);
                }
                // What the kernel is made to forget, it says to have failed.
                if neighbor == Neighbor::Failed && self.forgotten.contains(&key) {
                    return Consequence::Nothing;
                }
                match self.table.note_neighbor(key, neighbor) {
                    true => Consequence::Publish,
                    false => Consequence::Nothing,
                }
            }
            // The kernel tidies its table; the MAC address is as good as it was
            // until the neighbour is asked again and fails.
            RouteNetlinkMessage::DelNeighbour(message) => {
                if let Some((key, _)) = netlink::neighbor(&message) {
                    self.forgotten.remove(&key);
                }
                Consequence::Nothing
            }
            RouteNetlinkMessage::NewLink(message) => {
                let link = Link::from(&message);
                let before = self.table.links.insert(link.index, link.clone());
                if before == Some(link) {
                    Consequence::Nothing
                } else {
                    Consequence::LookUpRoutes
                }
            }
            RouteNetlinkMessage::DelLink(message) => {
                let index = message.header.index;
                self.table.links.remove(&index);
                self.table
                    .neighbors
                    .retain(|(interface, _), _| *interface != index);
                Consequence::LookUpRoutes
            }
            RouteNetlinkMessage::NewRoute(_)
            | RouteNetlinkMessage::DelRoute(_)
            | RouteNetlinkMessage::NewAddress(_)
            | RouteNetlinkMessage::DelAddress(_) => Consequence::LookUpRoutes,
            _ => Consequence::Nothing,
        }
    }

    async fn look_up_routes(&mut self) {
        let wanted = self.wanted.borrow_and_update().clone();
        self.table
            .routes
            .retain(|address, _| wanted.contains_key(address));
        let named = wanted
            .iter()
            .filter_map(|(address, mac)| Some((*address, (*mac)?)));
        self.table.named = named.collect();
        for address in wanted.into_keys() {
            let route = netlink::route_to(&self.handle, address).await;
            self.table.routes.insert(address, route);
        }
        self.table.gateways.clear();
        for address in ELSEWHERE {
            if let Route::Via {
                interface_index,
                neighbor,
                ..
            } = netlink::route_to(&self.handle, address).await
                && neighbor != address
            {
                self.table.gateways.insert((interface_index, neighbor));
            }
        }
    }

    /// Reads links, neighbours and routes anew.
    async fn refresh(&mut self) {
        match link::all(&self.handle).await {
            Ok(links) => {
                self.table.links = links.into_iter().map(|link| (link.index, link)).collect();
            }
            Err(error) => log::warn!("cannot read the list of interfaces: {error}"),
        }
        match netlink::neighbors(&self.handle).await {
            Ok(neighbors) => self.replace_neighbors(neighbors),
            Err(error) => log::warn!("cannot read the neighbour table: {error}"),
        }
        self.look_up_routes().await;
    }

    /// Takes the kernel's whole table; of the neighbours in question, what was
    /// known stays, should the kernel have tidied them away.
    fn replace_neighbors(&mut self, now: Vec<(Key, Neighbor)>) {
        let in_question: HashSet<_> = self
            .table
            .routes
            .keys()
            .filter_map(|address| self.table.probe_target(*address))
            .collect();
        self.table
            .neighbors
            .retain(|key, _| in_question.contains(key));
        for (key, neighbor) in now {
            self.table.note_neighbor(key, neighbor);
        }
    }

    /// The neighbours in question of which the kernel knows, or does not know,
    /// the MAC address by asking.
    fn neighbors(&self, known: bool) -> BTreeSet<Key> {
        let probe_target = |address: &IpAddr| self.table.probe_target(*address);
        self.table
            .routes
            .keys()
            .filter_map(probe_target)
            .filter(|key| match self.table.neighbors.get(key) {
                Some(Neighbor::Known(_)) => known,
                Some(Neighbor::Fixed(_)) => false,
                Some(Neighbor::Failed | Neighbor::Incomplete) | None => !known,
            })
            .collect()
    }

    /// Asks whoever is to be asked. What was known stays good until there is an
    /// answer, or until there is none.
    async fn send_probes(&mut self) {
        let (known, unknown) = (self.neighbors(true), self.neighbors(false));
        let now = Instant::now().into_std();
        for (key, question) in self.probes.due(now, &known, &unknown) {
            let (interface, address) = key;
            match question {
                Probe::Confirm => {
                    let asked = netlink::confirm(&self.handle, interface, address).await;
                    if asked.is_err() {
                        self.probes.unknown_to_kernel(now, key);
                        self.resolve(key).await;
                    }
                }
                Probe::Renew => {
                    self.forgotten.insert(key);
                    let forgotten = netlink::forget(&self.handle, interface, address).await;
                    if forgotten.is_err() {
                        self.forgotten.remove(&key);
                    }
                    self.resolve(key).await;
                }
                Probe::Resolve => self.resolve(key).await,
            }
        }
    }

    /// Makes the kernel ask for a neighbour that it does not know.
    async fn resolve(&self, (interface, address): Key) {
        if let Err(error) = netlink::resolve(&self.handle, interface, address).await {
            log::debug!("the kernel does not resolve {address}: {}", io_error(error));
        }
    }

    fn publish(&mut self) {
        let wanted = self.wanted.borrow();
        let hops: Hops = wanted
            .keys()
            .map(|address| (*address, self.table.hop(*address)))
            .collect();
        drop(wanted);
        self.publish.send_if_modified(|current| {
            let changed = *current != hops;
            *current = hops;
            changed
        });
    }
}
