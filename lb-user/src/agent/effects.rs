//! What follows from a change: for the data plane, viewers, virtual routers,
//! the next agent and the operator.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use service_kit::systemd;
use tokio::time::Instant;

use super::change::Change;
use super::doubt::{Awaited, Doubts, News, Watched};
use super::plan::{Plan, ServerPlan, ServiceKey};
use super::saved::{Saved, SavedAddress};
use super::state::State;
use super::status;
use super::ways::{self, Way};
use super::{Agent, Refused};
use crate::checker::{CheckSpec, RunningCheck};
use crate::control::protocol::Event;
use crate::resets;
use lb_dataplane::{Dataplane, Departed};
use lb_model::DesiredState;
use lb_model::OrphanPolicy;
use lb_model::config::Config;
use lb_model::config::Script;
use lb_script::script::Runnable;
use vrrp;

/// How soon the data plane is asked again for what it has refused.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

impl Agent {
    /// Makes `plan` the one in force: data plane, state, checks, neighbours. If
    /// the data plane refuses it, nothing has changed.
    pub(super) fn put_in_force(&mut self, plan: Plan) -> anyhow::Result<()> {
        let mut state = self.state.clone();
        let changes = state.replace_plan(plan, Instant::now().into_std());
        let (desired, news) = desired(&mut self.doubts, &state, &self.dataplane, &self.masters);
        let prepared = self.dataplane.prepare(&desired)?;
        let departed = self.dataplane.commit(prepared)?.departed;
        self.refused = None;
        self.state = state;
        self.tell_viewers(departed);
        self.take_doubts(news);
        let wanted: Vec<CheckSpec> = self.state.plan().checks().cloned().collect();
        let mut before = std::mem::take(&mut self.checks);
        for spec in wanted {
            if self.checks.contains_key(&spec) {
                continue;
            }
            let running = before.remove(&spec).unwrap_or_else(|| {
                let is_known = self.state.is_inherited(&spec)
                    || before.keys().any(|old| old.probe == spec.probe);
                let known = self.state.check_result(&spec).filter(|_| is_known);
                RunningCheck::start(spec.clone(), known, self.check_events.clone())
            });
            self.checks.insert(spec, running);
        }
        self.watcher.watch(self.state.addresses());
        self.report(changes);
        Ok(())
    }

    /// Lets the data plane and the operator know of changes.
    pub(super) fn carry_out(&mut self, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.put_through(changes);
        }
    }

    pub(super) fn put_through(&mut self, changes: Vec<Change>) {
        self.apply();
        self.report(changes);
    }

    /// Makes the data plane do what is desired now. What it refuses it is asked
    /// again a little later.
    pub(super) fn apply(&mut self) {
        let (doubts, state) = (&mut self.doubts, &self.state);
        let (desired, news) = desired(doubts, state, &self.dataplane, &self.masters);
        match self.dataplane.apply(&desired) {
            Ok(changes) => {
                self.tell_viewers(changes.departed);
                if self.refused.take().is_some() {
                    let what = "the data plane does again what is desired";
                    log::info!("{what}");
                    self.publish(what.to_owned());
                }
            }
            Err(error) => {
                let reason = error.to_string();
                let before = self.refused.as_ref().map(|refused| &refused.reason);
                if before != Some(&reason) {
                    let what = format!("the data plane keeps its former state: {reason}");
                    log::error!("{what}");
                    self.publish(what);
                }
                self.refused = Some(Refused {
                    reason,
                    retry_at: Instant::now() + RETRY_INTERVAL,
                });
            }
        }
        self.take_doubts(news);
    }

    /// Has other servers asked where it is in doubt whether one is gone.
    fn take_doubts(&mut self, news: Vec<News>) {
        for news in news {
            match news {
                News::Begun(service, servers, awaited, checks) => {
                    let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
                    let servers = servers.join(", ");
                    self.second_opinions.ask(service, checks);
                    let decision = match awaited {
                        Awaited::Witness => "another server answers",
                        Awaited::Succession => "the virtual routers have decided who leads",
                        Awaited::Recheck => "it has been checked again",
                    };
                    log::info!("{service}: {servers} stays in place until {decision}");
                }
                News::Ended(service) => {
                    log::info!("{service}: no server is in doubt any more");
                    self.second_opinions.stop(service);
                }
            }
        }
    }

    /// Has the viewers told of servers that are gone. Those of a service that
    /// another director leads are its business: what is remembered of them here
    /// is from before, and they may be served well. Who leads is not known before
    /// the virtual routers have begun.
    fn tell_viewers(&mut self, mut departed: Vec<Departed>) {
        let vrrp = &self.state.plan().vrrp;
        departed.retain(|departed| departed.orphans != OrphanPolicy::Drop);
        let is_ours =
            |departed: &mut Departed| vrrp.speaks_for(departed.service.ip(), &self.masters);
        let ours: Vec<Departed> = departed.extract_if(.., is_ours).collect();
        if let Some(rate) = self.state.plan().reset_rate
            && !ours.is_empty()
        {
            self.resets.tell(resets::Job {
                remembered: self.dataplane.remembered(),
                departed: ours,
                rate,
            });
        }
        let is_too_early = match self.untold.until {
            Some(until) => Instant::now() < until,
            None => self.vrrp.is_none(),
        };
        if is_too_early {
            self.untold.departed.extend(departed);
        }
    }

    /// One more virtual router leads: so it did all the time, if that is soon
    /// after the start.
    pub(super) fn tell_untold(&mut self) {
        let departed = std::mem::take(&mut self.untold.departed);
        if !departed.is_empty()
            && self
                .untold
                .until
                .is_some_and(|until| Instant::now() < until)
        {
            self.tell_viewers(departed);
        }
    }

    /// Lets the virtual routers know which services lack servers.
    pub(super) fn tell_quorums(&self) {
        if let Some(vrrp) = &self.vrrp {
            // By then a director that was cut off has seen every server again
            // that lives: one alone may be its quorum.
            let settling = self.state.longest_round();
            vrrp.set_lacking(self.state.addresses_without_quorum(), settling);
        }
    }

    pub(super) fn report(&mut self, changes: Vec<Change>) {
        self.tell_quorums();
        self.save();
        let is_hop = |change: &Change| matches!(change, Change::Hop { .. });
        let has_hops = changes.iter().any(is_hop);
        for change in changes {
            log::log!(change.level(), "{change}");
            self.publish(change.to_string());
            if let (Some(subject), Some(script)) = (change.subject(), change.script()) {
                self.run_script(subject, script.clone());
            }
        }
        if has_hops {
            self.tell_doubts();
        }
    }

    /// Lets the operator know what is doubtful about the ways to the servers, each
    /// once.
    pub(super) fn tell_doubts(&mut self) {
        let doubts = self.doubts_of_ways();
        for doubt in doubts.difference(&self.doubtful) {
            log::warn!("{doubt}");
            self.publish(doubt.clone());
        }
        self.doubtful = doubts;
    }

    /// What is doubtful about the ways to the servers now.
    pub(super) fn doubts_of_ways(&self) -> BTreeSet<String> {
        let ways = Way::all(self.state.plan(), |address| self.state.hop(address));
        ways::doubts(self.dataplane.attachments(), &ways, ways::merging_now)
    }

    /// Lets the operator know what has become of a virtual router; it has been
    /// logged.
    pub(super) fn report_vrrp(&self, event: &vrrp::Event, config: &Config) {
        for script in vrrp::notify::scripts(event, config) {
            self.run_script(event.subject_name(), script);
        }
        self.publish(event.to_string());
    }

    pub(super) fn run_script(&self, subject: String, script: Script) {
        let script = Runnable::new(script, &self.config.global_defs);
        self.scripts.run(subject, script);
    }

    pub(super) fn publish(&self, message: String) {
        self.events.publish(Event {
            time_ms: now_ms(),
            message,
        });
    }

    /// Lets a later agent, and systemd, know how things stand now.
    pub(super) fn save(&mut self) {
        systemd::status(&status::line(&self.state, &self.masters));
        let saved = self.to_save();
        self.saved.write(saved);
    }

    pub(super) fn to_save(&self) -> Saved {
        let is_master =
            |instance: &&vrrp::settings::InstanceSettings| self.masters.contains(&instance.name);
        let plan = self.state.plan();
        let masters = plan.vrrp.instances.iter().filter(is_master);
        let addresses = masters.clone().flat_map(|instance| &instance.addresses);
        let routes = masters.flat_map(|instance| &instance.routes);
        Saved {
            routes: routes.chain(&plan.statics.routes).cloned().collect(),
            addresses: addresses
                .chain(self.statics.addresses())
                .map(|held| SavedAddress {
                    address: held.address,
                    prefix_length: held.prefix_length,
                    interface: held.interface.clone(),
                })
                .collect(),
            ..self.state.to_save()
        }
    }
}

/// What follows from `state` for the data plane, with servers left in place of
/// which it is in doubt whether they are gone.
fn desired(
    doubts: &mut Doubts,
    state: &State,
    dataplane: &Dataplane,
    masters: &BTreeSet<String>,
) -> (DesiredState, Vec<News>) {
    let mut desired = state.desired();
    let now = Instant::now().into_std();
    let watched = |service| watched(state, service, masters);
    let news = doubts.revise(&mut desired, dataplane.desired(), watched, now);
    (desired, news)
}

/// What must be known of a service to doubt that its servers are gone; `None`
/// where another director would not lead for that.
fn watched(state: &State, service: ServiceKey, masters: &BTreeSet<String>) -> Option<Watched> {
    let plan = state.plan();
    let succession = plan.vrrp.succession(service.address.ip(), masters)?;
    let plan = plan.services.iter().find(|plan| plan.key == service)?;
    let is_up = |server: &&ServerPlan| state.is_up(service, server);
    let (up, down): (Vec<_>, Vec<_>) = plan.servers.iter().partition(is_up);
    let checks = plan.servers.iter().flat_map(|server| &server.checks);
    Some(Watched {
        failed: down.into_iter().map(|server| server.address).collect(),
        witnesses: up
            .into_iter()
            .map(|server| (server.address, server.checks.clone()))
            .collect(),
        detection: checks.map(CheckSpec::detection).max().unwrap_or_default(),
        succession,
    })
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis() as u64
}
