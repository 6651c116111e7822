//! Resets for the clients of removed servers, and of servers that were lost along with the
//! director that led: whose clients are reset, and when.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::change::Change;
use super::plan::Plan;
use super::virtual_routers::VirtualRouters;
use crate::control::told_tables::ToldTables;
use crate::peers::{Peers, Report, Router};
use crate::resets::{self, ResetReport, Resets, ask_clients};
use lb_dataplane::{Dataplane, RemovedServer};
use lb_model::{DesiredState, Forwarding, OrphanPolicy, Protocol, ServiceKey};
use vrrp::InstanceSettings;

/// Resets of clients whose server is gone.
pub(super) struct ClientResets {
    /// The thread that resets clients, so that a scan for them holds nothing up.
    thread: Resets,
    report_sender: mpsc::UnboundedSender<ResetReport>,
    reports: mpsc::UnboundedReceiver<ResetReport>,
    /// The other directors, where this one is a server itself.
    peers: Option<Peers>,
    deferred: DeferredResets,
    /// Tells of which services servers pass packets on.
    tables: ToldTables,
    /// Connections that were reset, by service and server.
    counts: HashMap<(ServiceKey, SocketAddr), u64>,
}

/// Removed servers whose clients are not reset before it is known who leads.
#[derive(Default)]
struct DeferredResets {
    servers: Vec<RemovedServer>,
    /// A virtual router that becomes master before then is taken to have been master
    /// all the time. `None` before the virtual routers run, and where an earlier agent
    /// has handed over.
    until: Option<Instant>,
}

impl ClientResets {
    /// Starts the thread. `tables`: what servers are told.
    pub(super) fn start(tables: ToldTables) -> Self {
        let (report_sender, reports) = mpsc::unbounded_channel();
        Self {
            thread: Resets::start(report_sender.clone()),
            report_sender,
            reports,
            peers: None,
            deferred: DeferredResets::default(),
            tables,
            counts: HashMap::new(),
        }
    }

    /// Connections that were reset, by service and server.
    pub(super) fn counts(&self) -> &HashMap<(ServiceKey, SocketAddr), u64> {
        &self.counts
    }

    /// Has the clients of `removed` servers reset. Those of a service that another
    /// director leads are its business: what the tables say of them here is from
    /// before, and they may be served well. Who leads is not known before the virtual
    /// routers run.
    pub(super) fn reset_clients(
        &mut self,
        mut removed: Vec<RemovedServer>,
        dataplane: &Dataplane,
        plan: &Plan,
        routers: &VirtualRouters,
    ) {
        removed.retain(|server| server.orphans != OrphanPolicy::Drop);
        let is_ours = |server: &mut RemovedServer| routers.answers_at(plan, server.service.ip());
        let ours: Vec<RemovedServer> = removed.extract_if(.., is_ours).collect();
        if let Some(rate) = plan.reset_rate
            && !ours.is_empty()
        {
            self.thread.start_job(resets::Job {
                snapshot: dataplane.conntrack_snapshot(),
                removed: ours,
                rate,
                second_chance: self.tables.with_second_chance(std::time::Instant::now()),
            });
        }
        let is_too_early = match self.deferred.until {
            Some(until) => Instant::now() < until,
            None => !routers.has_started(),
        };
        if is_too_early {
            self.deferred.servers.extend(removed);
        }
    }

    /// The virtual routers have started: whichever leads within `longest_start` is
    /// taken to have led all the time.
    pub(super) fn defer_for(&mut self, longest_start: Duration) {
        self.deferred.until = Some(Instant::now() + longest_start);
    }

    /// One more virtual router leads: so it did all the time, if that is soon
    /// after the start.
    pub(super) fn reset_deferred(
        &mut self,
        dataplane: &Dataplane,
        plan: &Plan,
        routers: &VirtualRouters,
    ) {
        let removed = std::mem::take(&mut self.deferred.servers);
        let is_in_time = |until| Instant::now() < until;
        if !removed.is_empty() && self.deferred.until.is_some_and(is_in_time) {
            self.reset_clients(removed, dataplane, plan, routers);
        }
    }

    /// Tells other directors from now on of the clients of this director's own server, and
    /// listens to them; neither where it is no server itself, has no virtual router, or
    /// resets nobody (`lb_reset_rate 0`).
    pub(super) fn follow_peers(
        &mut self,
        dataplane: &Dataplane,
        plan: &Plan,
        routers: &VirtualRouters,
    ) {
        let own = own_servers(dataplane.desired());
        let instances = &plan.vrrp.instances;
        if own.is_empty() || instances.is_empty() || plan.reset_rate.is_none() {
            self.peers = None;
            return;
        }
        let all: Vec<Router> = instances.iter().map(router).collect();
        let mut led = Vec::new();
        for (instance, router) in instances.iter().zip(&all) {
            let is_held = |(service, _): &&(ServiceKey, _)| {
                router
                    .addresses
                    .contains(&service.address.ip().to_canonical())
            };
            let own: Vec<_> = own.iter().filter(is_held).copied().collect();
            if routers.masters().contains(&instance.name) && !own.is_empty() {
                led.push((router.clone(), own));
            }
        }
        let present = self.peers.take().filter(|peers| peers.routers() == all);
        let peers = present.unwrap_or_else(|| Peers::start(all));
        peers.report(Report {
            snapshot: dataplane.conntrack_snapshot(),
            routers: led,
        });
        self.peers = Some(peers);
    }

    /// One more virtual router leads: asks the clients that the director which led before
    /// has told of, of its own server.
    pub(super) fn ask_lost_clients(&self, plan: &Plan, routers: &VirtualRouters) {
        let (Some(peers), Some(rate)) = (&self.peers, plan.reset_rate) else {
            return;
        };
        let is_ours = |address: IpAddr| routers.answers_at(plan, address);
        let lost = peers.take_lost(is_ours);
        if !lost.is_empty() {
            ask_clients(lost, rate, self.report_sender.clone());
        }
    }

    /// Waits for the next report. May be dropped without losing one.
    pub(super) async fn next_report(&mut self) -> ResetReport {
        match self.reports.recv().await {
            Some(report) => report,
            // The thread has ended, which it does after us.
            None => std::future::pending().await,
        }
    }

    /// Counts the connections that were reset; returns the change that operators are
    /// told of, if there were any.
    pub(super) fn on_report(&mut self, report: ResetReport) -> Option<Change> {
        let server = (report.service, report.server);
        *self.counts.entry(server).or_default() += report.viewers;
        (report.viewers > 0 || report.failed.is_some()).then_some(Change::Reset(report))
    }
}

/// Services of TCP, each with this machine where it is one of the servers.
fn own_servers(desired: &DesiredState) -> Vec<(ServiceKey, SocketAddr)> {
    let services = desired.services.iter();
    let services = services.filter(|service| service.protocol == Protocol::Tcp);
    let servers = services.flat_map(|service| {
        let own = service.servers.iter();
        let own = own.filter(|server| server.forwarding == Forwarding::Local);
        own.map(|server| (service.key(), server.address))
    });
    servers.collect()
}

fn router(instance: &InstanceSettings) -> Router {
    let addresses = instance.addresses.iter();
    Router {
        id: instance.format.virtual_router_id(),
        interface: instance.interface.clone(),
        source: instance.source,
        destinations: instance.transport.destinations(),
        secrets: instance.shared_secrets(),
        addresses: addresses.map(|held| held.address.to_canonical()).collect(),
    }
}
