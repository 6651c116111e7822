//! What the agent knows, and what follows from it for the data plane.
//!
//! No I/O: events go in, the desired state and the [`Change`]s come out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::change::{self, Change, Order};
use super::plan::{Plan, ServerPlan, ServiceKey, ServicePlan};
use super::recovery::{PARTS, Recovery};
use super::saved::{Saved, SavedCheck, SavedOrder, SavedQuorum};
use crate::checker::{CheckEvent, CheckResult, CheckSpec};
use crate::config::model::{LbKind, Script};
use crate::control::selection::Endpoint;
use crate::dataplane::state::{DesiredState, Forwarding, NextHop, RealServer, Scheduler, Service};
use crate::neighbor::{Hop, Hops, Path};
use crate::netlink::link::Mac;

/// How a server stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    is_up: bool,
    weight: u32,
}

/// A server's service, and its place among that service's servers.
type Place = (ServiceKey, usize);

/// Everything the agent knows.
#[derive(Debug, Clone, Default)]
pub struct State {
    plan: Plan,
    /// What each check last found.
    checks: HashMap<CheckSpec, CheckResult>,
    /// How servers come back that have been down.
    recoveries: HashMap<(ServiceKey, SocketAddr), Recovery>,
    hops: Hops,
    /// What the operator has ordered at run time; a reload does not change it.
    orders: HashMap<(ServiceKey, SocketAddr), Order>,
    /// Which services have their quorum.
    quorum: HashMap<ServiceKey, bool>,
    /// What an earlier agent's checks have found, until there is a plan.
    found_before: Vec<SavedCheck>,
    /// The checks whose result is an earlier agent's.
    inherited: HashSet<CheckSpec>,
}

/// Why a server that waits for its first check counts as down (`alpha`).
const NOT_CHECKED_YET: &str = "not checked yet";

impl State {
    /// The plan in force.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Puts a new plan in force. What both plans have keeps its state: a check
    /// of the same thing keeps its result, even where its times have changed.
    pub fn replace_plan(&mut self, plan: Plan) -> Vec<Change> {
        let known = std::mem::take(&mut self.checks);
        let inherited = inherited(&plan, &std::mem::take(&mut self.found_before));
        self.inherited = inherited.keys().cloned().collect();
        for spec in plan.checks() {
            let result = known
                .get(spec)
                .or_else(|| {
                    known
                        .iter()
                        .find(|(old, _)| old.probe == spec.probe)
                        .map(|(_, r)| r)
                })
                .or_else(|| inherited.get(spec))
                .cloned()
                .unwrap_or_else(|| {
                    if spec.timing.alpha {
                        CheckResult::Down(NOT_CHECKED_YET.to_owned())
                    } else {
                        CheckResult::Up(None)
                    }
                });
            self.checks.insert(spec.clone(), result);
        }
        self.quorum
            .retain(|key, _| plan.services.iter().any(|service| service.key == *key));
        let remains = |(service, server): &(ServiceKey, SocketAddr)| {
            plan.services
                .iter()
                .filter(|candidate| candidate.key == *service)
                .flat_map(|candidate| &candidate.servers)
                .any(|candidate| candidate.address == *server)
        };
        self.orders.retain(|place, _| remains(place));
        self.recoveries.retain(|place, _| remains(place));
        self.plan = plan;
        self.update_quorums()
    }

    /// What a check last found, if it is one of the plan's.
    pub fn check_result(&self, spec: &CheckSpec) -> Option<&CheckResult> {
        self.checks.get(spec)
    }

    /// Whether what is known of a check is what an earlier agent has found.
    pub fn is_inherited(&self, spec: &CheckSpec) -> bool {
        self.inherited.contains(spec)
    }

    /// Takes up what an earlier agent has saved; the first plan comes next.
    pub fn inherit(&mut self, saved: &Saved) {
        let orders = saved.orders.iter();
        self.orders = orders
            .map(|saved| ((saved.service.into(), saved.server), saved.order))
            .collect();
        let quorums = saved.quorums.iter();
        self.quorum = quorums
            .map(|saved| (saved.service.into(), saved.gained))
            .collect();
        self.found_before.clone_from(&saved.checks);
    }

    /// What a later agent is to know.
    pub fn to_save(&self) -> Saved {
        let order = |service: &ServicePlan, server: &ServerPlan| {
            Some(SavedOrder {
                service: service.key.into(),
                server: server.address,
                order: self.order(service.key, server.address)?,
            })
        };
        let servers = || self.servers().map(|(service, _, server)| (service, server));
        Saved {
            orders: servers()
                .filter_map(|(service, server)| order(service, server))
                .collect(),
            checks: servers()
                .flat_map(|(service, server)| self.found(service, server))
                .collect(),
            quorums: self
                .plan
                .services
                .iter()
                .map(|service| SavedQuorum {
                    service: service.key.into(),
                    gained: self.has_quorum(service.key),
                })
                .collect(),
            ..Saved::default()
        }
    }

    /// What the checks of a server have found.
    fn found(&self, service: &ServicePlan, server: &ServerPlan) -> Vec<SavedCheck> {
        let found = places(server).filter_map(|(spec, check, place)| {
            let (failure, weight) = match self.checks.get(spec)? {
                CheckResult::Up(weight) => (None, *weight),
                CheckResult::Down(reason) => (Some(reason.clone()), None),
            };
            Some(SavedCheck {
                service: service.key.into(),
                server: server.address,
                check,
                place,
                failure,
                weight,
            })
        });
        found.collect()
    }

    /// Takes the result of a check.
    pub fn check_changed(&mut self, event: CheckEvent, now: Instant) -> Vec<Change> {
        if !self.checks.contains_key(&event.spec) {
            return Vec::new();
        }
        let concerned: Vec<Place> = self
            .servers()
            .filter(|(_, _, server)| server.checks.contains(&event.spec))
            .map(|(service, index, _)| (service.key, index))
            .collect();
        let before: Vec<(bool, Standing)> = concerned
            .iter()
            .map(|place| (self.succeeds(*place), self.standing(*place)))
            .collect();
        self.checks.insert(event.spec, event.result);
        let mut changes = Vec::new();
        let mut come_back = Vec::new();
        for (place, (succeeded, standing)) in concerned.into_iter().zip(before) {
            let succeeds = self.succeeds(place);
            if succeeds != succeeded {
                let plan = self.server(place).recovery;
                self.recovery(place).changed(&plan, now);
            }
            changes.extend(self.server_changes(place, standing, now));
            if succeeds && !succeeded {
                come_back.push(place);
            }
        }
        changes.extend(self.release_last(now));
        for place in come_back {
            changes.extend(self.held_out(place));
        }
        changes.extend(self.update_quorums());
        changes
    }

    /// When to call [`tick`](Self::tick), if ever.
    pub fn deadline(&self) -> Option<Instant> {
        self.servers()
            .filter_map(|(service, _, server)| {
                let place = (service.key, server.address);
                self.recoveries.get(&place)?.deadline(&server.recovery)
            })
            .min()
    }

    /// Lets time pass: servers that come back. `None` if nothing has changed for
    /// the data plane.
    pub fn tick(&mut self, now: Instant) -> Option<Vec<Change>> {
        let is_due = |service: &ServicePlan, server: &ServerPlan| {
            let recovery = self.recoveries.get(&(service.key, server.address));
            let deadline = recovery.and_then(|recovery| recovery.deadline(&server.recovery));
            deadline.is_some_and(|deadline| deadline <= now)
        };
        let due: Vec<Place> = self
            .servers()
            .filter(|(service, _, server)| is_due(service, server))
            .map(|(service, index, _)| (service.key, index))
            .collect();
        if due.is_empty() {
            return None;
        }
        let mut changes = Vec::new();
        for place in due {
            let before = self.standing(place);
            let (plan, server) = (self.server(place).recovery, self.server(place).address);
            let recovery = self.recovery(place);
            let was_rising = recovery.is_rising();
            recovery.tick(&plan, now);
            let has_risen = was_rising && !recovery.is_rising();
            changes.extend(self.server_changes(place, before, now));
            changes.extend(has_risen.then_some(Change::SlowStart {
                service: place.0,
                server,
                remaining: None,
            }));
        }
        changes.extend(self.update_quorums());
        Some(changes)
    }

    fn standing(&self, place: Place) -> Standing {
        let server = self.server(place);
        Standing {
            is_up: self.failure(place.0, server).is_none(),
            weight: self.weight(place.0, server),
        }
    }

    /// Whether all checks of a server succeed, held out or not.
    fn succeeds(&self, place: Place) -> bool {
        self.check_failure(self.server(place)).is_none()
    }

    fn recovery(&mut self, place: Place) -> &mut Recovery {
        let address = self.server(place).address;
        self.recoveries.entry((place.0, address)).or_default()
    }

    /// What has become of a server that stood so before.
    fn server_changes(&mut self, place: Place, before: Standing, now: Instant) -> Vec<Change> {
        let standing = self.standing(place);
        let (service, server) = (place.0, self.server(place));
        let (address, plan) = (server.address, server.recovery);
        if standing.is_up == before.is_up {
            let weight = standing.weight;
            let change = (weight != before.weight).then_some(Change::Weight {
                service,
                server: address,
                weight,
            });
            return change.into_iter().collect();
        }
        let notify = if standing.is_up {
            &server.notify_up
        } else {
            &server.notify_down
        };
        let mut changes = vec![Change::Server {
            service,
            server: address,
            failure: self.failure(service, server).cloned(),
            notify: notify.clone(),
        }];
        let recovery = self.recovery(place);
        if !standing.is_up {
            recovery.gone_down();
            return changes;
        }
        recovery.come_up(&plan, now);
        changes.extend(recovery.is_rising().then_some(Change::SlowStart {
            service,
            server: address,
            remaining: Some(plan.slow_start),
        }));
        changes
    }

    /// That a server whose checks succeed stays out all the same, if it does.
    fn held_out(&mut self, place: Place) -> Option<Change> {
        let server = self.server(place).address;
        let reason = self.recovery(place).hold_reason()?.clone();
        Some(Change::HeldOut {
            service: place.0,
            server,
            reason,
        })
    }

    /// Ends what holds out servers where no other serves: one that flaps is
    /// better than none.
    fn release_last(&mut self, now: Instant) -> Vec<Change> {
        let is_up = |service: &ServicePlan, server| self.failure(service.key, server).is_none();
        let without: Vec<ServiceKey> = self
            .plan
            .services
            .iter()
            .filter(|service| !service.servers.iter().any(|server| is_up(service, server)))
            .map(|service| service.key)
            .collect();
        let held: Vec<Place> = self
            .servers()
            .filter(|(service, _, _)| without.contains(&service.key))
            .map(|(service, index, _)| (service.key, index))
            .filter(|place| self.succeeds(*place))
            .collect();
        let mut changes = Vec::new();
        for place in held {
            let before = self.standing(place);
            self.recovery(place).release();
            changes.extend(self.server_changes(place, before, now));
        }
        changes
    }

    /// Takes the hops towards all servers.
    pub fn hops_changed(&mut self, hops: Hops) -> Vec<Change> {
        let changes = hops
            .iter()
            .filter(|(address, hop)| self.hops.get(*address) != Some(*hop))
            .map(|(address, hop)| Change::Hop {
                address: *address,
                hop: hop.clone(),
            })
            .collect();
        self.hops = hops;
        changes
    }

    /// The addresses that frames must reach, with the MAC addresses that the
    /// operator names.
    pub fn addresses(&self) -> BTreeMap<IpAddr, Option<Mac>> {
        let sorry = self
            .plan
            .services
            .iter()
            .filter_map(|service| service.sorry_server);
        let mut addresses: BTreeMap<IpAddr, Option<Mac>> =
            sorry.map(|address| (address.ip(), None)).collect();
        for (_, _, server) in self.servers() {
            let mac = addresses.entry(server.address.ip()).or_default();
            *mac = mac.or(server.mac);
        }
        addresses
    }

    /// How frames reach a server.
    pub fn hop(&self, server: SocketAddr) -> Option<&Hop> {
        self.hops.get(&server.ip())
    }

    /// Why a server is down; `None` if it is up.
    pub fn failure(&self, service: ServiceKey, server: &ServerPlan) -> Option<&String> {
        self.check_failure(server).or_else(|| {
            let recovery = self.recoveries.get(&(service, server.address))?;
            recovery.hold_reason()
        })
    }

    /// How much of its share a server gets, in parts of [`PARTS`]: less than all
    /// for a while after it has come back.
    pub fn parts(&self, service: ServiceKey, server: &ServerPlan) -> u32 {
        let recovery = self.recoveries.get(&(service, server.address));
        recovery.map_or(PARTS, Recovery::parts)
    }

    /// Why a check of a server fails; `None` if all succeed.
    fn check_failure(&self, server: &ServerPlan) -> Option<&String> {
        server
            .checks
            .iter()
            .find_map(|spec| match self.checks.get(spec)? {
                CheckResult::Down(reason) => Some(reason),
                CheckResult::Up(_) => None,
            })
    }

    /// Whether a service has its quorum.
    pub fn has_quorum(&self, service: ServiceKey) -> bool {
        self.quorum.get(&service).copied().unwrap_or_default()
    }

    /// The addresses at which a service has lost its quorum.
    pub fn addresses_without_quorum(&self) -> BTreeSet<IpAddr> {
        let services = self.plan.services.iter().map(|service| service.key);
        services
            .filter(|service| !self.has_quorum(*service))
            .map(|service| service.address.ip())
            .collect()
    }

    /// How long it takes at most until every server has been looked at again:
    /// the longest interval, and as much for checks that are under way; and
    /// until every server that returns has its whole share.
    pub fn longest_round(&self) -> Duration {
        let intervals = self.plan.checks().map(|check| check.timing.delay_loop);
        let services = self.plan.services.iter();
        let servers = services.flat_map(|service| &service.servers);
        let slow_starts = servers.map(|server| server.recovery.slow_start);
        2 * intervals.max().unwrap_or_default() + slow_starts.max().unwrap_or_default()
    }

    /// Whether the sorry server takes a service's connections now.
    pub fn is_sorry(&self, service: &ServicePlan) -> bool {
        service.sorry_server.is_some() && !self.has_quorum(service.key)
    }

    /// The share of new connections that a server gets now: the operator's word
    /// first, then that of its checks, then the configuration's.
    pub fn weight(&self, service: ServiceKey, server: &ServerPlan) -> u32 {
        if self.failure(service, server).is_some() {
            return 0;
        }
        let of_checks = || {
            server
                .checks
                .iter()
                .find_map(|spec| match self.checks.get(spec)? {
                    CheckResult::Up(weight) => *weight,
                    CheckResult::Down(_) => None,
                })
        };
        self.orders
            .get(&(service, server.address))
            .map(|order| order.weight())
            .or_else(of_checks)
            .unwrap_or(server.weight)
    }

    /// What the operator has ordered for a server, if anything.
    pub fn order(&self, service: ServiceKey, server: SocketAddr) -> Option<Order> {
        self.orders.get(&(service, server)).copied()
    }

    /// Takes an order for a server in all services, or takes it back. Returns
    /// the services concerned, and what follows.
    pub fn order_changed(
        &mut self,
        server: Endpoint,
        order: Option<Order>,
    ) -> (Vec<(ServiceKey, SocketAddr)>, Vec<Change>) {
        let concerned: Vec<(ServiceKey, SocketAddr)> = self
            .servers()
            .filter(|(_, _, candidate)| server.names(candidate.address))
            .map(|(service, _, candidate)| (service.key, candidate.address))
            .collect();
        let mut changes = Vec::new();
        for (service, address) in &concerned {
            match order {
                Some(order) => self.orders.insert((*service, *address), order),
                None => self.orders.remove(&(*service, *address)),
            };
            changes.push(Change::Order {
                service: *service,
                server: *address,
                order,
            });
        }
        changes.extend(self.update_quorums());
        (concerned, changes)
    }

    /// What the data plane should do.
    pub fn desired(&self) -> DesiredState {
        DesiredState {
            services: self
                .plan
                .services
                .iter()
                .map(|s| self.desired_service(s))
                .collect(),
            timeouts: self.plan.timeouts,
        }
    }

    fn desired_service(&self, service: &ServicePlan) -> Service {
        let sorry = self.is_sorry(service);
        let is_rising = service
            .servers
            .iter()
            .any(|server| self.parts(service.key, server) < PARTS);
        // Shares can only grow where a scheduler looks at weights.
        let (scheduler, is_weighted) = match service.scheduler {
            Scheduler::Rr if is_rising => (Scheduler::Wrr, false),
            Scheduler::Lc if is_rising => (Scheduler::Wlc, false),
            scheduler => (scheduler, true),
        };
        let weight = |server: &ServerPlan| {
            let weight = self.weight(service.key, server);
            match (is_rising, is_weighted) {
                (false, _) => weight,
                (true, true) => weight * self.parts(service.key, server),
                (true, false) => weight.min(1) * self.parts(service.key, server),
            }
        };
        let real = service.servers.iter().map(|server| {
            let (forwarding, next_hop) = self.way(server.lb_kind, server.address);
            RealServer {
                address: server.address,
                weight: weight(server),
                keeps_templates: self.order(service.key, server.address)
                    != Some(Order::DrainedOfTemplates),
                alive: !sorry
                    && (self.failure(service.key, server).is_none() || server.inhibit_on_failure)
                    && self.order(service.key, server.address) != Some(Order::Disabled),
                forwarding,
                next_hop,
            }
        });
        let sorry = service.sorry_server.filter(|_| sorry).map(|address| {
            let (forwarding, next_hop) = self.way(service.lb_kind, address);
            RealServer {
                address,
                weight: 1,
                keeps_templates: true,
                alive: true,
                forwarding,
                next_hop,
            }
        });
        Service {
            protocol: service.key.protocol,
            address: service.key.address,
            scheduler,
            hash_port: service.hash_port,
            persistence: service.persistence,
            orphans: service.orphans,
            sloppy: service.sloppy,
            servers: real.chain(sorry).collect(),
        }
    }

    /// How packets reach a server, and by which hop, as far as that is known.
    fn way(&self, lb_kind: LbKind, server: SocketAddr) -> (Forwarding, Option<NextHop>) {
        match (lb_kind, self.hop(server)) {
            (LbKind::DirectRouting, Some(Hop::Ready { next_hop, .. })) => {
                (Forwarding::Direct, Some(*next_hop))
            }
            (
                LbKind::Tunnel,
                Some(Hop::Ready {
                    next_hop,
                    path: Some(Path { source, mtu }),
                    ..
                }),
            ) => {
                let (source, mtu) = (*source, *mtu);
                (Forwarding::Tunnel { source, mtu }, Some(*next_hop))
            }
            _ => (Forwarding::Direct, None),
        }
    }

    /// The scripts to run when the agent stops (keepalived.conf(5), `omega`):
    /// every server, and every service, of such a service goes down. Each with
    /// whom it is about.
    pub fn scripts_on_stop(&self) -> Vec<(String, Script)> {
        let mut scripts = Vec::new();
        for service in self.plan.services.iter().filter(|service| service.omega) {
            let up = service
                .servers
                .iter()
                .filter(|server| self.failure(service.key, server).is_none());
            scripts.extend(up.filter_map(|server| {
                let subject = change::server_subject(service.key, server.address);
                Some((subject, server.notify_down.clone()?))
            }));
            if self.has_quorum(service.key) {
                let subject = service.key.to_string();
                scripts.extend(service.quorum_down.clone().map(|script| (subject, script)));
            }
        }
        scripts
    }

    /// Decides anew which services have their quorum (keepalived
    /// `update_quorum_state`).
    fn update_quorums(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for service in &self.plan.services {
            let known = self.quorum.get(&service.key).copied();
            let weight = service.servers.iter().fold(0u32, |sum, server| {
                sum.saturating_add(self.weight(service.key, server))
            });
            let needed = match known {
                None => service.quorum,
                Some(true) => service.quorum.saturating_sub(service.hysteresis),
                Some(false) => service.quorum.saturating_add(service.hysteresis),
            };
            let has = weight >= needed;
            self.quorum.insert(service.key, has);
            if known != Some(has) {
                changes.push(Change::Quorum {
                    service: service.key,
                    gained: has,
                    weight,
                    quorum: needed,
                    notify: if has {
                        &service.quorum_up
                    } else {
                        &service.quorum_down
                    }
                    .clone(),
                });
            }
        }
        changes
    }

    fn servers(&self) -> impl Iterator<Item = (&ServicePlan, usize, &ServerPlan)> {
        self.plan.services.iter().flat_map(|service| {
            service
                .servers
                .iter()
                .enumerate()
                .map(move |(index, server)| (service, index, server))
        })
    }

    fn server(&self, (key, index): Place) -> &ServerPlan {
        let service = self.plan.services.iter().find(|service| service.key == key);
        &service.expect("the place is one of the plan's").servers[index]
    }
}

/// The checks of a server, each with its words and which one in these words it
/// is.
fn places(server: &ServerPlan) -> impl Iterator<Item = (&CheckSpec, String, usize)> {
    let words: Vec<String> = server
        .checks
        .iter()
        .map(|spec| spec.probe.to_string())
        .collect();
    server.checks.iter().enumerate().map(move |(index, spec)| {
        let place = words[..index]
            .iter()
            .filter(|earlier| **earlier == words[index])
            .count();
        (spec, words[index].clone(), place)
    })
}

/// What an earlier agent has found out about checks of `plan`.
fn inherited(plan: &Plan, found: &[SavedCheck]) -> HashMap<CheckSpec, CheckResult> {
    let mut inherited = HashMap::new();
    for service in &plan.services {
        for server in &service.servers {
            for (spec, check, place) in places(server) {
                let same = |saved: &&SavedCheck| {
                    saved.service == service.key.into()
                        && saved.server == server.address
                        && saved.check == check
                        && saved.place == place
                };
                if let Some(saved) = found.iter().find(same) {
                    let result = match &saved.failure {
                        Some(reason) => CheckResult::Down(reason.clone()),
                        None => CheckResult::Up(saved.weight),
                    };
                    inherited.insert(spec.clone(), result);
                }
            }
        }
    }
    inherited
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
