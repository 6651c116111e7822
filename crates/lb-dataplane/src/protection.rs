//! Protection from floods: denied networks, validation of sources, rates.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, MapData, MapError, PerCpuArray};
use lb_abi::{Address, CookieKey, HandshakeCounters, Protection, ProtectionFlags, maps};
use net_types::Network;
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::map_io::{array, read, take, write};
use super::options::TableSizes;

/// A limit of new connections of one network of clients: the /24 of an IPv4 address, the
/// /64 of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionRate {
    /// New connections per second in the long run.
    pub per_second: NonZeroU32,
    /// New connections at once.
    pub burst: NonZeroU32,
}

/// TCP connections that have been entered or refused; never reset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Handshakes {
    /// Entered by their first packet.
    pub opened: u64,
    /// Those whose handshake has been completed.
    pub completed: u64,
    /// SYNs over the rate of their network, which were not entered.
    pub refused: u64,
}

/// Networks on the deny list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeniedNetworks {
    networks: HashSet<Network>,
    /// Their prefix lengths: few, as a rule.
    lengths_v4: BTreeSet<u8>,
    lengths_v6: BTreeSet<u8>,
}

impl DeniedNetworks {
    /// Number of networks.
    pub fn len(&self) -> usize {
        self.networks.len()
    }

    /// True if no network is denied.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// True if `address` is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let mut lengths = if address.is_ipv4() {
            self.lengths_v4.iter()
        } else {
            self.lengths_v6.iter()
        };
        lengths.any(|length| {
            let network = Network::new(address, *length).truncated();
            self.networks.contains(&network)
        })
    }

    /// A network as the list holds it: with its first address, and as one of IPv4 if it holds
    /// nothing but IPv4 addresses in the form of IPv6 (RFC 4291 §2.5.5.2).
    pub fn canonical(network: Network) -> Network {
        const MAPPED_BITS: u8 = 96;
        let length = network.prefix_length();
        match network.first().to_canonical() {
            address @ IpAddr::V4(_) if network.first().is_ipv6() && length >= MAPPED_BITS => {
                Network::new(address, length - MAPPED_BITS)
            }
            _ => network.truncated(),
        }
    }

    /// Adds one more.
    pub fn insert(&mut self, network: Network) {
        let network = Self::canonical(network);
        let lengths = if network.first().is_ipv4() {
            &mut self.lengths_v4
        } else {
            &mut self.lengths_v6
        };
        lengths.insert(network.prefix_length());
        self.networks.insert(network);
    }

    /// Number of networks of one address family.
    fn count(&self, is_ipv4: bool) -> usize {
        let networks = self.networks.iter();
        networks
            .filter(|network| network.first().is_ipv4() == is_ipv4)
            .count()
    }

    /// Refuses more networks than tables of `sizes` have room for.
    ///
    /// # Errors
    ///
    /// [`Error::TableFull`].
    pub fn admit(&self, sizes: &TableSizes) -> Result<(), Error> {
        for (is_ipv4, what) in [
            (true, "denied IPv4 networks"),
            (false, "denied IPv6 networks"),
        ] {
            let needed = self.count(is_ipv4);
            if needed > sizes.denied as usize {
                return Err(Error::TableFull {
                    what,
                    wanted: needed,
                    limit: sizes.denied as usize,
                    option: "denied",
                });
            }
        }
        Ok(())
    }
}

impl FromIterator<Network> for DeniedNetworks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        let mut denied = Self::default();
        for network in networks {
            denied.insert(network);
        }
        denied
    }
}

/// The maps of the protection.
pub(crate) struct ProtectionMaps {
    settings: Array<MapData, Protection>,
    denied_v4: LpmTrie<MapData, u32, u32>,
    denied_v6: LpmTrie<MapData, Address, u32>,
    handshakes: PerCpuArray<MapData, HandshakeCounters>,
    /// The content of `settings`.
    written: Protection,
    /// The content of both tries.
    denied: Arc<DeniedNetworks>,
}

impl ProtectionMaps {
    /// Takes the maps out of a loaded object. They may be an earlier agent's.
    pub(crate) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let settings: Array<MapData, Protection> = array(ebpf, maps::PROTECTION)?;
        let denied_v4: LpmTrie<MapData, u32, u32> = take(ebpf, maps::DENIED_V4)?;
        let denied_v6: LpmTrie<MapData, Address, u32> = take(ebpf, maps::DENIED_V6)?;
        let mut known = Vec::new();
        for key in denied_v4.keys() {
            let key = read(maps::DENIED_V4, key)?;
            known.push(network(
                Address::from_ipv4_word(key.data()),
                key.prefix_len(),
            ));
        }
        for key in denied_v6.keys() {
            let key = read(maps::DENIED_V6, key)?;
            known.push(network(key.data(), key.prefix_len()));
        }
        Ok(Self {
            written: read(maps::PROTECTION, settings.get(&0, 0))?,
            settings,
            denied_v4,
            denied_v6,
            handshakes: take(ebpf, maps::HANDSHAKES)?,
            denied: Arc::new(known.into_iter().collect()),
        })
    }

    /// The networks on the deny list.
    pub(crate) fn denied(&self) -> &Arc<DeniedNetworks> {
        &self.denied
    }

    /// Puts these networks on the deny list, and no others. Returns how many entries had to be
    /// written or removed: as many as the two lists differ in.
    pub(crate) fn deny(&mut self, denied: &DeniedNetworks) -> Result<usize, Error> {
        let mut changed = 0;
        let former = Arc::clone(&self.denied);
        // If the kernel refuses one of them, the next attempt removes what is not wanted then.
        let both = former.networks.union(&denied.networks).copied();
        self.denied = Arc::new(both.collect());
        for network in former.networks.difference(&denied.networks) {
            let (name, removed) = match network.first() {
                IpAddr::V4(_) => (maps::DENIED_V4, self.denied_v4.remove(&key_v4(*network))),
                IpAddr::V6(_) => (maps::DENIED_V6, self.denied_v6.remove(&key_v6(*network))),
            };
            if !is_absent(&removed) {
                write(name, removed)?;
            }
            changed += 1;
        }
        for network in denied.networks.difference(&former.networks) {
            let (name, added) = match network.first() {
                IpAddr::V4(_) => (
                    maps::DENIED_V4,
                    self.denied_v4.insert(&key_v4(*network), 0, 0),
                ),
                IpAddr::V6(_) => (
                    maps::DENIED_V6,
                    self.denied_v6.insert(&key_v6(*network), 0, 0),
                ),
            };
            write(name, added)?;
            changed += 1;
        }
        self.denied = Arc::new(denied.clone());
        let mut settings = self.written;
        settings
            .flags
            .set(ProtectionFlags::DENIES, !denied.is_empty());
        self.write(settings)?;
        Ok(changed)
    }

    /// Has SYNs of unproven sources challenged, or not.
    pub(crate) fn validate(&mut self, validates: bool) -> Result<(), Error> {
        let mut settings = self.written;
        settings.flags.set(ProtectionFlags::VALIDATES, validates);
        self.write(settings)
    }

    /// True if SYNs of unproven sources are challenged.
    pub(crate) fn validates(&self) -> bool {
        self.written.flags.contains(ProtectionFlags::VALIDATES)
    }

    /// Limits new connections.
    pub(crate) fn limit(&mut self, rate: Option<ConnectionRate>) -> Result<(), Error> {
        const SECOND: Duration = Duration::from_secs(1);
        let interval = rate.map_or(Duration::ZERO, |rate| SECOND / rate.per_second.get());
        let ahead = rate.map_or(0, |rate| rate.burst.get() - 1);
        let settings = Protection {
            interval_ns: interval.as_nanos() as u64,
            burst_ns: interval.as_nanos() as u64 * u64::from(ahead),
            ..self.written
        };
        self.write(settings)
    }

    /// True once challenges are made with a key that only this host knows.
    pub(crate) fn has_key(&self) -> bool {
        !self.written.keys.contains(&CookieKey::default())
    }

    /// Makes challenges with another key from now on; answers to those of the key before
    /// are accepted as well.
    pub(crate) fn replace_key(&mut self, key: [u64; 2]) -> Result<(), Error> {
        let mut settings = self.written;
        if !self.has_key() {
            // New maps hold keys of zeros, which everybody knows: no answer to a challenge
            // of these may be accepted.
            settings.keys = [CookieKey(key); 2];
            return self.write(settings);
        }
        let spare = 1 - (settings.active_key & 1);
        settings.keys[spare as usize] = CookieKey(key);
        self.write(settings)?;
        // A second write, so that no packet sees half of the new key.
        settings.active_key = spare;
        self.write(settings)
    }

    fn write(&mut self, settings: Protection) -> Result<(), Error> {
        if settings != self.written {
            write(maps::PROTECTION, self.settings.set(0, settings, 0))?;
            self.written = settings;
        }
        Ok(())
    }

    /// The counters, over all CPUs.
    pub(crate) fn handshakes(&self) -> Result<Handshakes, Error> {
        let per_cpu = read(maps::HANDSHAKES, self.handshakes.get(&0, 0))?;
        let zero = Handshakes::default();
        Ok(per_cpu.iter().fold(zero, |sum, cpu| Handshakes {
            opened: sum.opened + cpu.opened,
            completed: sum.completed + cpu.completed,
            refused: sum.refused + cpu.refused,
        }))
    }
}

fn is_absent(removed: &Result<(), MapError>) -> bool {
    match removed {
        Err(MapError::KeyNotFound) => true,
        Err(MapError::SyscallError(error)) => error.io_error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

fn key_v4(network: Network) -> Key<u32> {
    let address: Address = network.first().into();
    Key::new(network.prefix_length().into(), address.ipv4_word())
}

fn key_v6(network: Network) -> Key<Address> {
    Key::new(network.prefix_length().into(), network.first().into())
}

fn network(address: Address, prefix_length: u32) -> Network {
    Network::new(address.into(), prefix_length as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_denied_with_any_network_that_holds_it() {
        let networks = ["10.1.2.3/16", "192.0.2.7", "2001:db8::/32"];
        let networks = networks.map(|text| text.parse::<Network>().expect("a network"));
        let denied: DeniedNetworks = networks.into_iter().collect();
        let is_denied = |text: &str| denied.contains(text.parse().expect("an address"));
        assert!(is_denied("10.1.255.255") && is_denied("192.0.2.7") && is_denied("2001:db8:1::1"));
        assert!(!is_denied("10.2.0.0") && !is_denied("192.0.2.8") && !is_denied("2001:db9::"));
        let everybody: DeniedNetworks = ["::/0".parse().expect("a network")].into_iter().collect();
        assert!(everybody.contains("2001:db8::1".parse().expect("an address")));
        assert!(!everybody.contains("192.0.2.7".parse().expect("an address")));
    }
}
