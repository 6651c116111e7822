//! The scheduler number and the ring of each service, and the length that rings may
//! have.
//!
//! Room for rings is shared out before it is known which servers will be alive:
//! every service is given what it needs at the least with all its servers, and
//! the services whose weights want more share what is left. A state that fits
//! once therefore fits also when servers die or return; where room is short, weights
//! are rounded.

use std::net::SocketAddr;

use lb_abi::{
    Address, MAX_COMPARED, SCHEDULE_FIRST, SCHEDULE_HASH, SCHEDULE_LEAST_CONNECTIONS,
    SCHEDULE_NEVER_QUEUE, SCHEDULE_OVERFLOW, SCHEDULE_ROUND_ROBIN, SCHEDULE_SHORTEST_DELAY, mix,
};

use super::error::Error;
use super::options::TableSizes;
use super::registry::{ServiceRecord, is_eligible};
use super::rings::{self, Candidate};
use lb_model::{DesiredState, Scheduler, Service};

/// The room that services' rings may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// Places that a weighted service may have for its weights.
    weighted: usize,
    /// Places of a Maglev table.
    maglev: u32,
}

impl Allowance {
    /// Shares out the room that `sizes` gives.
    ///
    /// # Errors
    ///
    /// [`Error::TableFull`] where it is too little for all the servers of
    /// `desired`, [`Error::TooManyToCompare`].
    pub(crate) fn new(desired: &DesiredState, sizes: &TableSizes) -> Result<Self, Error> {
        for service in &desired.services {
            comparable(service)?;
        }
        let (least, weighted) = places(desired, sizes);
        let limit = sizes.ring_places as usize;
        let spare = limit.checked_sub(least).ok_or(Error::TableFull {
            what: "places in scheduling rings",
            wanted: least,
            limit,
            option: "ring_places",
        })?;
        Ok(Self {
            weighted: spare / weighted.max(1),
            maglev: sizes.maglev_places,
        })
    }

    /// The scheduler number of `service` for the packet path, and its ring.
    pub(crate) fn schedule(self, service: &Service, record: &ServiceRecord) -> (u32, Vec<u32>) {
        let eligible = service.servers.iter().filter(|server| is_eligible(server));
        let candidates: Vec<Candidate> = eligible
            .map(|server| Candidate {
                slot: record.servers[&server.address].slot,
                weight: server.weight,
                identity: identity(server.address),
            })
            .collect();
        let turns = if is_limited(service) {
            self.weighted.min(MAX_LIMITED_TURNS)
        } else {
            self.weighted
        };
        match service.scheduler {
            Scheduler::Rr => (SCHEDULE_ROUND_ROBIN, rings::each_once(&candidates)),
            Scheduler::Wrr => (SCHEDULE_ROUND_ROBIN, rings::interleaved(&candidates, turns)),
            Scheduler::Sh => (
                SCHEDULE_HASH,
                rings::source_hash(&candidates, self.weighted),
            ),
            Scheduler::Mh => (SCHEDULE_HASH, rings::maglev(&candidates, self.maglev)),
            Scheduler::Lc | Scheduler::Wlc => {
                (SCHEDULE_LEAST_CONNECTIONS, rings::each_once(&candidates))
            }
            Scheduler::Sed => (SCHEDULE_SHORTEST_DELAY, rings::each_once(&candidates)),
            Scheduler::Nq => (SCHEDULE_NEVER_QUEUE, rings::each_once(&candidates)),
            Scheduler::Fo => (SCHEDULE_FIRST, rings::heaviest_first(&candidates)),
            Scheduler::Ovf => (SCHEDULE_OVERFLOW, rings::heaviest_first(&candidates)),
            Scheduler::Dh => (
                SCHEDULE_FIRST,
                rings::destination_hash(&candidates, service.address.ip()),
            ),
        }
    }
}

/// Turns of weighted servers of which some have thresholds: where all of them are
/// full, one packet tries each.
const MAX_LIMITED_TURNS: usize = 1 << 10;

/// Returns true if some server of `service` has thresholds: it may be given no connections
/// though it could take some.
pub(crate) fn is_limited(service: &Service) -> bool {
    let mut servers = service.servers.iter();
    servers.any(|server| server.thresholds.upper != 0)
}

/// Returns true if weights can lengthen the ring; those of `rr` do while a server's
/// share grows.
const fn is_weighted(scheduler: Scheduler) -> bool {
    matches!(scheduler, Scheduler::Rr | Scheduler::Wrr | Scheduler::Sh)
}

/// Places that the rings of `desired` need at the least, and how many services
/// want more for their weights.
pub(crate) fn places(desired: &DesiredState, sizes: &TableSizes) -> (usize, usize) {
    let services = desired.services.iter();
    let least = services.clone().map(|it| least_places(it, sizes)).sum();
    let weighted = services.filter(|it| is_weighted(it.scheduler)).count();
    (least, weighted)
}

/// Places that the ring of `service` needs at the least with all its servers.
fn least_places(service: &Service, sizes: &TableSizes) -> usize {
    let servers = service.servers.len();
    match service.scheduler {
        Scheduler::Sh => rings::MIN_HASH_PLACES + servers,
        Scheduler::Mh => sizes.maglev_places as usize,
        _ => servers,
    }
}

/// Refuses a service that has more servers to compare, or to go from one to another
/// of, than one packet can.
fn comparable(service: &Service) -> Result<(), Error> {
    let (wanted, limit) = (service.servers.len(), MAX_COMPARED as usize);
    let compares = match service.scheduler {
        Scheduler::Lc | Scheduler::Wlc | Scheduler::Sed | Scheduler::Nq | Scheduler::Ovf => true,
        Scheduler::Rr | Scheduler::Wrr | Scheduler::Fo => is_limited(service),
        Scheduler::Sh | Scheduler::Mh | Scheduler::Dh => false,
    };
    if compares && wanted > limit {
        return Err(Error::TooManyToCompare { wanted, limit });
    }
    Ok(())
}

/// The Maglev table of `servers`, each with its weight of at least 1: indices of servers,
/// by the place that [`lb_abi::client_hash`] modulo `places`, which must be prime, gives a
/// client. Empty without servers.
///
/// Whoever computes it of the same servers gets the same table, in whatever order they
/// stand.
pub fn maglev_table(servers: &[(SocketAddr, u32)], places: u32) -> Vec<u32> {
    let candidates = servers.iter().zip(0..);
    let candidates: Vec<Candidate> = candidates
        .map(|(&(address, weight), slot)| Candidate {
            slot,
            weight: weight.max(1),
            identity: identity(address),
        })
        .collect();
    rings::maglev(&candidates, places)
}

/// The same number for a server on every director and in every run.
fn identity(address: SocketAddr) -> u64 {
    let Address([a, b, c, d]) = address.ip().to_canonical().into();
    let words = [a, b, c, d].map(|word| u64::from(u32::from_be(word)));
    let halves = [
        words[0] << 32 | words[1],
        words[2] << 32 | words[3],
        address.port().into(),
    ];
    halves.iter().fold(0, |identity, half| mix(identity ^ half))
}
