//! Addresses that packets do not reach.
//!
//! A server that gets no packets counts for nothing, whatever its checks say: they may
//! take another way, or may have found a route of ours missing, which is never held
//! against a server. It counts for as long as it has not had its time, though: an
//! interface may be set up anew, a MAC address may have to be asked for.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::super::change::Change;
use super::super::plan::ServerPlan;
use super::outage::Outage;
use super::{Place, State};
use crate::neighbor::{Hop, Hops};
use lb_model::ServiceKey;

/// Time for which a route, an interface or a neighbour that fails may come back
/// before it counts.
pub(super) const SETTLING_TIME: Duration = Duration::from_secs(1);

/// Time for which a MAC address may be asked for before it counts as unknown. The
/// kernel gives up after 3 s by itself, unless it is told otherwise (arp(7),
/// `mcast_solicit`, `retrans_time_ms`).
pub(super) const RESOLUTION_LIMIT: Duration = Duration::from_secs(5);

impl State {
    /// Takes the hops towards all servers.
    pub fn hops_changed(&mut self, hops: Hops, now: Instant) -> Vec<Change> {
        let mut changes: Vec<Change> = hops
            .iter()
            .filter(|(address, hop)| self.hops.get(*address) != Some(*hop))
            .map(|(address, hop)| Change::Hop {
                address: *address,
                hop: hop.clone(),
            })
            .collect();
        self.hops = hops;
        changes.extend(self.update_outages(now));
        changes
    }

    /// True if packets have not reached an address for longer than they may.
    pub fn is_cut_off(&self, address: IpAddr) -> bool {
        self.outages.get(&address) == Some(&Outage::Lasting)
    }

    /// True if a server may have connections: its checks succeed, it is not held
    /// out, and packets reach it.
    pub fn is_up(&self, service: ServiceKey, server: &ServerPlan) -> bool {
        self.failure(service, server).is_none() && !self.is_cut_off(server.address.ip())
    }

    /// When the next address comes to count for nothing, if one does.
    pub(super) fn next_outage(&self) -> Option<Instant> {
        let times = self
            .outages
            .keys()
            .filter_map(|address| self.counts_until(*address));
        times.min()
    }

    /// Begins, ends and judges outages, and says what follows for servers.
    pub(super) fn update_outages(&mut self, now: Instant) -> Vec<Change> {
        let addresses = self.addresses();
        let missing: BTreeSet<IpAddr> = addresses
            .into_keys()
            .filter(|address| !self.hops.get(address).is_some_and(Hop::is_ready))
            .collect();
        let lasting = missing.iter().filter(|address| {
            let until = self.counts_until(**address);
            self.is_cut_off(**address) || until.is_some_and(|until| until <= now)
        });
        let lasting: BTreeSet<IpAddr> = lasting.copied().collect();
        let before = self.outages.iter();
        let before = before.filter(|(_, outage)| **outage == Outage::Lasting);
        let before: BTreeSet<IpAddr> = before.map(|(address, _)| *address).collect();
        let concerned: Vec<_> = self
            .servers()
            .filter(|(_, _, server)| {
                let address = server.address.ip();
                before.contains(&address) != lasting.contains(&address)
            })
            .map(|(service, index, _)| (service.key, index))
            .map(|place: Place| (place, self.availability(place)))
            .collect();
        self.outages.retain(|address, _| missing.contains(address));
        for address in missing {
            let outage = self.outages.entry(address).or_insert(Outage::Since(now));
            if lasting.contains(&address) {
                *outage = Outage::Lasting;
            }
        }
        if before == lasting {
            return Vec::new();
        }
        let mut changes = Vec::new();
        for (place, availability) in concerned {
            changes.extend(self.server_changes(place, availability, now));
        }
        changes.extend(self.release_last(now));
        changes.extend(self.update_quorums());
        changes
    }

    /// Until when an address counts that packets do not reach; `None` where they
    /// do, and where it counts no more.
    fn counts_until(&self, address: IpAddr) -> Option<Instant> {
        let Outage::Since(since) = *self.outages.get(&address)? else {
            return None;
        };
        let limit = match self.hops.get(&address) {
            Some(Hop::NotReady {
                is_pending: false, ..
            }) => SETTLING_TIME,
            _ => RESOLUTION_LIMIT,
        };
        Some(since + limit)
    }
}
