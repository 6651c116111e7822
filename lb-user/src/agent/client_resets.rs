//! Resets for the clients of removed servers: whose clients are reset, and when.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::change::Change;
use super::plan::Plan;
use super::virtual_routers::VirtualRouters;
use crate::resets::{self, ResetReport, Resets};
use lb_dataplane::{Dataplane, RemovedServer};
use lb_model::{OrphanPolicy, ServiceKey};

/// Resets of clients whose server is gone.
pub(super) struct ClientResets {
    /// The thread that resets clients, so that a scan for them holds nothing up.
    thread: Resets,
    reports: mpsc::UnboundedReceiver<ResetReport>,
    deferred: DeferredResets,
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
    /// Starts the thread.
    pub(super) fn start() -> Self {
        let (report_sender, reports) = mpsc::unbounded_channel();
        Self {
            thread: Resets::start(report_sender),
            reports,
            deferred: DeferredResets::default(),
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
        let ResetReport {
            removed, viewers, ..
        } = &report;
        let service = ServiceKey {
            protocol: removed.protocol,
            address: removed.service,
        };
        *self.counts.entry((service, removed.server)).or_default() += viewers;
        (*viewers > 0 || report.failed.is_some()).then_some(Change::Reset(report))
    }
}
