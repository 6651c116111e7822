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
use crate::resets::{self, ResetCause, ResetReport, Resets, ask_clients};
use lb_dataplane::{Dataplane, RemovedServer};
use lb_model::{DesiredState, Forwarding, OrphanPolicy, Protocol, ServiceKey};
use vrrp::InstanceSettings;

/// Resets of clients whose server is gone.
pub(super) struct ClientResets {
    /// The thread that resets clients, so that a scan for them holds nothing up.
    thread: Resets,
    report_sender: mpsc::UnboundedSender<ResetReport>,
    reports: mpsc::UnboundedReceiver<ResetReport>,
    /// The other directors of the virtual routers.
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

    /// Listens from now on to what other directors tell of their own servers' clients, and
    /// tells them of this one's, where it is a server itself; neither without a virtual router,
    /// or where nobody is reset (`lb_reset_rate 0`).
    pub(super) fn follow_peers(
        &mut self,
        dataplane: &Dataplane,
        plan: &Plan,
        routers: &VirtualRouters,
    ) {
        let all = peer_routers(plan);
        if all.is_empty() {
            self.peers = None;
            return;
        }
        let own = own_servers(dataplane.desired());
        let mut led = Vec::new();
        for (instance, router) in plan.vrrp.instances.iter().zip(&all) {
            let is_held =
                |(service, _): &&(ServiceKey, _)| router.services.contains(&canonical(service));
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

    /// Counts the connections that were reset, which those of clients merely asked may not
    /// be; returns the change that operators are told of, if there were any.
    pub(super) fn on_report(&mut self, report: ResetReport) -> Option<Change> {
        if report.cause == ResetCause::ServerGone {
            let server = (report.service, report.server);
            *self.counts.entry(server).or_default() += report.viewers;
        }
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

/// The virtual routers whose directors are listened to, in the order of the plan's.
fn peer_routers(plan: &Plan) -> Vec<Router> {
    let instances = plan.vrrp.instances.iter();
    let wanted = instances.filter(|_| plan.reset_rate.is_some());
    wanted.map(|instance| router(instance, plan)).collect()
}

fn router(instance: &InstanceSettings, plan: &Plan) -> Router {
    let held = |instance: &InstanceSettings| -> Vec<IpAddr> {
        let held = instance.addresses.iter();
        held.map(|held| held.address.to_canonical()).collect()
    };
    let addresses = held(instance);
    let services = plan.services.iter().map(|service| &service.key);
    let services = services.filter(|service| service.protocol == Protocol::Tcp);
    let services = services.map(canonical);
    Router {
        id: instance.format.virtual_router_id(),
        interface: instance.interface.clone(),
        source: instance.source,
        virtual_addresses: plan.vrrp.instances.iter().flat_map(held).collect(),
        destinations: instance.transport.destinations(),
        secrets: instance.shared_secrets(),
        services: services
            .filter(|service| addresses.contains(&service.ip()))
            .collect(),
        max_silence: instance.max_failover_time(),
    }
}

fn canonical(service: &ServiceKey) -> SocketAddr {
    SocketAddr::new(service.address.ip().to_canonical(), service.address.port())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use lb_model::Tables;
    use tokio::sync::watch;

    fn plan(more: &str) -> Plan {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("keepalived.conf");
        let text = include_str!("../../../examples/keepalived.conf");
        std::fs::write(&file, format!("{text}\n{more}")).expect("the file is written");
        let config = lb_config::load(&file).expect("the file is accepted").config;
        Plan::new(&config).expect("a plan")
    }

    #[test]
    fn a_director_that_is_no_server_itself_listens_too_unless_nobody_is_reset() {
        // None of the servers is the director.
        let listened = peer_routers(&plan(""));
        assert_eq!(listened.len(), 1);
        let service: SocketAddr = "172.16.1.200:1935".parse().expect("an end");
        assert_eq!(listened[0].services, [service]);
        assert_eq!(peer_routers(&plan("global_defs { lb_reset_rate 0\n }")), []);
    }

    #[test]
    fn clients_that_were_merely_asked_are_not_counted_as_reset() {
        let told = watch::channel(Arc::new(Tables::default())).1;
        let mut resets = ClientResets::start(ToldTables::new(told));
        let service = ServiceKey {
            protocol: Protocol::Tcp,
            address: "172.16.1.200:1935".parse().expect("an end"),
        };
        let server = "172.16.1.10:1935".parse().expect("an end");
        for cause in [ResetCause::DirectorGone, ResetCause::ServerGone] {
            let report = ResetReport {
                service,
                server,
                cause,
                viewers: 7,
                failed: None,
                took: Duration::ZERO,
            };
            assert!(resets.on_report(report).is_some(), "operators are told");
            let expected = (cause == ResetCause::ServerGone).then_some(&7);
            assert_eq!(resets.counts().get(&(service, server)), expected);
        }
    }
}
