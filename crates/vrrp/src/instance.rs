//! One virtual router with its sockets and its addresses.

use net_types::MacAddress;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use super::address_manager::AddressManager;
use super::machine::{Action, Cause, Machine, State};
use super::packet::{Advert, PRIORITY_LEAVING, Peer, Refusal, Senders, Signatures};
use super::packet_queue::{ChannelId, OpenChannel, PacketQueue};
use super::settings::{InstanceSettings, Transport, VirtualAddress};
use super::socket::{Channel, Destinations, Endpoint, Received};
use super::status::{Counters, InstanceStatus};
use netlink::interfaces::{Interfaces, Scope};

/// The state of a virtual router's sockets.
///
/// ```text
///            interface and address are there
///   Closed ───────────────────────────────────▶ (open them)
///     ▲  ▲                                       │       │
///     │  │                               success │       │ error
///     │  └── interface or address is gone ── Open ◀─┐    ▼
///     │                                       └─────┼▶ Failed
///     │                          cannot receive     └────┤ tried again
///     └── interface or address is gone ──────────────────┘
/// ```
#[derive(Debug)]
enum Sockets {
    Closed,
    Open(OpenChannel),
    /// They cannot be opened, or can receive no more.
    Failed,
}

/// A virtual router.
#[derive(Debug)]
pub(crate) struct Instance {
    pub settings: InstanceSettings,
    pub address_manager: AddressManager,
    /// Signs adverts and judges signatures (`auth_hmac`).
    signatures: Option<Signatures>,
    counters: Counters,
    sockets: Sockets,
    /// The state that was entered last, when, and why.
    state: State,
    since: SystemTime,
    cause: Cause,
    /// As master: all addresses have been seen on their interfaces since.
    addresses_seen: bool,
    /// The MAC addresses of the interfaces with virtual addresses.
    macs: BTreeMap<String, MacAddress>,
}

impl Instance {
    pub(crate) fn new(settings: InstanceSettings, address_manager: AddressManager) -> Self {
        Self {
            signatures: settings.signatures.clone().map(Signatures::new),
            settings,
            address_manager,
            counters: Counters::default(),
            sockets: Sockets::Closed,
            state: State::Init,
            since: SystemTime::now(),
            cause: Cause::Configured,
            addresses_seen: false,
            macs: BTreeMap::new(),
        }
    }

    /// Returns true if `other` is, for the network, the same virtual router.
    pub(crate) fn is_same_router(&self, other: &InstanceSettings) -> bool {
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

    /// Carries out an action of its machine. Returns the state that it has entered,
    /// and why.
    pub(crate) fn apply(&mut self, action: Action) -> Option<(State, Cause)> {
        let addresses = || self.settings.addresses.clone();
        let routes = || self.settings.routes.clone();
        match action {
            Action::Advertise { priority } => self.advertise(priority),
            Action::AddAddresses => self.address_manager.add(addresses(), routes()),
            Action::RemoveAddresses => self.address_manager.remove(addresses(), routes()),
            Action::Announce { repeat } => {
                let pauses = self.settings.pauses;
                self.address_manager.announce(addresses(), repeat, pauses);
            }
            Action::Entered(state, cause) => {
                self.enter(state, cause.clone());
                return Some((state, cause));
            }
        }
        None
    }

    fn enter(&mut self, state: State, cause: Cause) {
        let before = std::mem::replace(&mut self.state, state);
        self.since = SystemTime::now();
        self.cause = cause;
        self.addresses_seen = false;
        self.counters.became_master += u64::from(state == State::Master);
        self.counters.released_master +=
            u64::from(before == State::Master && state != State::Master);
    }

    /// Returns true if the sockets have failed, so that it is to be tried again to
    /// open them.
    pub(crate) fn has_failed_sockets(&self) -> bool {
        matches!(self.sockets, Sockets::Failed)
    }

    fn channel(&self) -> Option<&OpenChannel> {
        match &self.sockets {
            Sockets::Open(channel) => Some(channel),
            Sockets::Closed | Sockets::Failed => None,
        }
    }

    pub(crate) fn has_channel(&self, id: ChannelId) -> bool {
        self.channel().is_some_and(|open| open.id == id)
    }

    /// The address that adverts are sent from.
    pub(crate) fn local_address(&self) -> Option<IpAddr> {
        self.channel().map(|open| open.channel.endpoint().source)
    }

    /// Opens the sockets for the interface as it is now, unless they are open for
    /// just that. Returns the reason if they are not open then.
    pub(crate) fn connect(
        &mut self,
        interfaces: &Interfaces,
        packets: &mut PacketQueue,
    ) -> Option<String> {
        let endpoint = match self.endpoint(interfaces) {
            Ok(endpoint) => endpoint,
            Err(missing) => {
                self.sockets = Sockets::Closed;
                return Some(missing);
            }
        };
        if let Some(open) = self.channel()
            && *open.channel.endpoint() == endpoint
        {
            return None;
        }
        // Before others are opened: an advert is to be received once.
        self.sockets = Sockets::Closed;
        match Channel::open(endpoint) {
            Ok(channel) => {
                self.sockets = Sockets::Open(packets.receive(channel));
                None
            }
            Err(error) => {
                let interface = &self.settings.interface;
                self.sockets = Sockets::Failed;
                Some(format!("cannot open sockets on {interface}: {error}"))
            }
        }
    }

    /// Gives up sockets that no longer receive.
    pub(crate) fn disconnect(&mut self, error: &io::Error) {
        let InstanceSettings {
            name, interface, ..
        } = &self.settings;
        log::debug!("{name}: cannot receive on {interface}: {error}");
        self.sockets = Sockets::Failed;
    }

    fn endpoint(&self, interfaces: &Interfaces) -> Result<Endpoint, String> {
        let settings = &self.settings;
        let name = &settings.interface;
        let interface = interfaces
            .get(name)
            .ok_or_else(|| format!("there is no interface {name}"))?;
        let scope = match settings.format.is_ipv6() {
            false => Scope::Ipv4,
            true => Scope::LinkLocalIpv6,
        };
        let is_virtual = |address| settings.addresses.iter().any(|it| it.address == address);
        let source = settings
            .source
            .or_else(|| interface.own_address(scope, is_virtual))
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

    /// Sends an advert to its group, or to each of its peers.
    pub(crate) fn advertise(&mut self, priority: u8) {
        let Sockets::Open(open) = &self.sockets else {
            return;
        };
        let endpoint = open.channel.endpoint();
        let (format, source) = (&self.settings.format, endpoint.source);
        // One for all peers, as in keepalived.
        let now = SystemTime::now();
        let sequence = self
            .signatures
            .as_mut()
            .and_then(|it| it.next_sequence(now));
        let signed = self.signatures.as_ref().zip(sequence);
        for destination in endpoint.destinations.addresses() {
            let advert = match signed {
                None => format.encode(priority, source, *destination),
                Some((signatures, sequence)) => {
                    format.encode_signed(priority, source, *destination, signatures, sequence)
                }
            };
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

    /// Checks a packet of its sockets, and counts it.
    pub(crate) fn check(&mut self, received: &Received) -> Option<Advert> {
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
        let unicast_peers = match &settings.transport {
            Transport::Multicast(_) => None,
            Transport::Unicast { peers, .. } => Some(peers.as_slice()),
        };
        let signatures = self.signatures.as_mut().map(|it| (it, unicast_peers));
        let result = received.datagram().and_then(|datagram| {
            let format = &settings.format;
            format.check_signed(&datagram, senders, signatures, SystemTime::now())
        });
        match result {
            Ok(advert) => {
                self.counters.adverts_received += 1;
                self.counters.leaving_received += u64::from(advert.priority == PRIORITY_LEAVING);
                Some(advert)
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
    pub(crate) fn renew_fault(&mut self, reason: String) {
        if let Cause::Fault(known) = &mut self.cause {
            *known = reason;
        }
    }

    /// Returns true if all virtual addresses are on their interfaces.
    pub(crate) fn has_all_addresses(&self, interfaces: &Interfaces) -> bool {
        self.settings
            .addresses
            .iter()
            .all(|held| is_on(held, interfaces))
    }

    /// Removes the virtual addresses that are on their interfaces, and the routes.
    pub(crate) fn remove_leftovers(&self, interfaces: &Interfaces) {
        let mut addresses = self.settings.addresses.clone();
        addresses.retain(|held| is_on(held, interfaces));
        let routes = self.settings.routes.clone();
        self.address_manager.remove(addresses, routes);
    }

    /// Follows a change of interfaces: a master adds addresses again that have been
    /// taken away, and announces those whose interface has another MAC address.
    pub(crate) fn follow_interfaces(&mut self, interfaces: &Interfaces, is_master: bool) {
        let name = &self.settings.name;
        let moved = moved_addresses(&self.settings.addresses, &mut self.macs, interfaces);
        if !is_master {
            return;
        }
        let has_all = self.has_all_addresses(interfaces);
        if self.addresses_seen && !has_all {
            log::warn!("{name}: its addresses were taken away; added again");
            let addresses = &self.settings.addresses;
            self.address_manager.add(addresses.clone(), Vec::new());
            self.announce(addresses.clone());
        }
        if !moved.is_empty() {
            log::info!(
                "{name}: the MAC address of its interface has changed; its addresses are announced"
            );
            self.announce(moved);
        }
        self.addresses_seen = has_all;
    }

    /// Takes new settings of the same virtual router.
    pub(crate) fn replace_settings(&mut self, settings: InstanceSettings, is_master: bool) {
        let before = std::mem::replace(&mut self.settings, settings);
        self.signatures = match (self.signatures.take(), &self.settings.signatures) {
            (_, None) => None,
            (None, Some(settings)) => Some(Signatures::new(settings.clone())),
            (Some(mut signatures), Some(settings)) => {
                signatures.replace_settings(settings.clone());
                Some(signatures)
            }
        };
        if !is_master {
            return;
        }
        self.addresses_seen = false;
        let gone = missing_from(&before.addresses, &self.settings.addresses);
        let routes = missing_from(&before.routes, &self.settings.routes);
        self.address_manager.remove(gone, routes);
        let new = missing_from(&self.settings.addresses, &before.addresses);
        let routes = self.settings.routes.clone();
        self.address_manager.add(new.clone(), routes);
        self.announce(new);
    }

    /// Announces addresses to the network.
    fn announce(&self, addresses: Vec<VirtualAddress>) {
        let InstanceSettings { policy, pauses, .. } = &self.settings;
        self.address_manager
            .announce(addresses, policy.announcing.repeat, *pauses);
    }

    pub(crate) fn status(&self, machine: &Machine, group: Option<&str>) -> InstanceStatus {
        let settings = &self.settings;
        let master = match machine.state() {
            State::Master => self.local_address(),
            _ => machine.master().map(|advert| advert.source),
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

/// The addresses on interfaces whose MAC address is not the one in `macs`, which is
/// brought up to date.
fn moved_addresses(
    addresses: &[VirtualAddress],
    macs: &mut BTreeMap<String, MacAddress>,
    interfaces: &Interfaces,
) -> Vec<VirtualAddress> {
    let mac = |held: &VirtualAddress| interfaces.get(&held.interface)?.mac;
    let mut moved = addresses.to_vec();
    moved.retain(|held| {
        let before = macs.get(&held.interface);
        before.is_some() && mac(held).is_some_and(|now| before != Some(&now))
    });
    let present = addresses.iter();
    macs.extend(present.filter_map(|held| Some((held.interface.clone(), mac(held)?))));
    moved
}

/// Those of `these` that are not among `others`.
fn missing_from<T: Clone + PartialEq>(these: &[T], others: &[T]) -> Vec<T> {
    let these = these.iter().filter(|it| !others.contains(it));
    these.cloned().collect()
}

fn is_on(held: &VirtualAddress, interfaces: &Interfaces) -> bool {
    let interface = interfaces.get(&held.interface);
    interface.is_some_and(|interface| interface.addresses.contains(&held.address))
}
