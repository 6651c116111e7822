//! Loads that servers tell, and the shares that follow from them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::super::load_shares::{LoadShares, Member, Pace};
use super::super::plan::{Plan, ServerPlan, ServicePlan};
use super::super::saved::SavedLoadWeight;
use super::{Place, State};
use crate::checker::machine::Share;
use crate::checker::{CheckEvent, CheckResult, Probe};
use lb_model::{Scheduler, ServiceKey};
use lb_wire::load::Load;

/// An answer counts for as many intervals of its check, and for so long at least.
const VALID_INTERVALS: u32 = 3;
const MIN_VALID: Duration = Duration::from_secs(3);

/// Weights of an earlier agent stay until all servers have answered, and for so long at most;
/// longer where answers are rarer.
const MIN_INHERITED: Duration = Duration::from_secs(10);

/// The shares that an earlier agent has left to the services of `plan` that still follow
/// loads.
pub(super) fn inherited(
    plan: &Plan,
    weights: &[SavedLoadWeight],
    now: Instant,
) -> HashMap<ServiceKey, LoadShares> {
    let mut inherited = HashMap::new();
    for service in plan.services.iter().filter(|it| follows_loads(it)) {
        let checks = service.servers.iter().flat_map(|server| &server.checks);
        let intervals = checks
            .filter(|check| matches!(check.probe, Probe::Load(_)))
            .map(|check| check.timing.delay_loop);
        let Some(interval) = intervals.max() else {
            continue;
        };
        let of_service = weights.iter().filter(|it| it.service == service.key.into());
        let weights: HashMap<SocketAddr, u32> =
            of_service.map(|it| (it.server, it.weight)).collect();
        if weights.values().any(|weight| *weight > 0) {
            let until = now + (interval * VALID_INTERVALS).max(MIN_INHERITED);
            inherited.insert(service.key, LoadShares::inherit(weights, until));
        }
    }
    inherited
}

impl State {
    /// The weights that follow from loads, for a later agent.
    pub(super) fn load_weights(&self) -> Vec<SavedLoadWeight> {
        let shares = self.load_shares.iter();
        let mut weights: Vec<SavedLoadWeight> = shares
            .flat_map(|(service, shares)| {
                let weights = shares.weights().iter();
                weights.map(|(server, weight)| SavedLoadWeight {
                    service: (*service).into(),
                    server: *server,
                    weight: *weight,
                })
            })
            .collect();
        weights.sort_by_key(|it| (it.service.address, it.service.protocol, it.server));
        weights
    }

    /// Takes the load that a check has found for the servers at `places`, if it has found one.
    pub(super) fn load_told(&mut self, event: &CheckEvent, places: &[Place], now: Instant) {
        let CheckResult::Up(Some(Share::Load(load))) = event.result else {
            return;
        };
        let valid = (event.spec.timing.delay_loop * VALID_INTERVALS).max(MIN_VALID);
        for place in places {
            let address = self.server(*place).address;
            let shares = self.load_shares.entry(place.0).or_default();
            shares.answered(address, load, valid, now);
        }
    }

    /// When the next share is to move, if one is.
    pub(super) fn next_load_step(&self) -> Option<Instant> {
        let deadlines = self.load_shares.values().filter_map(|it| it.deadline());
        deadlines.min()
    }

    /// Moves the shares that are due. Returns true if weights have changed.
    pub(super) fn step_loads(&mut self, now: Instant) -> bool {
        let mut has_changed = false;
        let mut all = std::mem::take(&mut self.load_shares);
        for (key, shares) in &mut all {
            if shares.deadline().is_some_and(|due| due <= now) {
                let members = self.members(*key);
                has_changed |= shares.step(&members, self.pace(*key), now);
            }
        }
        self.load_shares = all;
        has_changed
    }

    /// How closely the weights of a service follow its shares.
    fn pace(&self, key: ServiceKey) -> Pace {
        let mut services = self.plan.services.iter();
        let service = services.find(|service| service.key == key);
        match service.map(|service| service.scheduler) {
            Some(Scheduler::Mh) => Pace::OF_TABLES,
            _ => Pace::SWIFT,
        }
    }

    /// The servers of a service that may have new connections.
    fn members(&self, key: ServiceKey) -> Vec<Member> {
        let services = self.plan.services.iter();
        let services = services.filter(|service| service.key == key && follows_loads(service));
        let servers = services.flat_map(|service| {
            let is_weighted = !matches!(service.scheduler, Scheduler::Rr | Scheduler::Lc);
            service
                .servers
                .iter()
                .map(move |server| (is_weighted, server))
        });
        let member = |(is_weighted, server): (bool, &ServerPlan)| {
            let weight = self.weight(key, server);
            Member {
                address: server.address,
                weight: if is_weighted { weight } else { weight.min(1) },
                is_fed: self.order(key, server.address).is_none(),
            }
        };
        servers
            .map(member)
            .filter(|member| member.weight > 0)
            .collect()
    }

    /// The weight that a server has by the loads, in parts of
    /// [`TOTAL`](super::super::load_shares::TOTAL); `None`: as configured.
    pub fn weight_by_load(&self, service: ServiceKey, server: SocketAddr) -> Option<u32> {
        self.load_shares.get(&service)?.weight(server)
    }

    /// True if the weights of a service follow loads at present.
    pub(super) fn is_by_load(&self, service: ServiceKey) -> bool {
        let shares = self.load_shares.get(&service);
        shares.is_some_and(|shares| shares.is_in_force())
    }

    /// What a server has said of its load, and true if that still counts.
    pub fn load(
        &self,
        service: ServiceKey,
        server: SocketAddr,
        now: Instant,
    ) -> Option<(Load, bool)> {
        self.load_shares.get(&service)?.answer(server, now)
    }
}

/// True if the scheduler looks at shares. With `fo` and `ovf` a weight is a rank, and how many
/// connections are enough; `dh` looks at none.
fn follows_loads(service: &ServicePlan) -> bool {
    !matches!(
        service.scheduler,
        Scheduler::Fo | Scheduler::Ovf | Scheduler::Dh
    )
}
