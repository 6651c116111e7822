//! Settings of the virtual routers, with every default filled in.

mod from_config;
mod tracked;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::machine::Policy;
use super::packet::{Format, FormatError, Peer, SignatureSettings, TRAILER_BYTES, Version};
use super::tracking::file::FileSettings;
use super::tracking::script::ScriptSettings;
use super::tracking::{Tracked, TrackedSubject};
use conf_kit::Location;
use lb_model::config::{self, Seconds};
use lb_script::NumberFile;
use netlink::address::InterfaceAddress;
use netlink::interfaces::Interfaces;

/// All settings of VRRP.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// The virtual routers.
    pub instances: Vec<InstanceSettings>,
    /// Their sync groups.
    pub groups: Vec<GroupSettings>,
    /// The scripts that they track.
    pub scripts: Vec<ScriptSettings>,
    /// The files that they track.
    pub files: Vec<FileSettings>,
    /// Delay before they start.
    pub startup_delay: Duration,
}

impl Settings {
    /// Returns true if a machine on which the virtual routers `masters` are master
    /// answers at `address`: one of them holds it, or no virtual router does.
    pub fn answers_at(&self, address: IpAddr, masters: &BTreeSet<String>) -> bool {
        let address = address.to_canonical();
        let is_it = |held: &VirtualAddress| held.address.to_canonical() == address;
        let mut holders = self
            .instances
            .iter()
            .filter(|instance| instance.addresses.iter().any(is_it))
            .peekable();
        holders.peek().is_none() || holders.any(|holder| masters.contains(&holder.name))
    }

    /// Time in which another machine becomes master in our place at `address`, at
    /// most, once a service there has lost its quorum; `None` if that changes no
    /// priority, or none of `masters` holds the address.
    pub fn max_failover_time(
        &self,
        address: IpAddr,
        masters: &BTreeSet<String>,
    ) -> Option<Duration> {
        let address = address.to_canonical();
        let leaders = self.instances.iter().filter(|instance| {
            let mut held = instance.addresses.iter();
            masters.contains(&instance.name)
                && held.any(|held| held.address.to_canonical() == address)
        });
        let watching = leaders.filter(|instance| {
            let mut tracked = instance.tracked.iter();
            tracked.any(|tracked| tracked.subject == TrackedSubject::Quorum)
        });
        watching.map(InstanceSettings::max_failover_time).max()
    }

    /// The files that are tracked.
    pub fn tracked_files(&self) -> impl Iterator<Item = &NumberFile> {
        self.files.iter().map(|settings| &settings.file)
    }
}

/// A virtual address, and its place on an interface.
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

impl VirtualAddress {
    /// The address on its interface, if that exists.
    pub fn on_interface(&self, interfaces: &Interfaces) -> Option<InterfaceAddress> {
        Some(InterfaceAddress {
            interface_index: interfaces.get(&self.interface)?.index,
            address: self.address,
            prefix_length: self.prefix_length,
            label: self.label.clone(),
        })
    }
}

/// Pauses between two announcements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pauses {
    /// Between gratuitous ARPs.
    pub arp: Duration,
    /// Between unsolicited neighbour advertisements.
    pub neighbour_advertisement: Duration,
}

/// One virtual router.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceSettings {
    /// Its name.
    pub name: String,
    /// The interface that adverts use.
    pub interface: String,
    /// Format of its adverts.
    pub format: Format,
    /// How its adverts are signed and judged, if they are (`auth_hmac`).
    pub signatures: Option<SignatureSettings>,
    /// Its priority while nothing that it tracks changes it.
    pub priority: u8,
    /// Its policy.
    pub policy: Policy,
    /// Source address of its adverts; `None`: the interface's first address.
    pub source: Option<IpAddr>,
    /// The interface must have that address (`track_src_ip`).
    pub source_must_exist: bool,
    /// Destination of its adverts.
    pub transport: Transport,
    /// Addresses that it holds as master.
    pub addresses: Vec<VirtualAddress>,
    /// The routes that it has as master.
    pub routes: Vec<config::Route>,
    /// Pauses while these are announced.
    pub pauses: Pauses,
    /// Subjects that it tracks.
    pub tracked: Vec<Tracked>,
}

impl InstanceSettings {
    /// Limits the addresses in adverts to what a packet on the interface can hold;
    /// the others are held like excluded ones.
    pub fn fit_on(&mut self, interfaces: &Interfaces) {
        let name = &self.interface;
        let Some(interface) = interfaces.get(name) else {
            return;
        };
        let signs = self
            .signatures
            .as_ref()
            .is_some_and(SignatureSettings::signs);
        let trailer_bytes = if signs { TRAILER_BYTES } else { 0 };
        if let Some(count) = self.format.fit(interface.mtu, trailer_bytes) {
            log::warn!(
                "{}: an advert on {name} (MTU {}) has room for {count} addresses: the others \
                 are held as if they were in virtual_ipaddress_excluded",
                self.name,
                interface.mtu
            );
        }
    }

    /// The secrets that the directors of this virtual router share, the one to sign with
    /// first: the keys of `auth_hmac`, or the password of version 2; none without either.
    pub fn shared_secrets(&self) -> Vec<Vec<u8>> {
        let Some(signatures) = &self.signatures else {
            return self
                .format
                .password()
                .map(<[u8]>::to_vec)
                .into_iter()
                .collect();
        };
        let mut keys: Vec<_> = signatures.keys.iter().collect();
        keys.sort_by_key(|key| key.id != signatures.active_key);
        keys.into_iter().map(|key| key.bytes.clone()).collect()
    }

    /// Skew of the lowest priority: a successor advertises in this time after a
    /// master has left (RFC 3768 §6.1, RFC 5798 §6.1, `Skew_Time`).
    pub fn max_skew(&self) -> Duration {
        match self.policy.version {
            Version::V2 => Duration::from_secs(1),
            Version::V3 => self.policy.interval,
        }
    }

    /// Time until a successor's first advert, at most, once our priority is below
    /// its own: it learns that from our next advert, ignores us until its
    /// master-down timer expires, and advertises (RFC 5798 §6.4.2).
    pub fn max_failover_time(&self) -> Duration {
        // One interval until our advert, and one for slow machines.
        self.policy.interval * (self.policy.down_timer_adverts + 2) + self.max_skew()
    }
}

/// Destination of adverts.
#[derive(Debug, Clone, PartialEq)]
pub enum Transport {
    /// To a group, on one network segment.
    Multicast(IpAddr),
    /// To peers, wherever they are.
    Unicast {
        /// The peers.
        peers: Vec<Peer>,
        /// Time to live of our adverts.
        time_to_live: u8,
        /// Adverts of others than the peers are dropped (`check_unicast_src`).
        check_source: bool,
    },
}

impl Transport {
    /// The addresses that adverts are sent to.
    pub fn destinations(&self) -> Vec<IpAddr> {
        match self {
            Self::Multicast(group) => vec![*group],
            Self::Unicast { peers, .. } => peers.iter().map(|peer| peer.address).collect(),
        }
    }
}

/// A sync group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSettings {
    /// The group's name.
    pub name: String,
    /// Their names.
    pub members: Vec<String>,
    /// Subjects that all of them track.
    pub tracked: Vec<Tracked>,
}

/// A virtual router whose settings are not possible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("vrrp_instance {instance}: {problem}")]
pub struct SettingsError {
    /// Its name.
    pub instance: String,
    /// Place in the configuration.
    pub location: Location,
    /// The reason.
    pub problem: Problem,
}

/// The reason why a virtual router's settings are not possible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It has no interface.
    #[error("it names no interface; expected `interface`, or `default_interface` in `global_defs`")]
    NoInterface,
    /// A version of VRRP that does not exist.
    #[error("VRRP version {0}; expected 2 or 3")]
    Version(u8),
    /// Its adverts are not possible.
    #[error("{0}")]
    Format(#[from] FormatError),
    /// A key of `auth_hmac` that cannot be read, or is none.
    #[error("key {id} of `auth_hmac` {problem}")]
    Key {
        /// Its number.
        id: u8,
        /// The problem, as the end of a sentence.
        problem: String,
    },
    /// An address of the other family.
    #[error("{0} is not of the same family as the virtual addresses")]
    Family(IpAddr),
}

fn seconds(given: Option<Seconds>, default: Duration) -> Duration {
    given.map_or(default, |Seconds(duration)| duration)
}

#[cfg(test)]
mod tests;
