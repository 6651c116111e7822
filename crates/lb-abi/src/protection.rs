//! Protection from floods: denied networks, validation of sources, rates.

use bitflags::bitflags;

use crate::Address;

bitflags! {
    /// The parts of the protection that are in use.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    #[repr(transparent)]
    pub struct ProtectionFlags: u32 {
        /// [`maps::DENIED_V4`](crate::maps::DENIED_V4) or
        /// [`maps::DENIED_V6`](crate::maps::DENIED_V6) has entries.
        const DENIES = 1;
        /// SYNs of sources that are not in [`maps::PROVEN`](crate::maps::PROVEN) are
        /// challenged.
        const VALIDATES = 1 << 1;
    }
}

/// The settings of the protection, which only packets of the slow path read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Protection {
    /// The parts that are in use.
    pub flags: ProtectionFlags,
    /// The key of [`Self::keys`] that challenges are made with, 0 or 1. Answers to
    /// challenges of either are accepted.
    pub active_key: u32,
    /// Keys of [`cookie_hash`].
    pub keys: [CookieKey; 2],
    /// Time per new connection of one network in the long run, in nanoseconds; 0: no limit.
    pub interval_ns: u64,
    /// Time by which the connections of a network may be ahead of that.
    pub burst_ns: u64,
}

/// Key of [`cookie_hash`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct CookieKey(pub [u64; 2]);

/// Time for which a source that has answered a challenge is proven, in nanoseconds.
pub const PROVEN_NS: u64 = 60_000_000_000;

/// TCP connections that the program has entered or refused, on one CPU; never reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct HandshakeCounters {
    /// Connections entered by their first packet.
    pub opened: u64,
    /// Those of them whose handshake has been completed.
    pub completed: u64,
    /// SYNs over the rate of their network, which are not entered.
    pub refused: u64,
}

/// SipHash-1-3 (Aumasson, Bernstein 2012) of a client, its port and the service's port (in
/// network byte order), and the last word of the service's address.
///
/// The lower 16 bits are those of the acknowledgement number of a challenge.
#[inline(always)]
pub const fn cookie_hash(
    key: CookieKey,
    client: &Address,
    client_port: u16,
    service_port: u16,
    virtual_address: &Address,
) -> u64 {
    let Address([a, b, c, d]) = *client;
    let ports = (client_port as u64) << 16 | service_port as u64;
    let CookieKey([k0, k1]) = key;
    let mut state = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    state = compress(state, (b as u64) << 32 | a as u64);
    state = compress(state, (d as u64) << 32 | c as u64);
    state = compress(state, (virtual_address.0[3] as u64) << 32 | ports);
    // The last word holds the length of the message in its upper byte.
    state = compress(state, 24 << 56);
    state[2] ^= 0xFF;
    state = round(round(round(state)));
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

#[inline(always)]
const fn compress(mut state: [u64; 4], word: u64) -> [u64; 4] {
    state[3] ^= word;
    let mut state = round(state);
    state[0] ^= word;
    state
}

#[inline(always)]
const fn round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    [a, b, c, d]
}

/// The acknowledgement number of the challenge to a SYN: the highest one that is not above
/// the SYN's own sequence number and ends in the cookie's 16 bits.
///
/// It is wrong, since the right one is the next after the sequence number; and it lies so
/// close below that the connection tracking of a router on the way takes it for an old
/// segment of this connection rather than for an invalid one (`MAXACKWINCONST` of
/// nf_conntrack_proto_tcp.c is 66,000).
#[inline(always)]
pub const fn challenge_number(sequence: u32, hash: u64) -> u32 {
    sequence.wrapping_sub(sequence.wrapping_sub(hash as u32) & 0xFFFF)
}

/// True if `sequence`, of a reset, answers a challenge whose cookie has this hash.
#[inline(always)]
pub const fn answers_challenge(sequence: u32, hash: u64) -> bool {
    sequence as u16 == hash as u16
}

#[cfg(feature = "user")]
mod pod {
    use super::*;

    // SAFETY: repr(C), Copy, made of integers, without padding.
    unsafe impl aya::Pod for Protection {}
    // SAFETY: as above.
    unsafe impl aya::Pod for HandshakeCounters {}
    // SAFETY: a transparent array of integers.
    unsafe impl aya::Pod for Address {}
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::hash::Hasher as _;

    use super::*;

    #[test]
    fn the_hash_is_siphash_1_3() {
        let client = Address([1, 2, 3, 4]);
        let virtual_address = Address([5, 6, 7, 8]);
        // The standard library's, whose keys are 0.
        let mut reference = std::hash::DefaultHasher::new();
        for word in [1_u32, 2, 3, 4] {
            reference.write(&word.to_le_bytes());
        }
        reference.write(&(9_u32 << 16 | 10).to_le_bytes());
        reference.write(&8_u32.to_le_bytes());
        let key = CookieKey::default();
        assert_eq!(
            cookie_hash(key, &client, 9, 10, &virtual_address),
            reference.finish()
        );
    }

    #[test]
    fn a_challenge_is_never_right_and_less_than_66000_below_what_is() {
        for sequence in [0, 1, 0xFFFF, 0x1_0000, 0x8000_0000, u32::MAX] {
            for hash in [0, 1, 0x7FFF, 0xFFFE, 0xFFFF, u64::MAX] {
                let number = challenge_number(sequence, hash);
                let below = sequence.wrapping_add(1).wrapping_sub(number);
                assert!((1..=0x1_0000).contains(&below), "{sequence} {hash}");
                assert!(answers_challenge(number, hash));
                assert!(!answers_challenge(number.wrapping_add(1), hash));
            }
        }
    }
}
