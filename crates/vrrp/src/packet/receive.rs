//! Checks of received adverts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use net_types::internet_checksum;
use serde::Serialize;

use super::{
    AUTHENTICATION_NONE, AUTHENTICATION_PASSWORD, Addresses, CENTISECOND, Format, HEADER_BYTES,
    PASSWORD_BYTES, Signatures, TIME_TO_LIVE, TRAILER_BYTES, TYPE_ADVERT, Version,
};

const IPV4_HEADER_BYTES: usize = 20;

/// A received packet without its IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IPv4's time to live, IPv6's hop limit, as it arrived.
    pub time_to_live: u8,
    /// The bytes behind the IP header.
    pub payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Takes the header off an IPv4 packet, as raw(7) sockets deliver them.
    ///
    /// # Errors
    /// [`Refusal::Length`], if its length is not the one in its header, or less than an
    /// advert's.
    pub fn from_ipv4(packet: &'a [u8]) -> Result<Self, Refusal> {
        if packet.len() < IPV4_HEADER_BYTES + HEADER_BYTES {
            return Err(Refusal::Length);
        }
        let header_bytes = usize::from(packet[0] & 0xf) * 4;
        let total_bytes = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
        if header_bytes < IPV4_HEADER_BYTES || total_bytes != packet.len() {
            return Err(Refusal::Length);
        }
        let payload = packet.get(header_bytes..).ok_or(Refusal::Length)?;
        let address = |at: usize| {
            Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]).into()
        };
        Ok(Self {
            source: address(12),
            destination: address(16),
            time_to_live: packet[8],
            payload,
        })
    }
}

/// The senders of whom adverts are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Senders<'a> {
    /// From the same network segment: their time to live must be unused.
    OnLink,
    /// From anywhere: unicast adverts may cross routers.
    Anyone,
    /// From these only, each within its range of time to live.
    Peers(&'a [Peer]),
}

/// A router that adverts are exchanged with by unicast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// The time to live that its adverts may arrive with.
    pub time_to_live: RangeInclusive<u8>,
}

impl Senders<'_> {
    fn allow_time_to_live(&self, datagram: &Datagram) -> bool {
        match self {
            Self::OnLink => datagram.time_to_live == TIME_TO_LIVE,
            Self::Anyone => true,
            Self::Peers(peers) => peers
                .iter()
                .filter(|peer| peer.address == datagram.source)
                .all(|peer| peer.time_to_live.contains(&datagram.time_to_live)),
        }
    }

    fn allow_source(&self, source: IpAddr) -> bool {
        match self {
            Self::OnLink | Self::Anyone => true,
            Self::Peers(peers) => peers.iter().any(|peer| peer.address == source),
        }
    }
}

/// An advert that has passed all checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advert {
    /// Address of the sender.
    pub source: IpAddr,
    /// Priority of the sender; [`PRIORITY_LEAVING`](super::PRIORITY_LEAVING) if it leaves.
    pub priority: u8,
    /// The interval at which the sender advertises.
    pub interval: Duration,
}

/// The reason why an advert is dropped; in the order of the checks, which is
/// keepalived's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// Not as long as it should be.
    #[error("its length is wrong")]
    Length,
    /// It has crossed a router, or more routers than a peer may be away.
    #[error("its time to live is not 255, or not within the peer's bounds")]
    TimeToLive,
    /// Of another version of VRRP.
    #[error("its VRRP version is not ours")]
    Version,
    /// `auth_hmac`: not signed.
    #[error("it is not signed")]
    SignatureMissing,
    /// A signature of another scheme.
    #[error("its signature is malformed")]
    SignatureMalformed,
    /// Signed longer ago, or later, than the window allows.
    #[error("its signature's time is too far from our clock's")]
    SignatureStale,
    /// Signed with a key that we do not have.
    #[error("it is signed with a key of a number that is not ours")]
    SignatureKey,
    /// Not signed with our key, or changed since.
    #[error("its signature is wrong")]
    SignatureWrong,
    /// Sent again by somebody else.
    #[error("its sequence number is not greater than its sender's last one")]
    SignatureReplayed,
    /// Authentication of another kind, or of none.
    #[error("its authentication type is not ours")]
    AuthenticationType,
    /// Another password.
    #[error("its password is not ours")]
    Password,
    /// Version 2: another interval. Version 3: none at all.
    #[error("its advert interval is not ours")]
    Interval,
    /// Not an advert.
    #[error("its type is not advertisement")]
    Type,
    /// Of another virtual router.
    #[error("its virtual router is not ours")]
    VirtualRouterId,
    /// More or fewer addresses than ours.
    #[error("it names more or fewer addresses than ours")]
    AddressCount,
    /// Damaged.
    #[error("its checksum is wrong")]
    Checksum,
    /// One of our addresses is not among its own.
    #[error("it does not name the addresses that are ours")]
    Addresses,
    /// `check_unicast_src`: from somebody who is no peer.
    #[error("its sender is not one of the unicast peers")]
    Sender,
}

impl Format {
    /// Checks an advert.
    ///
    /// # Errors
    /// The first check that it fails.
    #[cfg(test)]
    pub fn check(&self, datagram: &Datagram, senders: Senders) -> Result<Advert, Refusal> {
        self.check_signed(datagram, senders, None, SystemTime::UNIX_EPOCH)
    }

    /// Checks an advert that arrived at `now`, by its signature, too, where there are
    /// [`Signatures`]; with them the unicast peers, if there are any: who is none of them
    /// has no sequence number to be compared with.
    ///
    /// # Errors
    /// The first check that it fails.
    pub fn check_signed(
        &self,
        datagram: &Datagram,
        senders: Senders,
        signatures: Option<(&mut Signatures, Option<&[Peer]>)>,
        now: SystemTime,
    ) -> Result<Advert, Refusal> {
        let (payload, trailer) = match signatures {
            Some(_) => self.without_trailer(datagram.payload),
            None => (datagram.payload, &[][..]),
        };
        let Some((header, body)) = payload.split_first_chunk::<HEADER_BYTES>() else {
            return Err(Refusal::Length);
        };
        let [
            version_and_type,
            virtual_router_id,
            priority,
            count,
            fifth,
            sixth,
            _,
            _,
        ] = *header;
        if !senders.allow_time_to_live(datagram) {
            return Err(Refusal::TimeToLive);
        }
        if version_and_type >> 4 != self.version.number() {
            return Err(Refusal::Version);
        }
        if let Some((signatures, peers)) = signatures {
            let is_peer = |peers: &[Peer]| peers.iter().any(|it| it.address == datagram.source);
            if !trailer.is_empty() && !peers.is_none_or(is_peer) {
                return Err(Refusal::Sender);
            }
            let bound = self.bound(datagram.source);
            signatures.check(payload, trailer, bound, peers.map(<[Peer]>::len), now)?;
        }
        let interval = match self.version {
            Version::V2 => {
                self.check_password(fifth, body)?;
                Duration::from_secs(sixth.into())
            }
            Version::V3 => CENTISECOND * u32::from(u16::from_be_bytes([fifth & 0xf, sixth])),
        };
        match self.version {
            Version::V2 if interval != self.interval => return Err(Refusal::Interval),
            // Adverts without a pause would make us master without a pause.
            Version::V3 if interval.is_zero() => return Err(Refusal::Interval),
            Version::V2 | Version::V3 => {}
        }
        if version_and_type & 0xf != TYPE_ADVERT {
            return Err(Refusal::Type);
        }
        if virtual_router_id != self.virtual_router_id {
            return Err(Refusal::VirtualRouterId);
        }
        if usize::from(count) != self.addresses.count() {
            return Err(Refusal::AddressCount);
        }
        if payload.len() != self.encoded_bytes() {
            return Err(Refusal::Length);
        }
        if !self.is_intact(datagram, payload) {
            return Err(Refusal::Checksum);
        }
        if !self.names_ours(body) {
            return Err(Refusal::Addresses);
        }
        if !senders.allow_source(datagram.source) {
            return Err(Refusal::Sender);
        }
        Ok(Advert {
            source: datagram.source,
            priority,
            interval,
        })
    }

    /// An advert without the signature behind it, and the signature, if there is one: by its
    /// length alone, of which no padding of Ethernet's is (`vrrp_check_packet`, vrrp.c).
    fn without_trailer<'d>(&self, payload: &'d [u8]) -> (&'d [u8], &'d [u8]) {
        const COUNT_OFFSET: usize = 3;
        let count = payload.get(COUNT_OFFSET).copied().map_or(0, usize::from);
        let expected = self.encoded_bytes_with(count);
        match payload.split_at_checked(expected) {
            Some((advert, trailer)) if trailer.len() == TRAILER_BYTES => (advert, trailer),
            _ => (payload, &[]),
        }
    }

    fn check_password(&self, kind: u8, body: &[u8]) -> Result<(), Refusal> {
        match self.password {
            None if kind == AUTHENTICATION_NONE => Ok(()),
            Some(password) if kind == AUTHENTICATION_PASSWORD => {
                match body.last_chunk::<PASSWORD_BYTES>() {
                    Some(theirs) if *theirs == password.0 => Ok(()),
                    _ => Err(Refusal::Password),
                }
            }
            None | Some(_) => Err(Refusal::AuthenticationType),
        }
    }

    /// Returns true if the checksum is right. Over IPv4, version 3 is spoken with a
    /// pseudo-header (keepalived; RFC 5798 §5.2.8 as most read it) and without
    /// (RFC 9568 §5.2.8): both are accepted.
    /// The checksum of IPv6 covers a signature, too, IPv4's `advert` alone.
    fn is_intact(&self, datagram: &Datagram, advert: &[u8]) -> bool {
        let payload = match self.is_ipv6() {
            true => datagram.payload,
            false => advert,
        };
        let plain = self.version == Version::V3 && !self.is_ipv6();
        self.checksum(payload, datagram.source, datagram.destination) == 0
            || plain && internet_checksum(&[payload]) == 0
    }

    fn names_ours(&self, body: &[u8]) -> bool {
        let body = &body[..self.addresses.count() * self.addresses.bytes_each()];
        match &self.addresses {
            Addresses::V4(ours) => ours
                .iter()
                .map(Ipv4Addr::octets)
                .all(|ours| body.chunks_exact(ours.len()).any(|theirs| theirs == ours)),
            Addresses::V6(ours) => ours
                .iter()
                .map(Ipv6Addr::octets)
                .all(|ours| body.chunks_exact(ours.len()).any(|theirs| theirs == ours)),
        }
    }
}
