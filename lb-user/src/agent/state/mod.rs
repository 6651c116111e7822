//! The servers as the agent knows them, and what follows for the data plane.
//!
//! No I/O: events go in, the desired state and the [`Change`]s come out.

mod desired;
mod loads;
mod memory;
mod outage;
mod quorum;
mod reach;
mod servers;

use net_types::MacAddress;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::change::{self, Change};
use super::load_shares::LoadShares;
use super::plan::{Plan, ServerPlan, ServicePlan};
use super::recovery::{PARTS, Recovery};
use super::saved::{SavedCheck, SavedLoadWeight};
use crate::checker::machine::Share;
use crate::checker::{CheckResult, CheckSpec};
use crate::control::protocol::Order;
use crate::control::selection::Endpoint;
use crate::neighbor::{Hop, Hops};
use lb_model::ServiceKey;
use lb_model::config::{Script, bounds};
use outage::Outage;

/// A server's service, and its place among that service's servers.
type Place = (ServiceKey, usize);

/// The plan and all that is known of its servers.
///
/// Calling contract: [`inherit`](Self::inherit) if at all, then
/// [`replace_plan`](Self::replace_plan); from then on each input returns the changes
/// that operators are told of. After every input, and after [`tick`](Self::tick) at the
/// [`deadline`](Self::deadline), [`desired`](Self::desired) is another.
#[derive(Debug, Clone, Default)]
pub struct State {
    plan: Plan,
    /// The last result of each check; exactly one for each check of the plan.
    checks: HashMap<CheckSpec, CheckResult>,
    /// The checks that cannot be made now, and why.
    not_checked: HashMap<CheckSpec, String>,
    /// The recovery of servers that have been down, by slow start and flap control.
    recoveries: HashMap<(ServiceKey, SocketAddr), Recovery>,
    /// What servers say of their load, and the shares that follow.
    load_shares: HashMap<ServiceKey, LoadShares>,
    /// The hops towards all addresses of the plan, as last published.
    hops: Hops,
    /// The addresses that packets do not reach.
    outages: HashMap<IpAddr, Outage>,
    /// Orders of the operator's at run time; a reload does not change them.
    /// Some are for servers that are not there: sources may name them again.
    orders: HashMap<(ServiceKey, SocketAddr), Order>,
    /// True for services that have their quorum. A service without an entry is new:
    /// hysteresis does not count yet.
    quorum: HashMap<ServiceKey, bool>,
    /// Results of an earlier agent's checks, until there is a plan.
    found_before: Vec<SavedCheck>,
    /// Weights of an earlier agent that follow from loads, until there is a plan.
    load_weights_before: Vec<SavedLoadWeight>,
    /// The addresses that packets did not reach for an earlier agent, until there
    /// is a plan.
    cut_off_before: BTreeSet<IpAddr>,
    /// The checks whose result is an earlier agent's.
    inherited: HashSet<CheckSpec>,
}

/// Orders that are kept of servers that sources do not name at present.
const MAX_ABSENT_ORDERS: usize = 1024;

/// Why a server that waits for its first check counts as down (`alpha`).
const NOT_CHECKED_YET: &str = "not checked yet";

impl State {
    /// The plan in force.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Puts a new plan in force. What both plans have keeps its state: a check
    /// of the same thing keeps its result, even where its times have changed.
    pub fn replace_plan(&mut self, plan: Plan, now: Instant) -> Vec<Change> {
        let known = std::mem::take(&mut self.checks);
        let inherited = Self::inherited_results(&plan, &std::mem::take(&mut self.found_before));
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
        let is_there = |key: &ServiceKey| plan.services.iter().any(|it| it.key == *key);
        self.quorum.retain(|key, _| is_there(key));
        let load_weights = std::mem::take(&mut self.load_weights_before);
        self.load_shares
            .extend(loads::inherited(&plan, &load_weights, now));
        self.load_shares.retain(|key, _| is_there(key));
        let remains = |(service, server): &(ServiceKey, SocketAddr)| {
            plan.services
                .iter()
                .filter(|candidate| candidate.key == *service)
                .flat_map(|candidate| &candidate.servers)
                .any(|candidate| candidate.address == *server)
        };
        let mut absent: Vec<_> = self.orders.keys().copied().collect();
        absent.retain(|place| !remains(place));
        absent.sort_by_key(|(service, server)| (service.address, service.protocol, *server));
        let is_open = |(service, _): &(ServiceKey, SocketAddr)| {
            let mut services = plan.services.iter();
            services.any(|it| it.key == *service && it.room > 0)
        };
        let (mut kept, mut gone): (Vec<_>, Vec<_>) = absent.into_iter().partition(is_open);
        // A source may leave a server out of one reading.
        gone.extend(kept.split_off(kept.len().min(MAX_ABSENT_ORDERS)));
        for place in gone {
            self.orders.remove(&place);
        }
        self.not_checked
            .retain(|spec, _| self.checks.contains_key(spec));
        self.recoveries.retain(|place, _| remains(place));
        self.plan = plan;
        let cut_off = std::mem::take(&mut self.cut_off_before).into_iter();
        self.outages
            .extend(cut_off.map(|address| (address, Outage::Lasting)));
        let mut changes = self.update_outages(now);
        changes.extend(self.release_last(now));
        changes.extend(self.update_quorums());
        changes
    }

    /// The last result of a check, if it is one of the plan's.
    pub fn check_result(&self, spec: &CheckSpec) -> Option<&CheckResult> {
        self.checks.get(spec)
    }

    /// The addresses that frames must reach, with the MAC addresses that the
    /// operator names.
    pub fn addresses(&self) -> BTreeMap<IpAddr, Option<MacAddress>> {
        let sorry = self
            .plan
            .services
            .iter()
            .filter_map(|service| service.sorry_server);
        let mut addresses: BTreeMap<IpAddr, Option<MacAddress>> =
            sorry.map(|address| (address.ip(), None)).collect();
        for (_, _, server) in self.servers() {
            let mac = addresses.entry(server.address.ip()).or_default();
            *mac = mac.or(server.mac);
        }
        addresses
    }

    /// The hop towards a server.
    pub fn hop(&self, server: SocketAddr) -> Option<&Hop> {
        self.hops.get(&server.ip())
    }

    /// Why a server is down by its checks; `None` if they have it up.
    pub fn failure(&self, service: ServiceKey, server: &ServerPlan) -> Option<&String> {
        self.check_failure(server).or_else(|| {
            let recovery = self.recoveries.get(&(service, server.address))?;
            recovery.hold_reason()
        })
    }

    /// The part of its share that a server gets, in parts of [`PARTS`]: less than all
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

    /// The longest time until every server has been checked again:
    /// the longest interval, and as much for checks that are under way; and
    /// until every server that returns has its whole share.
    pub fn longest_round(&self) -> Duration {
        let intervals = self.plan.checks().map(|check| check.timing.delay_loop);
        let services = self.plan.services.iter();
        let servers = services.flat_map(|service| &service.servers);
        let slow_starts = servers.map(|server| server.recovery.slow_start);
        2 * intervals.max().unwrap_or_default() + slow_starts.max().unwrap_or_default()
    }

    /// The share of new connections that a server gets now: the operator's word
    /// first, then that of its checks, then the configuration's.
    pub fn weight(&self, service: ServiceKey, server: &ServerPlan) -> u32 {
        if !self.is_up(service, server) {
            return 0;
        }
        self.share(service, server)
    }

    /// The share of new connections that a server would get if it were up.
    fn share(&self, service: ServiceKey, server: &ServerPlan) -> u32 {
        match self.order(service, server.address) {
            Some(order) => order.weight(),
            None => self.share_by_checks(server),
        }
    }

    /// The configured share of a server, and what its checks make of it: each
    /// adds to it, or takes away from it (keepalived.conf(5), `misc_dynamic`,
    /// `FILE_CHECK`).
    fn share_by_checks(&self, server: &ServerPlan) -> u32 {
        let configured = i64::from(server.weight);
        let added = server
            .checks
            .iter()
            .map(|spec| match self.checks.get(spec) {
                Some(CheckResult::Up(Some(Share::Of(weight)))) => i64::from(*weight) - configured,
                Some(CheckResult::Up(Some(Share::Added(weight)))) => i64::from(*weight),
                // That share is among the others', and counts elsewhere.
                Some(CheckResult::Up(Some(Share::Load(_)) | None) | CheckResult::Down(_))
                | None => 0,
            });
        let share = configured + added.sum::<i64>();
        let most = *bounds::WEIGHT.end();
        share.clamp(0, i64::from(most)).try_into().unwrap_or(most)
    }

    /// The operator's order for a server, if there is one.
    pub fn order(&self, service: ServiceKey, server: SocketAddr) -> Option<Order> {
        self.orders.get(&(service, server)).copied()
    }

    /// Takes an order for a server in all services, or takes it back. Returns
    /// the services concerned, and what follows.
    pub fn order_changed(
        &mut self,
        server: Endpoint,
        order: Option<Order>,
        now: Instant,
    ) -> (Vec<(ServiceKey, SocketAddr)>, Vec<Change>) {
        let mut concerned: Vec<(ServiceKey, SocketAddr)> = self
            .servers()
            .filter(|(_, _, candidate)| server.names(candidate.address))
            .map(|(service, _, candidate)| (service.key, candidate.address))
            .collect();
        if order.is_none() {
            // Also those for servers that are not there.
            let absent = self.orders.keys().copied();
            let absent = absent
                .filter(|place| server.names(place.1) && !concerned.contains(place))
                .collect::<Vec<_>>();
            concerned.extend(absent);
        }
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
        changes.extend(self.release_last(now));
        changes.extend(self.update_quorums());
        (concerned, changes)
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
                .filter(|server| self.is_up(service.key, server));
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

#[cfg(test)]
mod tests;
