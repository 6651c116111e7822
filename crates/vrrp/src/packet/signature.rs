//! Signatures of adverts: keepalived 2.4's `auth_hmac` (vrrp_auth_hmac.c).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+-------------------------------+
//! |   scheme (1)  |   key number  |               0               |
//! +---------------+---------------+-------------------------------+
//! |          sequence number: seconds since 1970                  |
//! +-------------------------------+-------------------------------+
//! |      1/65536 seconds          |           counter             |
//! +-------------------------------+-------------------------------+
//! |        first 16 bytes of an HMAC-SHA256 …                     |
//! +---------------------------------------------------------------+
//! ```
//!
//! The trailer stands behind an advert. What is signed: family (4 or 6), version, virtual
//! router, 0, the source address in 16 bytes (padded with zeros), the advert with a zero for
//! its checksum, the trailer with zeros for its HMAC. Performs no I/O and looks at no clock.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, Mac as _};
use lb_model::config::HmacMode;
use sha2::Sha256;

use super::{CHECKSUM_OFFSET, Refusal};

const SCHEME_SHA256: u8 = 1;
/// Scheme, key, zeros and sequence number.
const PREFIX_BYTES: usize = 12;
const HMAC_BYTES: usize = 16;

/// Length of the trailer.
pub const TRAILER_BYTES: usize = PREFIX_BYTES + HMAC_BYTES;

/// Senders by multicast whose sequence numbers are known: keepalived's
/// `VRRP_AUTH_HMAC_MCAST_SENDERS`.
const MULTICAST_SENDERS: usize = 4;

/// A key that adverts are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// Its number.
    pub id: u8,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, …)", self.id)
    }
}

/// How adverts are signed and judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureSettings {
    /// The keys that are accepted.
    pub keys: Vec<Key>,
    /// Number of the key that signs, which is one of them.
    pub active_key: u8,
    /// Seconds by which another clock may differ from ours; `None`: any time will do that is
    /// later than the last one.
    pub time_window: Option<u32>,
    /// Whether adverts are signed, and must be.
    pub mode: HmacMode,
}

impl SignatureSettings {
    /// True if our adverts are signed.
    pub fn signs(&self) -> bool {
        self.mode != HmacMode::ReceiveOnly
    }

    fn key(&self, id: u8) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }
}

/// The sender and the receiver of signed adverts of one virtual router.
///
/// Calling contract: [`next_sequence`](Self::next_sequence) once for an advert, also where it
/// goes to several peers; [`check`](Self::check) once for each that arrives.
#[derive(Debug, Clone)]
pub struct Signatures {
    settings: SignatureSettings,
    last_sent: Sequence,
    /// What each sender has sent last, the one that was heard last at the end.
    heard: VecDeque<(IpAddr, Sequence)>,
}

/// The parts of an advert that the signature binds besides its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// Number of VRRP's version.
    pub version: u8,
    /// The virtual router's number.
    pub virtual_router_id: u8,
    /// The sender.
    pub source: IpAddr,
}

impl Signatures {
    /// A virtual router that has sent and heard nothing yet.
    pub fn new(settings: SignatureSettings) -> Self {
        Self {
            settings,
            last_sent: Sequence(0),
            heard: VecDeque::new(),
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> &SignatureSettings {
        &self.settings
    }

    /// Puts other settings in force; what was sent and heard stays known.
    pub fn replace_settings(&mut self, settings: SignatureSettings) {
        self.settings = settings;
    }

    /// The number of the next advert that is sent at `now`; `None` if it is not signed.
    pub fn next_sequence(&mut self, now: SystemTime) -> Option<Sequence> {
        if !self.settings.signs() {
            return None;
        }
        let clock = Sequence::of_time(now);
        self.last_sent = if clock.is_after(self.last_sent) || self.is_stranded(clock) {
            clock
        } else {
            Sequence(self.last_sent.0.wrapping_add(1))
        };
        Some(self.last_sent)
    }

    /// The clock was set back: nobody would accept what follows on the last number.
    fn is_stranded(&self, clock: Sequence) -> bool {
        let window = self.settings.time_window;
        window.is_some_and(|window| self.last_sent.seconds_after(clock) > i64::from(window))
    }

    /// Signs an advert: appends the trailer.
    pub fn sign(&self, advert: &mut Vec<u8>, bound: Bound, sequence: Sequence) {
        let active = self.settings.active_key;
        let Some(key) = self.settings.key(active) else {
            return;
        };
        let length = advert.len();
        advert.extend([SCHEME_SHA256, active, 0, 0]);
        advert.extend(sequence.0.to_be_bytes());
        let code = code(key, bound, &advert[..length], &advert[length..]);
        let code = code.finalize().into_bytes();
        advert.extend(&code[..HMAC_BYTES]);
    }

    /// Judges what arrived behind an advert at `now`; `senders`: the number of unicast peers,
    /// if there are any.
    ///
    /// # Errors
    /// The first check that it fails; in keepalived's order.
    pub fn check(
        &mut self,
        advert: &[u8],
        trailer: &[u8],
        bound: Bound,
        senders: Option<usize>,
        now: SystemTime,
    ) -> Result<(), Refusal> {
        if trailer.is_empty() {
            return match self.settings.mode {
                HmacMode::Enforce => Err(Refusal::SignatureMissing),
                HmacMode::Permissive | HmacMode::ReceiveOnly => Ok(()),
            };
        }
        let malformed = Refusal::SignatureMalformed;
        let (prefix, theirs) = trailer.split_at_checked(PREFIX_BYTES).ok_or(malformed)?;
        let (head, sequence) = prefix.split_first_chunk::<4>().ok_or(malformed)?;
        let &[SCHEME_SHA256, id, 0, 0] = head else {
            return Err(malformed);
        };
        let sequence = sequence.try_into().map_err(|_| malformed)?;
        let sequence = Sequence(u64::from_be_bytes(sequence));
        let clock = Sequence::of_time(now);
        // Before the digest, which costs more: this can only refuse.
        if !self.is_fresh(sequence, clock) {
            return Err(Refusal::SignatureStale);
        }
        let key = self.settings.key(id).ok_or(Refusal::SignatureKey)?;
        let code = code(key, bound, advert, prefix);
        code.verify_truncated_left(theirs)
            .map_err(|_| Refusal::SignatureWrong)?;
        self.admit(bound.source, sequence, clock, senders)
    }

    fn is_fresh(&self, sequence: Sequence, clock: Sequence) -> bool {
        let window = self.settings.time_window;
        window.is_none_or(|window| sequence.seconds_after(clock).unsigned_abs() <= window.into())
    }

    /// Takes note of a number that is signed rightly, unless it is not greater than the
    /// sender's last one.
    fn admit(
        &mut self,
        sender: IpAddr,
        sequence: Sequence,
        clock: Sequence,
        senders: Option<usize>,
    ) -> Result<(), Refusal> {
        let place = self.heard.iter().position(|(known, _)| *known == sender);
        if let Some((_, last)) = place.and_then(|place| self.heard.remove(place)) {
            // A number beyond the window only orders what the window refuses anyway: a
            // sender whose clock was set right is heard again.
            if self.is_fresh(last, clock) && !sequence.is_after(last) {
                self.heard.push_back((sender, last));
                return Err(Refusal::SignatureReplayed);
            }
        }
        while self.heard.len() >= senders.unwrap_or(MULTICAST_SENDERS) {
            self.heard.pop_front();
        }
        self.heard.push_back((sender, sequence));
        Ok(())
    }
}

/// A sequence number; ordered by serial number arithmetic (RFC 1982).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence(u64);

impl Sequence {
    fn of_time(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let fraction = (u64::from(since.subsec_nanos()) << 16) / 1_000_000_000;
        // 32 bits of seconds, as the field has them.
        Self(since.as_secs() << 32 | fraction << 16)
    }

    fn is_after(self, other: Self) -> bool {
        self.0.wrapping_sub(other.0) as i64 > 0
    }

    fn seconds_after(self, other: Self) -> i64 {
        let seconds = |number: u64| (number >> 32) as u32;
        i64::from(seconds(self.0).wrapping_sub(seconds(other.0)) as i32)
    }
}

/// The message authentication code of an advert, with the part of its trailer that stands
/// before the code.
fn code(key: &Key, bound: Bound, advert: &[u8], prefix: &[u8]) -> Hmac<Sha256> {
    let mut code = <Hmac<Sha256> as hmac::Mac>::new_from_slice(&key.bytes)
        .expect("HMAC takes keys of any length");
    let mut address = [0; 16];
    let family = match bound.source {
        IpAddr::V4(v4) => {
            address[..4].copy_from_slice(&v4.octets());
            4
        }
        IpAddr::V6(v6) => {
            address = v6.octets();
            6
        }
    };
    code.update(&[family, bound.version, bound.virtual_router_id, 0]);
    code.update(&address);
    code.update(&advert[..CHECKSUM_OFFSET]);
    code.update(&[0, 0]);
    code.update(&advert[CHECKSUM_OFFSET + 2..]);
    code.update(prefix);
    code.update(&[0; HMAC_BYTES]);
    code
}
