//! What the packet path schedules each service's connections by, and how long
//! its ring may be.
//!
//! Room for rings is shared out before anyone knows which servers will live:
//! every service is given what it needs at the least with all its servers, and
//! the services whose weights want more share what is left. A state that fits
//! once therefore fits whatever its servers do; where room is short, weights
//! are rounded.

use std::net::SocketAddr;

use lb_common::{
    Address, MAX_COMPARED, SCHEDULE_HASH, SCHEDULE_LEAST_CONNECTIONS, SCHEDULE_ROUND_ROBIN, mix,
};

use super::registry::{ServiceRecord, is_eligible};
use super::rings::{self, Candidate};
use super::state::{DesiredState, Scheduler, Service};
use super::{Error, TableSizes};

/// How much room the services' rings may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
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
    pub fn new(desired: &DesiredState, sizes: &TableSizes) -> Result<Self, Error> {
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

    /// What the packet path does with the ring of `service`, and the ring.
    pub fn schedule(self, service: &Service, record: &ServiceRecord) -> (u32, Vec<u32>) {
        let eligible = service.servers.iter().filter(|server| is_eligible(server));
        let candidates: Vec<Candidate> = eligible
            .map(|server| Candidate {
                slot: record.servers[&server.address].slot,
                weight: server.weight,
                identity: identity(server.address),
            })
            .collect();
        match service.scheduler {
            Scheduler::Rr => (SCHEDULE_ROUND_ROBIN, rings::each_once(&candidates)),
            Scheduler::Wrr => (
                SCHEDULE_ROUND_ROBIN,
                rings::interleaved(&candidates, self.weighted),
            ),
            Scheduler::Sh => (
                SCHEDULE_HASH,
                rings::source_hash(&candidates, self.weighted),
            ),
            Scheduler::Mh => (SCHEDULE_HASH, rings::maglev(&candidates, self.maglev)),
            Scheduler::Lc | Scheduler::Wlc => {
                (SCHEDULE_LEAST_CONNECTIONS, rings::each_once(&candidates))
            }
        }
    }
}

/// Whether weights ever lengthen the ring; those of `rr` do while a server's
/// share grows.
const fn is_weighted(scheduler: Scheduler) -> bool {
    matches!(scheduler, Scheduler::Rr | Scheduler::Wrr | Scheduler::Sh)
}

/// Places that the rings of `desired` need at the least, and how many services
/// want more for their weights.
pub fn places(desired: &DesiredState, sizes: &TableSizes) -> (usize, usize) {
    let services = desired.services.iter();
    let least = services.clone().map(|it| least_places(it, sizes)).sum();
    let weighted = services.filter(|it| is_weighted(it.scheduler)).count();
    (least, weighted)
}

/// Places that the ring of `service` needs at the least with all its servers.
fn least_places(service: &Service, sizes: &TableSizes) -> usize {
    let servers = service.servers.len();
    match service.scheduler {
        Scheduler::Rr | Scheduler::Wrr | Scheduler::Lc | Scheduler::Wlc => servers,
        Scheduler::Sh => rings::FEWEST_HASHED + servers,
        Scheduler::Mh => sizes.maglev_places as usize,
    }
}

/// Refuses a service that has more servers to compare than one packet can.
fn comparable(service: &Service) -> Result<(), Error> {
    let (wanted, limit) = (service.servers.len(), MAX_COMPARED as usize);
    match service.scheduler {
        Scheduler::Lc | Scheduler::Wlc if wanted > limit => {
            Err(Error::TooManyToCompare { wanted, limit })
        }
        _ => Ok(()),
    }
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
