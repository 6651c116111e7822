//! What the agent knows, and what follows from it for the data plane.
//!
//! No I/O: events go in, the desired state and the [`Change`]s come out.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::plan::{Plan, ServerPlan, ServiceKey, ServicePlan};
use crate::checker::{CheckEvent, CheckSpec};
use crate::config::model::Script;
use crate::dataplane::state::{
    DesiredState, Forwarding, OrphanPolicy, RealServer, Service, Timeouts,
};
use crate::neighbor::{Hop, Hops};

/// Something that an operator wants to know of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A server's checks now all succeed, or one fails.
    Server {
        /// Its service.
        service: ServiceKey,
        /// The server.
        server: SocketAddr,
        /// `None`: it is up; else why it is down.
        failure: Option<String>,
        /// The script to run.
        notify: Option<Script>,
    },
    /// A service has gained or lost its quorum.
    Quorum {
        /// The service.
        service: ServiceKey,
        /// Whether it is there now.
        gained: bool,
        /// Weight of the servers that are up.
        weight: u32,
        /// Weight that is needed.
        quorum: u32,
        /// The script to run.
        notify: Option<Script>,
    },
    /// Frames can, or cannot, reach an address.
    Hop {
        /// The address.
        address: IpAddr,
        /// How, or why not.
        hop: Hop,
    },
}

impl Change {
    /// The script that the operator wants run.
    pub fn script(&self) -> Option<&Script> {
        match self {
            Self::Server { notify, .. } | Self::Quorum { notify, .. } => notify.as_ref(),
            Self::Hop { .. } => None,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server {
                service,
                server,
                failure: None,
                ..
            } => {
                write!(f, "{service}: server {server} is up: its checks succeed")
            }
            Self::Server {
                service,
                server,
                failure: Some(reason),
                ..
            } => {
                write!(f, "{service}: server {server} is down: {reason}")
            }
            Self::Quorum {
                service,
                gained,
                weight,
                quorum,
                ..
            } => {
                let verb = if *gained { "gained" } else { "lost" };
                write!(
                    f,
                    "{service}: quorum {verb}: weight {weight} is up, {quorum} needed"
                )
            }
            Self::Hop {
                address,
                hop:
                    Hop::Ready {
                        next_hop,
                        interface,
                    },
            } => {
                let mac = crate::format_mac(next_hop.destination);
                write!(f, "{address}: reached at {mac} on {interface}")
            }
            Self::Hop {
                address,
                hop: Hop::NotReady(reason),
            } => {
                write!(f, "{address}: not reached: {reason}")
            }
        }
    }
}

/// Everything the agent knows.
#[derive(Debug, Default)]
pub struct State {
    plan: Plan,
    /// What each check last found: `None` success, else why it fails.
    checks: HashMap<CheckSpec, Option<String>>,
    hops: Hops,
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
                .unwrap_or_else(|| spec.timing.alpha.then(|| NOT_CHECKED_YET.to_owned()));
            self.checks.insert(spec.clone(), result);
        }
        self.quorum
            .retain(|key, _| plan.services.iter().any(|service| service.key == *key));
        self.plan = plan;
        self.update_quorums()
    }

    /// What a check last found, if it is one of the plan's.
    pub fn check_result(&self, spec: &CheckSpec) -> Option<&Option<String>> {
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
        let before: Vec<bool> = concerned
            .iter()
            .map(|place| self.failure(self.server(*place)).is_none())
            .collect();
        self.checks.insert(event.spec, event.failure);
        let mut changes = Vec::new();
        for (place, was_up) in concerned.into_iter().zip(before) {
            let server = self.server(place);
            let failure = self.failure(server);
            if failure.is_none() == was_up {
                continue;
            }
            changes.push(Change::Server {
                service: place.0,
                server: server.address,
                failure: failure.cloned(),
                notify: if was_up {
                    &server.notify_down
                } else {
                    &server.notify_up
                }
                .clone(),
            });
        }
        changes.extend(self.update_quorums());
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
            .find_map(|spec| self.checks.get(spec).and_then(Option::as_ref))
    }

    /// Whether a service has its quorum.
    pub fn has_quorum(&self, service: ServiceKey) -> bool {
        self.quorum.get(&service).copied().unwrap_or_default()
    }

    /// Whether the sorry server takes a service's connections now.
    pub fn is_sorry(&self, service: &ServicePlan) -> bool {
        service.sorry_server.is_some() && !self.has_quorum(service.key)
    }

    /// The share of new connections that a server gets now.
    pub fn weight(&self, server: &ServerPlan) -> u32 {
        if self.failure(server).is_some() {
            0
        } else {
            server.weight
        }
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
            timeouts: Timeouts::default(),
        }
    }

    fn desired_service(&self, service: &ServicePlan) -> Service {
        let sorry = self.is_sorry(service);
        let real = service.servers.iter().map(|server| RealServer {
            address: server.address,
            weight: self.weight(server),
            alive: !sorry && (self.failure(server).is_none() || server.inhibit_on_failure),
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
            hash_port: false,
            persistence: service.persistence,
            orphans: OrphanPolicy::default_for(service.key.protocol),
            sloppy: false,
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
            let weight = service
                .servers
                .iter()
                .fold(0u32, |sum, server| sum.saturating_add(self.weight(server)));
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
mod tests {
    use super::*;
    use crate::config;
    use crate::dataplane::state::{NextHop, Vlan};

    fn plan(text: &str) -> Plan {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("keepalived.conf");
        std::fs::write(&file, text).expect("the file is written");
        Plan::new(&config::load(&file).expect("the file is accepted").config)
    }

    /// One service with two servers of weights 1 and 2, and `inside`.
    fn two_servers(inside: &str) -> Plan {
        plan(&format!(
            "virtual_server 10.0.0.1 80 {{
                delay_loop 6
                {inside}
                real_server 10.0.0.2 80 {{
                    TCP_CHECK {{
                    }}
                    notify_down \"/bin/down two\"
                }}
                real_server 10.0.0.3 80 {{
                    weight 2
                    TCP_CHECK {{
                    }}
                }}
            }}"
        ))
    }

    fn state(plan: Plan) -> State {
        let mut state = State::default();
        state.replace_plan(plan);
        state
    }

    fn event(state: &State, server: usize, failure: Option<&str>) -> CheckEvent {
        let spec = state.plan().services[0].servers[server].checks[0].clone();
        CheckEvent {
            spec,
            failure: failure.map(str::to_owned),
        }
    }

    fn fail(state: &mut State, server: usize) -> Vec<Change> {
        let event = event(state, server, Some("refused"));
        state.check_changed(event)
    }

    fn succeed(state: &mut State, server: usize) -> Vec<Change> {
        let event = event(state, server, None);
        state.check_changed(event)
    }

    fn said(changes: &[Change]) -> Vec<String> {
        changes.iter().map(ToString::to_string).collect()
    }

    /// Address, weight and life of each server that the data plane is to have.
    fn servers(state: &State) -> Vec<(String, u32, bool)> {
        let service = state.desired().services.remove(0);
        service
            .servers
            .iter()
            .map(|s| (s.address.to_string(), s.weight, s.alive))
            .collect()
    }

    fn server(address: &str, weight: u32, alive: bool) -> (String, u32, bool) {
        (format!("{address}:80"), weight, alive)
    }

    #[test]
    fn a_failing_server_is_taken_out_and_comes_back() {
        let mut state = state(two_servers(""));
        assert_eq!(
            servers(&state),
            [server("10.0.0.2", 1, true), server("10.0.0.3", 2, true)]
        );
        let changes = fail(&mut state, 0);
        assert_eq!(
            said(&changes),
            ["TCP 10.0.0.1:80: server 10.0.0.2:80 is down: refused"]
        );
        let script = changes[0].script().expect("notify_down");
        assert_eq!(script.command, ["/bin/down", "two"]);
        assert_eq!(
            servers(&state),
            [server("10.0.0.2", 0, false), server("10.0.0.3", 2, true)]
        );
        assert_eq!(
            said(&succeed(&mut state, 0)),
            ["TCP 10.0.0.1:80: server 10.0.0.2:80 is up: its checks succeed"]
        );
        assert_eq!(
            servers(&state),
            [server("10.0.0.2", 1, true), server("10.0.0.3", 2, true)]
        );
    }

    #[test]
    fn inhibit_on_failure_keeps_a_failing_server_at_weight_0() {
        let mut state = state(two_servers("inhibit_on_failure"));
        fail(&mut state, 1);
        assert_eq!(
            servers(&state),
            [server("10.0.0.2", 1, true), server("10.0.0.3", 0, true)]
        );
    }

    #[test]
    fn the_sorry_server_serves_while_the_quorum_is_lost() {
        let mut state = state(two_servers("quorum 2\nsorry_server 10.0.0.9 80"));
        assert!(fail(&mut state, 0).len() == 1, "weight 2 is a quorum");
        assert_eq!(
            said(&fail(&mut state, 1)),
            [
                "TCP 10.0.0.1:80: server 10.0.0.3:80 is down: refused",
                "TCP 10.0.0.1:80: quorum lost: weight 0 is up, 2 needed"
            ]
        );
        succeed(&mut state, 0);
        assert_eq!(
            servers(&state),
            [
                server("10.0.0.2", 1, false),
                server("10.0.0.3", 0, false),
                server("10.0.0.9", 1, true)
            ],
            "one server of weight 1 is no quorum of 2"
        );
        assert_eq!(
            said(&succeed(&mut state, 1))[1],
            "TCP 10.0.0.1:80: quorum gained: weight 3 is up, 2 needed"
        );
        assert_eq!(
            servers(&state),
            [server("10.0.0.2", 1, true), server("10.0.0.3", 2, true)]
        );
    }

    #[test]
    fn hysteresis_widens_the_gap_between_losing_and_gaining() {
        let mut state = state(two_servers("quorum 2\nhysteresis 1"));
        let key = state.plan().services[0].key;
        assert!(
            state.has_quorum(key),
            "at the start the quorum itself counts"
        );
        fail(&mut state, 1);
        assert!(state.has_quorum(key), "1 is not below 2 - 1");
        fail(&mut state, 0);
        assert!(!state.has_quorum(key));
        succeed(&mut state, 1);
        assert!(!state.has_quorum(key), "2 does not reach 2 + 1");
        succeed(&mut state, 0);
        assert!(state.has_quorum(key));
    }

    #[test]
    fn alpha_servers_are_out_until_they_are_checked() {
        let state = state(two_servers("alpha"));
        assert_eq!(
            servers(&state),
            [server("10.0.0.2", 0, false), server("10.0.0.3", 0, false)]
        );
        assert!(!state.has_quorum(state.plan().services[0].key));
    }

    #[test]
    fn a_new_plan_keeps_what_is_known_of_the_servers_that_stay() {
        let mut state = state(two_servers(""));
        fail(&mut state, 0);
        let changes = state.replace_plan(two_servers("delay_before_retry 2"));
        assert_eq!(said(&changes), Vec::<String>::new());
        assert_eq!(
            servers(&state),
            [server("10.0.0.2", 0, false), server("10.0.0.3", 2, true)]
        );
    }

    #[test]
    fn the_result_of_a_check_that_the_plan_no_longer_has_is_ignored() {
        let mut state = state(two_servers(""));
        let late = event(&state, 0, Some("refused"));
        state.replace_plan(plan("virtual_server 10.0.0.1 80 {\n}"));
        assert_eq!(state.check_changed(late), []);
    }

    #[test]
    fn omega_runs_the_down_scripts_of_what_is_up_at_the_end() {
        let mut quiet = state(two_servers("quorum_down /bin/lost"));
        assert_eq!(quiet.scripts_on_stop(), []);
        quiet.replace_plan(two_servers("omega\nquorum_down /bin/lost"));
        let programs = |state: &State| {
            let scripts = state.scripts_on_stop();
            scripts
                .iter()
                .map(|script| script.command.join(" "))
                .collect::<Vec<_>>()
        };
        assert_eq!(programs(&quiet), ["/bin/down two", "/bin/lost"]);
        fail(&mut quiet, 0);
        assert_eq!(
            programs(&quiet),
            ["/bin/lost"],
            "what is down already is not told again"
        );
    }

    #[test]
    fn a_hop_reaches_the_data_plane_and_the_log() {
        let mut state = state(two_servers(""));
        let next_hop = NextHop {
            interface_index: 2,
            source: [2, 0, 0, 0, 0, 1],
            destination: [2, 0, 0, 0, 0, 2],
            vlan: Vlan::Untagged,
        };
        let ready = Hop::Ready {
            next_hop,
            interface: "eth2".to_owned(),
        };
        let address: IpAddr = "10.0.0.2".parse().expect("an address");
        let hops = Hops::from([(address, ready)]);
        assert_eq!(
            said(&state.hops_changed(hops.clone())),
            ["10.0.0.2: reached at 02:00:00:00:00:02 on eth2"]
        );
        assert_eq!(state.hops_changed(hops), [], "once");
        let service = state.desired().services.remove(0);
        assert_eq!(service.servers[0].next_hop, Some(next_hop));
        assert_eq!(service.servers[1].next_hop, None);
    }
}
