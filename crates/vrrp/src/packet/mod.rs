//! VRRP adverts as bytes: version 2 (RFC 3768, with RFC 2338's password, as
//! keepalived speaks it) and version 3 (RFC 5798, RFC 9568).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+-------+---------------+---------------+---------------+
//! |version|  type | virtual router|   priority    | address count |
//! +-------+-------+-------+-------+---------------+---------------+
//! | v2: auth type | interval in s |           checksum            |
//! | v3: 0 | interval in 10 ms     |                               |
//! +---------------+---------------+-------------------------------+
//! |                           addresses …                         |
//! +---------------------------------------------------------------+
//! |             v2 only: password, 8 bytes, zeros behind          |
//! +---------------------------------------------------------------+
//! ```
//!
//! `signature` describes the trailer of signed adverts.

mod receive;
mod signature;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use net_types::{internet_checksum, pseudo_header};

pub use receive::Refusal;
pub use receive::{Advert, Datagram, Peer, Senders};
use signature::Bound;
pub use signature::{Key, Sequence, SignatureSettings, Signatures, TRAILER_BYTES};

/// IP protocol number of VRRP.
pub const IP_PROTOCOL: u8 = 112;

/// Destination of IPv4 adverts (RFC 3768 §5.2.2).
pub const MULTICAST_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);

/// Destination of IPv6 adverts (RFC 5798 §5.1.2.2).
pub const MULTICAST_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

/// Time to live, or hop limit, of every advert; a lower one has crossed a
/// router (RFC 3768 §5.2.3).
pub const TIME_TO_LIVE: u8 = 255;

/// Priority of a router that owns the addresses (RFC 3768 §5.3.4).
pub const PRIORITY_OWNER: u8 = 255;

/// Priority of a master that is leaving (RFC 3768 §5.3.4).
pub const PRIORITY_LEAVING: u8 = 0;

const TYPE_ADVERT: u8 = 1;
const HEADER_BYTES: usize = 8;
const PASSWORD_BYTES: usize = 8;
const CHECKSUM_OFFSET: usize = 6;
const AUTHENTICATION_NONE: u8 = 0;
const AUTHENTICATION_PASSWORD: u8 = 1;
const CENTISECOND: Duration = Duration::from_millis(10);
/// The longest interval of the twelve bits of version 3.
const MAX_CENTISECONDS: u128 = 0xfff;

/// The most addresses that the count field can hold.
const MAX_ADDRESSES: usize = 255;

/// VRRP's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// RFC 3768: IPv4, intervals of whole seconds.
    V2,
    /// RFC 5798: IPv4 and IPv6, intervals of hundredths of a second.
    V3,
}

impl Version {
    /// Its number.
    pub fn number(self) -> u8 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }
}

/// The password of version 2: eight bytes that travel in clear text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Password([u8; PASSWORD_BYTES]);

impl Password {
    /// Takes the first eight bytes of a password.
    pub fn new(text: &str) -> Self {
        let mut bytes = [0; PASSWORD_BYTES];
        let used = text.len().min(PASSWORD_BYTES);
        bytes[..used].copy_from_slice(&text.as_bytes()[..used]);
        Self(bytes)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// The virtual addresses that an advert names, all of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Addresses {
    /// IPv4
    V4(Vec<Ipv4Addr>),
    /// IPv6
    V6(Vec<Ipv6Addr>),
}

impl Addresses {
    /// Keeps the first `count` at most.
    fn truncate(&mut self, count: usize) {
        match self {
            Self::V4(addresses) => addresses.truncate(count),
            Self::V6(addresses) => addresses.truncate(count),
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::V4(addresses) => addresses.len(),
            Self::V6(addresses) => addresses.len(),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::V4(addresses) => out.extend(addresses.iter().flat_map(Ipv4Addr::octets)),
            Self::V6(addresses) => out.extend(addresses.iter().flat_map(Ipv6Addr::octets)),
        }
    }

    fn bytes_each(&self) -> usize {
        match self {
            Self::V4(_) => 4,
            Self::V6(_) => 16,
        }
    }
}

/// The reason why adverts of a format are not possible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A virtual router's number is 0.
    #[error("virtual_router_id is 0; expected 1 to 255")]
    VirtualRouterId,
    /// More addresses than the count field can hold.
    #[error(
        "{0} virtual addresses; expected at most 255 (others go to virtual_ipaddress_excluded)"
    )]
    AddressCount(usize),
    /// Version 3 needs an address.
    #[error("VRRP version 3 needs a virtual address; expected one at least")]
    NoAddressInVersion3,
    /// IPv4 and IPv6 together.
    #[error(
        "virtual addresses of both families; expected one (others go to virtual_ipaddress_excluded)"
    )]
    MixedFamilies,
    /// Version 2 knows no IPv6.
    #[error("IPv6 addresses need VRRP version 3")]
    Ipv6InVersion2,
    /// Version 3 knows no passwords.
    #[error("VRRP version 3 has no authentication; expected none, or version 2")]
    PasswordInVersion3,
    /// An interval that the version's field cannot hold.
    #[error(
        "advert_int of {0:?} cannot be encoded in VRRP version 2; expected whole seconds, 1 to 255"
    )]
    IntervalInVersion2(Duration),
    /// An interval that the version's field cannot hold.
    #[error(
        "advert_int of {0:?} cannot be encoded in VRRP version 3; expected 0.01 to 40.95 s, in steps of 0.01 s"
    )]
    IntervalInVersion3(Duration),
}

/// The fields that all adverts of one virtual router have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    version: Version,
    virtual_router_id: u8,
    addresses: Addresses,
    password: Option<Password>,
    interval: Duration,
}

impl Format {
    /// Checks that such adverts are possible.
    ///
    /// # Errors
    /// One of [`FormatError`].
    pub fn new(
        version: Version,
        virtual_router_id: u8,
        addresses: &[IpAddr],
        password: Option<Password>,
        interval: Duration,
    ) -> Result<Self, FormatError> {
        if virtual_router_id == 0 {
            return Err(FormatError::VirtualRouterId);
        }
        if addresses.len() > MAX_ADDRESSES {
            return Err(FormatError::AddressCount(addresses.len()));
        }
        let addresses = one_family(addresses).ok_or(FormatError::MixedFamilies)?;
        match version {
            Version::V2 if matches!(addresses, Addresses::V6(_)) => {
                return Err(FormatError::Ipv6InVersion2);
            }
            Version::V2
                if interval.subsec_nanos() != 0 || !(1..=255).contains(&interval.as_secs()) =>
            {
                return Err(FormatError::IntervalInVersion2(interval));
            }
            Version::V3 if addresses.count() == 0 => return Err(FormatError::NoAddressInVersion3),
            Version::V3 if password.is_some() => return Err(FormatError::PasswordInVersion3),
            Version::V3 if !is_centiseconds(interval) => {
                return Err(FormatError::IntervalInVersion3(interval));
            }
            Version::V2 | Version::V3 => {}
        }
        Ok(Self {
            version,
            virtual_router_id,
            addresses,
            password,
            interval,
        })
    }

    /// Leaves addresses out of the adverts that do not fit a packet of `mtu` bytes;
    /// returns the number of those that are left, if not all.
    ///
    /// As keepalived counts, which takes the Ethernet header for a part of the
    /// packet: adverts with another number of addresses are refused. `trailer_bytes`: those
    /// of a signature.
    pub fn fit(&mut self, mtu: u32, trailer_bytes: usize) -> Option<usize> {
        const ETHERNET_BYTES: usize = 14;
        let ip_bytes = if self.is_ipv6() { 40 } else { 20 };
        let password_bytes = match self.version {
            Version::V2 => PASSWORD_BYTES,
            Version::V3 => 0,
        };
        let taken = ETHERNET_BYTES + ip_bytes + HEADER_BYTES + password_bytes + trailer_bytes;
        let room = (mtu as usize).saturating_sub(taken) / self.addresses.bytes_each();
        let is_too_small = room < self.addresses.count();
        self.addresses.truncate(room);
        is_too_small.then_some(room)
    }

    /// VRRP's version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The virtual router's number.
    pub fn virtual_router_id(&self) -> u8 {
        self.virtual_router_id
    }

    /// The password of version 2.
    pub(crate) fn password(&self) -> Option<&[u8]> {
        self.password.as_ref().map(|password| &password.0[..])
    }

    /// The interval between adverts.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Number of addresses in adverts.
    pub fn address_count(&self) -> usize {
        self.addresses.count()
    }

    /// Returns true if adverts are sent over IPv6.
    pub fn is_ipv6(&self) -> bool {
        matches!(self.addresses, Addresses::V6(_))
    }

    /// Multicast group of adverts.
    pub fn multicast_group(&self) -> IpAddr {
        match self.addresses {
            Addresses::V4(_) => MULTICAST_V4.into(),
            Addresses::V6(_) => MULTICAST_V6.into(),
        }
    }

    /// An advert's bytes, from behind the IP header on. `source` and
    /// `destination` only enter version 3's checksum.
    pub fn encode(&self, priority: u8, source: IpAddr, destination: IpAddr) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_bytes());
        bytes.extend([
            self.version.number() << 4 | TYPE_ADVERT,
            self.virtual_router_id,
            priority,
            self.addresses.count() as u8,
        ]);
        match self.version {
            Version::V2 => {
                let authentication = match self.password {
                    Some(_) => AUTHENTICATION_PASSWORD,
                    None => AUTHENTICATION_NONE,
                };
                bytes.extend([authentication, self.interval.as_secs() as u8]);
            }
            Version::V3 => {
                let centiseconds = (self.interval.as_millis() / CENTISECOND.as_millis()) as u16;
                bytes.extend(centiseconds.to_be_bytes());
            }
        }
        bytes.extend([0, 0]);
        self.addresses.write(&mut bytes);
        if self.version == Version::V2 {
            bytes.extend(
                self.password
                    .map_or([0; PASSWORD_BYTES], |password| password.0),
            );
        }
        self.put_checksum(&mut bytes, source, destination);
        bytes
    }

    /// As [`encode`](Self::encode), signed with the number that
    /// [`Signatures::next_sequence`] has given.
    pub fn encode_signed(
        &self,
        priority: u8,
        source: IpAddr,
        destination: IpAddr,
        signatures: &Signatures,
        sequence: Sequence,
    ) -> Vec<u8> {
        let mut bytes = self.encode(priority, source, destination);
        signatures.sign(&mut bytes, self.bound(source), sequence);
        if self.is_ipv6() {
            // The kernel's checksum covers all that is behind the header (RFC 3542 §3.1).
            bytes[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].fill(0);
            self.put_checksum(&mut bytes, source, destination);
        }
        bytes
    }

    fn put_checksum(&self, bytes: &mut [u8], source: IpAddr, destination: IpAddr) {
        let checksum = self.checksum(bytes, source, destination);
        bytes[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].copy_from_slice(&checksum.to_be_bytes());
    }

    /// What a signature binds.
    fn bound(&self, source: IpAddr) -> Bound {
        Bound {
            version: self.version.number(),
            virtual_router_id: self.virtual_router_id,
            source,
        }
    }

    fn encoded_bytes(&self) -> usize {
        self.encoded_bytes_with(self.addresses.count())
    }

    /// The length of an advert that names so many addresses.
    fn encoded_bytes_with(&self, address_count: usize) -> usize {
        let password = match self.version {
            Version::V2 => PASSWORD_BYTES,
            Version::V3 => 0,
        };
        HEADER_BYTES + address_count * self.addresses.bytes_each() + password
    }

    /// The checksum of an advert (RFC 3768 §5.3.8; RFC 5798 §5.2.8 with a
    /// pseudo-header); 0 over bytes that contain a right one.
    fn checksum(&self, bytes: &[u8], source: IpAddr, destination: IpAddr) -> u16 {
        match self.version {
            Version::V2 => internet_checksum(&[bytes]),
            Version::V3 => {
                let pseudo_header = pseudo_header(source, destination, bytes.len(), IP_PROTOCOL);
                internet_checksum(&[&pseudo_header, bytes])
            }
        }
    }
}

fn is_centiseconds(interval: Duration) -> bool {
    let centiseconds = interval.as_millis() / CENTISECOND.as_millis();
    interval.as_nanos() == centiseconds * CENTISECOND.as_nanos()
        && (1..=MAX_CENTISECONDS).contains(&centiseconds)
}

fn one_family(addresses: &[IpAddr]) -> Option<Addresses> {
    let v4: Vec<Ipv4Addr> = addresses
        .iter()
        .filter_map(|address| match address {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        })
        .collect();
    let v6: Vec<Ipv6Addr> = addresses
        .iter()
        .filter_map(|address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(*v6),
        })
        .collect();
    match (v4.is_empty(), v6.is_empty()) {
        (_, true) => Some(Addresses::V4(v4)),
        (true, false) => Some(Addresses::V6(v6)),
        (false, false) => None,
    }
}
