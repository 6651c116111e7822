//! The owner of health checks and neighbours: what is known of the servers.

use std::collections::{HashMap, HashSet};
use std::iter;
use std::net::SocketAddr;

use anyhow::Context as _;
use service_kit::sleep_until;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::change::Change;
use super::plan::Plan;
use super::saved::Saved;
use super::state::State;
use crate::checker::driver::RunningCheck;
use crate::checker::{CheckReport, CheckSpec, Probe};
use crate::control::protocol::Order;
use crate::control::selection::Endpoint;
use crate::neighbor::{Hops, Watcher};
use lb_model::ServiceKey;

/// Health checks, neighbours, and the [`State`] that follows from both and from
/// the operator's orders.
///
/// Calling contract: wait for [`next`](Self::next), hand its event to
/// [`on_event`](Self::on_event), and have the enforcer and the operators told of
/// the changes that it returns. A new plan comes in two steps, since the data plane
/// may refuse it: [`state_with`](Self::state_with) changes nothing here, and
/// [`commit`](Self::commit) cannot fail.
pub(super) struct Checks {
    /// The plan in force and all that is known of its servers. The data plane does
    /// what follows from it, unless the enforcer says otherwise.
    state: State,
    /// Exactly one for each check of `state`'s plan, however many services ask for
    /// it. Dropping one ends it.
    running: HashMap<CheckSpec, RunningCheck>,
    results: mpsc::UnboundedReceiver<CheckReport>,
    /// Given to each check that starts. Held here so that `results` stays open while
    /// there are no checks.
    results_sender: mpsc::UnboundedSender<CheckReport>,
    /// Watches the addresses of `state`.
    neighbors: Watcher,
}

/// Something that concerns the servers.
pub(super) enum Event {
    /// Checks have found something.
    Results(Vec<CheckReport>),
    /// The way to a server has changed: all hops.
    Hops(Hops),
    /// A deadline of [`State`] has come.
    Deadline,
}

impl Checks {
    /// Without a plan yet; takes up what an earlier agent has saved.
    ///
    /// # Errors
    /// The kernel gives no netlink socket.
    pub(super) fn new(saved: &Saved) -> anyhow::Result<Self> {
        let (results_sender, results) = mpsc::unbounded_channel();
        let mut state = State::default();
        state.inherit(saved);
        Ok(Self {
            state,
            running: HashMap::new(),
            results,
            results_sender,
            neighbors: Watcher::start().context("cannot open a netlink socket")?,
        })
    }

    /// The plan in force, and what is known of its servers.
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// The state that `plan` leads to, and what it changes.
    pub(super) fn state_with(&self, plan: Plan) -> (State, Vec<Change>) {
        let mut state = self.state.clone();
        let changes = state.replace_plan(plan, now());
        (state, changes)
    }

    /// Looks for the MAC addresses of the servers of `plan`, which is to be put in force.
    pub(super) fn watch_neighbors_of(&self, plan: &Plan) {
        let (state, _) = self.state_with(plan.clone());
        self.neighbors.watch(state.addresses());
    }

    /// Puts a state in force that [`state_with`](Self::state_with) has given. A
    /// check of the same thing goes on, or begins with what was known.
    pub(super) fn commit(&mut self, state: State) {
        self.state = state;
        let wanted: Vec<CheckSpec> = self.state.plan().checks().cloned().collect();
        let mut before = std::mem::take(&mut self.running);
        // All of them, before those that go on are taken out: `state` has given their
        // results to every check of the same thing.
        let known_probes: HashSet<Probe> = before.keys().map(|old| old.probe.clone()).collect();
        for spec in wanted {
            if self.running.contains_key(&spec) {
                continue;
            }
            let running = before.remove(&spec).unwrap_or_else(|| {
                let is_known = self.state.is_inherited(&spec) || known_probes.contains(&spec.probe);
                let known = self.state.check_result(&spec).filter(|_| is_known);
                RunningCheck::start(spec.clone(), known, self.results_sender.clone())
            });
            self.running.insert(spec, running);
        }
        self.neighbors.watch(self.state.addresses());
    }

    /// Waits for the next event. May be dropped without losing one.
    ///
    /// # Errors
    /// The kernel has closed the netlink sockets.
    pub(super) async fn next(&mut self) -> anyhow::Result<Event> {
        Ok(tokio::select! {
            Some(first) = self.results.recv() => {
                // All that wait: where many servers die together, the data plane is
                // changed once, and their clients are looked for in one scan.
                let others = iter::from_fn(|| self.results.try_recv().ok());
                Event::Results(iter::once(first).chain(others).collect())
            }
            hops = self.neighbors.changed() => Event::Hops(hops?),
            () = sleep_until(self.state.deadline()) => Event::Deadline,
        })
    }

    /// Takes an event; `None` if the data plane need not be told.
    pub(super) fn on_event(&mut self, event: Event) -> Option<Vec<Change>> {
        let changes = match event {
            Event::Results(news) => self.on_results(news),
            Event::Hops(hops) => self.on_hops(hops),
            // A share may have grown without a change that an operator is told of.
            Event::Deadline => return self.tick(),
        };
        (!changes.is_empty()).then_some(changes)
    }

    fn on_results(&mut self, all_news: Vec<CheckReport>) -> Vec<Change> {
        let mut changes = Vec::new();
        for news in all_news {
            changes.extend(match news {
                CheckReport::Found(event) => self.state.check_changed(event, now()),
                CheckReport::NotChecked(spec, reason) => self.state.check_unavailable(spec, reason),
            });
        }
        changes
    }

    /// Takes the hops towards all servers.
    pub(super) fn on_hops(&mut self, hops: Hops) -> Vec<Change> {
        self.state.hops_changed(hops, now())
    }

    /// Takes an operator's order; returns the servers concerned, and what follows.
    pub(super) fn on_order(
        &mut self,
        server: Endpoint,
        order: Option<Order>,
    ) -> (Vec<(ServiceKey, SocketAddr)>, Vec<Change>) {
        self.state.order_changed(server, order, now())
    }

    /// Waits until `deadline` for hops that have changed; `None` once it has come.
    ///
    /// # Errors
    /// The kernel has closed the netlink sockets.
    pub(super) async fn next_hops(&mut self, deadline: Instant) -> anyhow::Result<Option<Hops>> {
        match timeout_at(deadline, self.neighbors.changed()).await {
            Ok(hops) => Ok(Some(hops?)),
            Err(_) => Ok(None),
        }
    }

    /// Lets time pass outside of the loop; see [`State::tick`].
    pub(super) fn tick(&mut self) -> Option<Vec<Change>> {
        self.state.tick(now())
    }

    /// Ends all checks; returns when nothing of them is left.
    pub(super) async fn end(&mut self) {
        for (_, check) in self.running.drain() {
            check.end().await;
        }
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;
    use crate::checker::CheckResult;

    /// A service at each of `vips`, all of the one server at `port`, each with its own
    /// `delay_loop`.
    fn plan(port: u16, vips: &[(&str, u32)]) -> Plan {
        let services = vips.iter().map(|(vip, delay_loop)| {
            format!(
                "virtual_server {vip} {port} {{\nlb_algo rr\ndelay_loop {delay_loop}\nwarmup 0\n\
                 real_server 127.0.0.1 {port} {{\nTCP_CHECK {{\n}}\n}}\n}}\n"
            )
        });
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("keepalived.conf");
        std::fs::write(&file, services.collect::<String>()).expect("the file is written");
        let loaded = lb_config::load(&file).expect("the file is accepted");
        Plan::new(&loaded.config).expect("a plan")
    }

    /// Waits until the check of the last service has this result.
    async fn wait_for(checks: &mut Checks, is_up: bool) {
        let wait = async {
            loop {
                let last = checks.state().plan().services.last().expect("a service");
                let result = checks.state().check_result(&last.servers[0].checks[0]);
                if matches!(result, Some(CheckResult::Up(_))) == is_up {
                    return;
                }
                let event = checks.next().await.expect("an event");
                checks.on_event(event);
            }
        };
        let result = tokio::time::timeout(netbed::TIME_LIMIT, wait).await;
        assert!(result.is_ok(), "the server is not found as is_up {is_up}");
    }

    #[tokio::test]
    async fn a_server_that_was_down_comes_up_by_a_new_check_beside_one_that_goes_on() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        let address = listener.local_addr().expect("its address");
        drop(listener);
        let mut checks = Checks::new(&Saved::default()).expect("a netlink socket");
        let first = ("10.0.0.1", 600);
        let (state, _) = checks.state_with(plan(address.port(), &[first]));
        checks.commit(state);
        wait_for(&mut checks, false).await;

        let (state, _) = checks.state_with(plan(address.port(), &[first, ("10.0.0.9", 500)]));
        checks.commit(state);
        let _listener = TcpListener::bind(address).expect("a listener");
        wait_for(&mut checks, true).await;
        checks.end().await;
    }
}
