//! The order in which servers take connections, laid out in advance.
//!
//! A ring holds only servers that can take a connection, named by their slots.
//! The scheduler decides how the packet path uses it: places in turn, a place by the
//! client's hash, or a comparison of all.

use std::cmp::Reverse;
use std::net::IpAddr;

use lb_abi::mix;

/// A server that can take connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its slot.
    pub slot: u32,
    /// Its share, at least 1.
    pub weight: u32,
    /// A number that identifies it on every director alike.
    pub identity: u64,
}

/// Maximum number of places of a ring: weights that need more are rounded.
const MAX_RING_PLACES: usize = 1 << 14;

/// The least number of places of a source hash, as in IPVS (`IP_VS_SH_TAB_SIZE`).
pub(crate) const MIN_HASH_PLACES: usize = 256;

/// Every server once, in order.
pub(crate) fn each_once(candidates: &[Candidate]) -> Vec<u32> {
    candidates.iter().map(|candidate| candidate.slot).collect()
}

/// Every server as often as its weight, spread evenly: 5, 1, 1 become
/// a a b a c a a (the smooth weighted round robin of nginx). Weights that would
/// need more than `max_places` places are rounded, so that there are no more than
/// that and one per server.
pub(crate) fn interleaved(candidates: &[Candidate], max_places: usize) -> Vec<u32> {
    let weights = reduced_weights(candidates, max_places.min(MAX_RING_PLACES));
    let total: i64 = weights.iter().sum();
    let mut credit = vec![0_i64; weights.len()];
    (0..total)
        .map(|_| {
            for (credit, weight) in credit.iter_mut().zip(&weights) {
                *credit += weight;
            }
            // The first of those with the most credit.
            let best = (0..credit.len()).rev().max_by_key(|index| credit[*index]);
            let best = best.expect("there are servers, or there were no turns");
            credit[best] -= total;
            candidates[best].slot
        })
        .collect()
}

/// Places for a source hash, as often per server as its weight: no more
/// than `max_places`, one per server and [`MIN_HASH_PLACES`].
pub(crate) fn source_hash(candidates: &[Candidate], max_places: usize) -> Vec<u32> {
    let turns = interleaved(candidates, max_places);
    if turns.is_empty() {
        return turns;
    }
    let rounds = MIN_HASH_PLACES.div_ceil(turns.len());
    turns
        .iter()
        .copied()
        .cycle()
        .take(turns.len() * rounds)
        .collect()
}

/// A Maglev table of `places` (Eisenbud et al., NSDI 2016, §3.4): every server
/// gets its share of places, and the loss of one moves few others.
///
/// `places` must be prime, so that every server's walk visits every place.
pub(crate) fn maglev(candidates: &[Candidate], places: u32) -> Vec<u32> {
    // In an order that all directors share, whatever their configuration's.
    let mut candidates = candidates.to_vec();
    candidates.sort_by_key(|candidate| candidate.identity);
    let Some(heaviest) = candidates.iter().map(|candidate| candidate.weight).max() else {
        return Vec::new();
    };
    let walks = candidates.iter();
    let mut walks: Vec<Walk> = walks
        .map(|candidate| Walk::new(candidate.identity, places))
        .collect();
    let mut table: Vec<Option<u32>> = vec![None; places as usize];
    let mut empty = table.len();
    // The heaviest takes a place in each round, the others whenever they have
    // fewer than they weigh beside it.
    for round in 1.. {
        for (walk, candidate) in walks.iter_mut().zip(&candidates) {
            let due = round * u64::from(candidate.weight);
            if walk.taken * u64::from(heaviest) >= due {
                continue;
            }
            walk.take(&mut table, candidate.slot);
            empty -= 1;
            if empty == 0 {
                return table.into_iter().flatten().collect();
            }
        }
    }
    unreachable!("each round takes a place")
}

/// A server's preferences: places of a Maglev table in an order of its own.
struct Walk {
    place: u64,
    skip: u64,
    /// Number of places that it has taken.
    taken: u64,
}

impl Walk {
    fn new(identity: u64, places: u32) -> Self {
        let places = u64::from(places);
        Self {
            place: mix(identity) % places,
            skip: mix(!identity) % (places - 1) + 1,
            taken: 0,
        }
    }

    /// Takes the next place that is empty; there must be one.
    fn take(&mut self, table: &mut [Option<u32>], slot: u32) {
        while table[self.place as usize].is_some() {
            self.place = (self.place + self.skip) % table.len() as u64;
        }
        table[self.place as usize] = Some(slot);
        self.taken += 1;
    }
}

/// Every server once, the heaviest first; of those that weigh the same, the first.
pub(crate) fn heaviest_first(candidates: &[Candidate]) -> Vec<u32> {
    let mut candidates = candidates.to_vec();
    candidates.sort_by_key(|candidate| Reverse(candidate.weight));
    each_once(&candidates)
}

/// The server that `destination` hashes to; weights make no difference. The servers
/// are spread over the places in turn, and the hash is that of `ip_vs_dh_hashkey`
/// (ip_vs_dh.c).
pub(crate) fn destination_hash(candidates: &[Candidate], destination: IpAddr) -> Vec<u32> {
    const PLACES: u32 = 256;
    let folded = match destination.to_canonical() {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            [96, 64, 32, 0]
                .iter()
                .fold(0, |folded, shift| folded ^ (bits >> shift) as u32)
        }
    };
    let place = folded.wrapping_mul(2_654_435_761) % PLACES;
    let number = (place as usize).checked_rem(candidates.len());
    let server = number.and_then(|number| candidates.get(number));
    server.map(|candidate| candidate.slot).into_iter().collect()
}

/// Returns true if a number is prime.
pub fn is_prime(number: u32) -> bool {
    number >= 2
        && (2..)
            .take_while(|d: &u32| u64::from(*d) * u64::from(*d) <= u64::from(number))
            .all(|d| !number.is_multiple_of(d))
}

/// The weights without their common divisor; where their sum is more than
/// `max_places`, rounded until it is no more than that and one per server.
fn reduced_weights(candidates: &[Candidate], max_places: usize) -> Vec<i64> {
    let weights = candidates.iter().map(|candidate| candidate.weight);
    let total: u64 = weights.clone().map(u64::from).sum();
    let divisor = u64::from(weights.clone().fold(0, gcd).max(1));
    let max_places = max_places as u64;
    let reduce = |weight: u64| {
        if total / divisor <= max_places {
            weight / divisor
        } else {
            (weight * max_places / total).max(1)
        }
    };
    weights.map(|weight| reduce(weight.into()) as i64).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn candidates(weights: &[u32]) -> Vec<Candidate> {
        let candidate = |(slot, weight): (usize, &u32)| Candidate {
            slot: slot as u32,
            weight: *weight,
            identity: mix(slot as u64),
        };
        weights.iter().enumerate().map(candidate).collect()
    }

    fn shares(ring: &[u32]) -> HashMap<u32, usize> {
        ring.iter().fold(HashMap::new(), |mut shares, slot| {
            *shares.entry(*slot).or_default() += 1;
            shares
        })
    }

    #[test]
    fn heavy_servers_turns_are_spread_among_the_others() {
        assert_eq!(
            interleaved(&candidates(&[5, 1, 1]), MAX_RING_PLACES),
            [0, 0, 1, 0, 2, 0, 0]
        );
        assert_eq!(
            interleaved(&candidates(&[2, 2]), MAX_RING_PLACES),
            [0, 1],
            "a common divisor is taken out"
        );
        assert_eq!(interleaved(&[], MAX_RING_PLACES), Vec::<u32>::new());
    }

    #[test]
    fn weights_are_rounded_where_room_is_short() {
        for max_places in [0, 10, 1000, MAX_RING_PLACES, usize::MAX] {
            let weights = [65_535, 65_534, 1];
            let ring = interleaved(&candidates(&weights), max_places);
            let bound = max_places.min(MAX_RING_PLACES) + weights.len();
            assert!(ring.len() <= bound, "{max_places}: {}", ring.len());
            assert_eq!(shares(&ring)[&2], 1, "the light server keeps a turn");
            let hashed = source_hash(&candidates(&weights), max_places);
            assert!(hashed.len() <= bound + MIN_HASH_PLACES, "{}", hashed.len());
        }
    }

    #[test]
    fn maglev_gives_every_server_its_share() {
        let alike: Vec<u32> = (200..220).collect();
        let examples = [
            &[1, 1, 1][..],
            &[1; 10],
            &[3, 1],
            &[7, 2, 1],
            &[5000, 4999],
            &[65_535, 6_553],
            &alike,
        ];
        for weights in examples {
            let table = maglev(&candidates(weights), 4093);
            assert_eq!(table.len(), 4093);
            let (shares, total) = (shares(&table), weights.iter().sum::<u32>() as usize);
            for (slot, weight) in weights.iter().enumerate() {
                let (expected, got) = (4093 * *weight as usize / total, shares[&(slot as u32)]);
                let most = expected.max(got) - expected.min(got);
                assert!(
                    most * 20 <= expected,
                    "{weights:?}: server {slot} has {got}"
                );
            }
        }
    }

    #[test]
    fn maglev_moves_few_clients_when_a_server_leaves() {
        let all = candidates(&[1; 10]);
        let (before, after) = (maglev(&all, 4093), maglev(&all[1..], 4093));
        let moved = before
            .iter()
            .zip(&after)
            .filter(|(b, a)| **b != 0 && a != b)
            .count();
        // 10 servers, 4093 places: the paper's figure 6 has about 2 % at 65537.
        assert!(
            moved * 100 < 4093 * 5,
            "{moved} of 4093 places moved without need"
        );
    }

    #[test]
    fn maglev_does_not_depend_on_the_order_of_servers() {
        let servers = candidates(&[1, 2, 3]);
        let reversed: Vec<_> = servers.iter().rev().copied().collect();
        assert_eq!(maglev(&servers, 251), maglev(&reversed, 251));
    }

    #[test]
    fn the_heaviest_server_stands_first_and_of_equals_the_first() {
        assert_eq!(heaviest_first(&candidates(&[1, 3, 2, 3])), [1, 3, 2, 0]);
    }

    #[test]
    fn a_virtual_address_has_one_server_and_many_have_all() {
        let servers = candidates(&[1, 7, 1]);
        let of = |address: String| destination_hash(&servers, address.parse().expect("an address"));
        for network in ["10.0.0.", "2001:db8::"] {
            let chosen: Vec<_> = (0..64).map(|n| of(format!("{network}{n}"))).collect();
            assert!(chosen.iter().all(|ring| ring.len() == 1), "{chosen:?}");
            let of_each = shares(&chosen.concat());
            assert!((0..3).all(|slot| of_each[&slot] >= 10), "{of_each:?}");
        }
        assert_eq!(of("10.0.0.1".to_owned()), of("::ffff:10.0.0.1".to_owned()));
        assert_eq!(
            destination_hash(&[], "10.0.0.1".parse().expect("an address")),
            Vec::<u32>::new()
        );
    }

    #[test]
    fn primes_are_told_from_others() {
        let primes: Vec<u32> = (0..30).filter(|number| is_prime(*number)).collect();
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert!(is_prime(65_537) && is_prime(4_294_967_291) && !is_prime(65_535));
    }

    proptest! {
        #[test]
        fn every_weighted_ring_has_every_server_in_proportion(
            weights in prop::collection::vec(1_u32..=20, 1..12),
        ) {
            let candidates = candidates(&weights);
            for ring in [interleaved(&candidates, MAX_RING_PLACES), source_hash(&candidates, MAX_RING_PLACES)] {
                let (shares, total) = (shares(&ring), weights.iter().sum::<u32>() as usize);
                for (slot, weight) in weights.iter().enumerate() {
                    let share = shares[&(slot as u32)];
                    prop_assert_eq!(share * total, ring.len() * *weight as usize);
                }
            }
        }
    }
}
