//! One virtual router with its sockets and its addresses.

use net_types::MacAddress;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::holder::Holder;
use super::machine::{Cause, Machine, State};
use super::packet::{Heard, PRIORITY_LEAVING, Peer, Refusal, Senders};
use super::settings::{InstanceSettings, Transport, VirtualAddress};
use super::socket::{Channel, Destinations, Endpoint, Received};
use super::status::{Counters, InstanceStatus};
use netlink::interfaces::{Interface, Interfaces};

/// Tells the packets of one virtual router from those of another, and from its
/// own of earlier sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChannelId(pub u64);

/// What the sockets of a virtual router have received.
#[derive(Debug)]
pub struct Arrival {
    /// By which sockets.
    pub channel: ChannelId,
    /// What; or the error that ended the receiving.
    pub received: io::Result<Received>,
}

/// A virtual router's sockets, and the task that receives.
#[derive(Debug)]
struct OpenChannel {
    id: ChannelId,
    channel: Arc<Channel>,
    task: JoinHandle<()>,
}

impl Drop for OpenChannel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A virtual router.
#[derive(Debug)]
pub struct Instance {
    pub settings: InstanceSettings,
    pub holder: Holder,
    pub counters: Counters,
    open: Option<OpenChannel>,
    /// Why the sockets could not be opened.
    trouble: Option<String>,
    since: SystemTime,
    cause: Cause,
    /// As master: all addresses have been seen on their interfaces.
    seen_holding: bool,
    /// The MAC addresses of the interfaces with virtual addresses.
    macs: BTreeMap<String, MacAddress>,
    /// Whether the state noted last is master.
    is_master: bool,
}

impl Instance {
    pub fn new(settings: InstanceSettings, holder: Holder) -> Self {
        Self {
            settings,
            holder,
            counters: Counters::default(),
            open: None,
            trouble: None,
            since: SystemTime::now(),
            cause: Cause::Configured,
            seen_holding: false,
            macs: BTreeMap::new(),
            is_master: false,
        }
    }

    /// Whether `other` is, for the network, the same virtual router.
    pub fn is_same_router(&self, other: &InstanceSettings) -> bool {
        let key = |settings: &InstanceSettings| {
            let format = &settings.format;
            let id = format.virtual_router_id();
            (
                settings.name.clone(),
                settings.interface.clone(),
                id,
                format.is_ipv6(),
            )
        };
        key(&self.settings) == key(other)
            && self.settings.format.version() == other.format.version()
    }

    /// Notes that a state was entered.
    pub fn note(&mut self, state: State, cause: Cause) {
        self.since = SystemTime::now();
        self.cause = cause;
        self.seen_holding = false;
        let was_master = std::mem::replace(&mut self.is_master, state == State::Master);
        self.counters.became_master += u64::from(self.is_master);
        self.counters.released_master += u64::from(was_master && !self.is_master);
    }

    /// Whether opening the sockets is to be tried again.
    pub fn is_in_trouble(&self) -> bool {
        self.trouble.is_some()
    }

    pub fn has_channel(&self, id: ChannelId) -> bool {
        self.open.as_ref().is_some_and(|open| open.id == id)
    }

    /// The address that adverts are sent from.
    pub fn local_address(&self) -> Option<IpAddr> {
        self.open
            .as_ref()
            .map(|open| open.channel.endpoint().source)
    }

    /// Opens the sockets for what the interface is now, unless they are open
    /// for just that. Says what is missing, if anything.
    pub fn connect(
        &mut self,
        interfaces: &Interfaces,
        next_id: &mut u64,
        arrivals: &mpsc::Sender<Arrival>,
    ) -> Option<String> {
        let endpoint = match self.endpoint(interfaces) {
            Ok(endpoint) => endpoint,
            Err(missing) => {
                self.open = None;
                self.trouble = None;
                return Some(missing);
            }
        };
        if let Some(open) = &self.open
            && *open.channel.endpoint() == endpoint
        {
            return None;
        }
        self.open = None;
        match Channel::open(endpoint) {
            Ok(channel) => {
                *next_id += 1;
                self.open = Some(receive(channel, ChannelId(*next_id), arrivals.clone()));
                self.trouble = None;
            }
            Err(error) => {
                let interface = &self.settings.interface;
                self.trouble = Some(format!("cannot open sockets on {interface}: {error}"));
            }
        }
        self.trouble.clone()
    }

    /// Gives up sockets that no longer receive.
    pub fn disconnect(&mut self, error: &io::Error) {
        self.open = None;
        self.trouble = Some(format!(
            "cannot receive on {}: {error}",
            self.settings.interface
        ));
    }

    fn endpoint(&self, interfaces: &Interfaces) -> Result<Endpoint, String> {
        let settings = &self.settings;
        let name = &settings.interface;
        let interface = interfaces
            .get(name)
            .ok_or_else(|| format!("there is no interface {name}"))?;
        let source = settings
            .source
            .or_else(|| self.first_address(interface))
            .ok_or_else(|| match settings.format.is_ipv6() {
                false => format!("{name} has no IPv4 address"),
                true => format!("{name} has no link-local IPv6 address"),
            })?;
        if settings.source_must_exist && !interface.addresses.contains(&source) {
            return Err(format!("{name} does not have the address {source}"));
        }
        let destinations = match &settings.transport {
            Transport::Multicast(group) => Destinations::Multicast(*group),
            Transport::Unicast {
                peers,
                time_to_live,
                ..
            } => Destinations::Unicast {
                peers: peers.iter().map(|peer| peer.address).collect(),
                time_to_live: *time_to_live,
            },
        };
        Ok(Endpoint {
            interface: name.clone(),
            interface_index: interface.index,
            source,
            destinations,
            virtual_router_id: settings.format.virtual_router_id(),
        })
    }

    /// The interface's first address, virtual ones left aside.
    fn first_address(&self, interface: &Interface) -> Option<IpAddr> {
        let is_virtual = |address: &IpAddr| {
            self.settings
                .addresses
                .iter()
                .any(|held| held.address == *address)
        };
        let is_ours = |address: &IpAddr| match address {
            IpAddr::V4(_) => !self.settings.format.is_ipv6(),
            IpAddr::V6(v6) => self.settings.format.is_ipv6() && is_link_local(v6),
        };
        let mut candidates = interface
            .addresses
            .iter()
            .filter(|address| !is_virtual(address));
        candidates.find(|address| is_ours(address)).copied()
    }

    /// Sends an advert to all that are to have it.
    pub fn advertise(&mut self, priority: u8) {
        let Some(open) = &self.open else { return };
        let endpoint = open.channel.endpoint();
        for destination in endpoint.destinations.addresses() {
            let advert = self
                .settings
                .format
                .encode(priority, endpoint.source, *destination);
            match open.channel.send(&advert, *destination) {
                Ok(()) => {
                    self.counters.adverts_sent += 1;
                    self.counters.leaving_sent += u64::from(priority == PRIORITY_LEAVING);
                }
                Err(error) => {
                    self.counters.adverts_not_sent += 1;
                    log::debug!("{}: advert to {destination}: {error}", self.settings.name);
                }
            }
        }
    }

    /// Looks at what has arrived, and counts it.
    pub fn check(&mut self, received: &Received) -> Option<Heard> {
        let settings = &self.settings;
        let peers: &[Peer];
        let senders = match &settings.transport {
            Transport::Multicast(_) => Senders::OnLink,
            Transport::Unicast {
                peers: all,
                check_source: true,
                ..
            } => {
                peers = all;
                Senders::Peers(peers)
            }
            Transport::Unicast { .. } => Senders::Anyone,
        };
        let result = received
            .datagram()
            .and_then(|datagram| settings.format.check(&datagram, senders));
        match result {
            Ok(heard) => {
                self.counters.adverts_received += 1;
                self.counters.leaving_received += u64::from(heard.priority == PRIORITY_LEAVING);
                Some(heard)
            }
            Err(refusal) => {
                self.count_dropped(refusal);
                None
            }
        }
    }

    /// One line when a reason shows up for the first time; the rest is counted.
    fn count_dropped(&mut self, refusal: Refusal) {
        let count = self.counters.adverts_dropped.entry(refusal).or_default();
        *count += 1;
        if *count == 1 {
            log::warn!(
                "{}: an advert on {} is dropped, and so will others be: {refusal}",
                self.settings.name,
                self.settings.interface
            );
        }
    }

    /// In `fault`: what keeps it there now may be something else than what brought
    /// it there.
    pub fn renew_fault(&mut self, reason: String) {
        if let Cause::Fault(known) = &mut self.cause {
            *known = reason;
        }
    }

    /// Whether all virtual addresses are on their interfaces.
    pub fn is_holding(&self, interfaces: &Interfaces) -> bool {
        self.settings
            .addresses
            .iter()
            .all(|held| is_on(held, interfaces))
    }

    /// The virtual addresses that are on their interfaces.
    pub fn leftovers(&self, interfaces: &Interfaces) -> Vec<VirtualAddress> {
        let mut addresses = self.settings.addresses.clone();
        addresses.retain(|held| is_on(held, interfaces));
        addresses
    }

    /// As master: whether addresses that were there have been taken away.
    pub fn has_lost_addresses(&mut self, interfaces: &Interfaces) -> bool {
        let holding = self.is_holding(interfaces);
        let lost = self.seen_holding && !holding;
        self.seen_holding = holding;
        lost
    }

    /// The virtual addresses on interfaces whose MAC address has changed.
    pub fn moved_addresses(&mut self, interfaces: &Interfaces) -> Vec<VirtualAddress> {
        let mut moved = self.settings.addresses.clone();
        let mac = |held: &VirtualAddress| interfaces.get(&held.interface)?.mac;
        moved.retain(|held| {
            let before = self.macs.get(&held.interface);
            before.is_some() && mac(held).is_some_and(|now| before != Some(&now))
        });
        let now = self.settings.addresses.iter();
        let now = now.filter_map(|held| Some((held.interface.clone(), mac(held)?)));
        self.macs.extend(now);
        moved
    }

    /// Takes new settings of the same virtual router.
    pub fn replace_settings(&mut self, settings: InstanceSettings, is_master: bool) {
        let before = std::mem::replace(&mut self.settings, settings);
        if !is_master {
            return;
        }
        self.seen_holding = false;
        let gone = missing_from(&before.addresses, &self.settings.addresses);
        let routes = missing_from(&before.routes, &self.settings.routes);
        self.holder.release(gone, routes);
        let new = missing_from(&self.settings.addresses, &before.addresses);
        let routes = self.settings.routes.clone();
        self.holder.hold(new.clone(), routes);
        self.announce(new);
    }

    /// Tells the network where addresses are.
    pub fn announce(&self, addresses: Vec<VirtualAddress>) {
        let InstanceSettings { policy, pauses, .. } = &self.settings;
        self.holder
            .announce(addresses, policy.announcing.repeat, *pauses);
    }

    pub fn status(&self, machine: &Machine, group: Option<&str>) -> InstanceStatus {
        let settings = &self.settings;
        let master = match machine.state() {
            State::Master => self.local_address(),
            _ => machine.master().map(|heard| heard.source),
        };
        InstanceStatus {
            name: settings.name.clone(),
            group: group.map(str::to_owned),
            interface: settings.interface.clone(),
            version: settings.format.version().number(),
            virtual_router_id: settings.format.virtual_router_id(),
            state: machine.state(),
            since: self
                .since
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            cause: self.cause.to_string(),
            priority: machine.priority(),
            base_priority: settings.priority,
            master,
            addresses: settings.addresses.iter().map(|held| held.address).collect(),
            advertised: settings.format.address_count(),
            counters: self.counters.clone(),
        }
    }
}

/// What of `these` is not among `others`.
fn missing_from<T: Clone + PartialEq>(these: &[T], others: &[T]) -> Vec<T> {
    let these = these.iter().filter(|it| !others.contains(it));
    these.cloned().collect()
}

fn is_on(held: &VirtualAddress, interfaces: &Interfaces) -> bool {
    let interface = interfaces.get(&held.interface);
    interface.is_some_and(|interface| interface.addresses.contains(&held.address))
}

fn is_link_local(address: &Ipv6Addr) -> bool {
    address.is_unicast_link_local()
}

fn receive(channel: Channel, id: ChannelId, arrivals: mpsc::Sender<Arrival>) -> OpenChannel {
    let channel = Arc::new(channel);
    let receiver = Arc::clone(&channel);
    let task = tokio::spawn(async move {
        loop {
            let received = receiver.receive().await;
            let is_over = received.is_err();
            let arrival = Arrival {
                channel: id,
                received,
            };
            if arrivals.send(arrival).await.is_err() || is_over {
                return;
            }
        }
    });
    OpenChannel { id, channel, task }
}
