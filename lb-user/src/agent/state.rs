//! What the agent knows, and what follows from it for the data plane.
//!
//! No I/O: events go in, the desired state and the [`Change`]s come out.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use super::change::{Change, Order};
use super::plan::{Plan, ServerPlan, ServiceKey, ServicePlan};
use crate::checker::{CheckEvent, CheckResult, CheckSpec};
use crate::config::model::Script;
use crate::control::selection::Endpoint;
use crate::dataplane::state::{DesiredState, Forwarding, RealServer, Service};
use crate::neighbor::{Hop, Hops};

/// How a server stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    is_up: bool,
    weight: u32,
}

/// Everything the agent knows.
#[derive(Debug, Clone, Default)]
pub struct State {
    plan: Plan,
    /// What each check last found.
    checks: HashMap<CheckSpec, CheckResult>,
    hops: Hops,
    /// What the operator has ordered at run time; a reload does not change it.
    orders: HashMap<(ServiceKey, SocketAddr), Order>,
    /// Which services have their quorum.
    quorum: HashMap<ServiceKey, bool>,
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
        for spec in plan.checks() {
            let result = known
                .get(spec)
                .or_else(|| {
                    known
                        .iter()
                        .find(|(old, _)| old.probe == spec.probe)
                        .map(|(_, r)| r)
                })
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
        self.orders.retain(|(service, server), _| {
            plan.services
                .iter()
                .filter(|candidate| candidate.key == *service)
                .flat_map(|candidate| &candidate.servers)
                .any(|candidate| candidate.address == *server)
        });
        self.plan = plan;
        self.update_quorums()
    }

    /// What a check last found, if it is one of the plan's.
    pub fn check_result(&self, spec: &CheckSpec) -> Option<&CheckResult> {
        self.checks.get(spec)
    }

    /// Takes the result of a check.
    pub fn check_changed(&mut self, event: CheckEvent) -> Vec<Change> {
        if !self.checks.contains_key(&event.spec) {
            return Vec::new();
        }
        let concerned: Vec<(ServiceKey, usize)> = self
            .servers()
            .filter(|(_, _, server)| server.checks.contains(&event.spec))
            .map(|(service, index, _)| (service.key, index))
            .collect();
        let before: Vec<Standing> = concerned
            .iter()
            .map(|place| self.standing(*place))
            .collect();
        self.checks.insert(event.spec, event.result);
        let places = concerned.into_iter().zip(before);
        let mut changes: Vec<Change> = places
            .filter_map(|(place, before)| self.server_change(place, before))
            .collect();
        changes.extend(self.update_quorums());
        changes
    }

    fn standing(&self, place: (ServiceKey, usize)) -> Standing {
        let server = self.server(place);
        Standing {
            is_up: self.failure(server).is_none(),
            weight: self.weight(place.0, server),
        }
    }

    /// What has become of a server that stood so before.
    fn server_change(&self, place: (ServiceKey, usize), before: Standing) -> Option<Change> {
        let now = self.standing(place);
        let (service, server) = (place.0, self.server(place));
        let address = server.address;
        if now.is_up == before.is_up {
            let weight = now.weight;
            return (weight != before.weight).then_some(Change::Weight {
                service,
                server: address,
                weight,
            });
        }
        let notify = if now.is_up {
            &server.notify_up
        } else {
            &server.notify_down
        };
        Some(Change::Server {
            service,
            server: address,
            failure: self.failure(server).cloned(),
            notify: notify.clone(),
        })
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

    /// The addresses that frames must reach.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        let sorry = self
            .plan
            .services
            .iter()
            .filter_map(|service| service.sorry_server);
        self.servers()
            .map(|(_, _, server)| server.address)
            .chain(sorry)
            .map(|a| a.ip())
            .collect()
    }

    /// How frames reach a server.
    pub fn hop(&self, server: SocketAddr) -> Option<&Hop> {
        self.hops.get(&server.ip())
    }

    /// Why a server is down; `None` if it is up.
    pub fn failure(&self, server: &ServerPlan) -> Option<&String> {
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

    /// Whether the sorry server takes a service's connections now.
    pub fn is_sorry(&self, service: &ServicePlan) -> bool {
        service.sorry_server.is_some() && !self.has_quorum(service.key)
    }

    /// The share of new connections that a server gets now: the operator's word
    /// first, then that of its checks, then the configuration's.
    pub fn weight(&self, service: ServiceKey, server: &ServerPlan) -> u32 {
        if self.failure(server).is_some() {
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
        let real = service.servers.iter().map(|server| RealServer {
            address: server.address,
            weight: self.weight(service.key, server),
            alive: !sorry
                && (self.failure(server).is_none() || server.inhibit_on_failure)
                && self.order(service.key, server.address) != Some(Order::Disabled),
            forwarding: Forwarding::Direct,
            next_hop: self.next_hop(server.address),
        });
        let sorry = service
            .sorry_server
            .filter(|_| sorry)
            .map(|address| RealServer {
                address,
                weight: 1,
                alive: true,
                forwarding: Forwarding::Direct,
                next_hop: self.next_hop(address),
            });
        Service {
            protocol: service.key.protocol,
            address: service.key.address,
            scheduler: service.scheduler,
            hash_port: service.hash_port,
            persistence: service.persistence,
            orphans: service.orphans,
            sloppy: service.sloppy,
            servers: real.chain(sorry).collect(),
        }
    }

    fn next_hop(&self, server: SocketAddr) -> Option<crate::dataplane::state::NextHop> {
        match self.hop(server)? {
            Hop::Ready { next_hop, .. } => Some(*next_hop),
            Hop::NotReady(_) => None,
        }
    }

    /// The scripts to run when the agent stops (keepalived.conf(5), `omega`):
    /// every server, and every service, of such a service goes down.
    pub fn scripts_on_stop(&self) -> Vec<Script> {
        let mut scripts = Vec::new();
        for service in self.plan.services.iter().filter(|service| service.omega) {
            let up = service
                .servers
                .iter()
                .filter(|server| self.failure(server).is_none());
            scripts.extend(up.filter_map(|server| server.notify_down.clone()));
            if self.has_quorum(service.key) {
                scripts.extend(service.quorum_down.clone());
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

    fn server(&self, (key, index): (ServiceKey, usize)) -> &ServerPlan {
        let service = self.plan.services.iter().find(|service| service.key == key);
        &service.expect("the place is one of the plan's").servers[index]
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
