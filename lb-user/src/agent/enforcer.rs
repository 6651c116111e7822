//! The owner of the data plane: makes it do what is desired, and resets the clients of
//! servers that are gone.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::panic::resume_unwind;
use std::path::Path;
use std::time::Duration;

use service_kit::sleep_until;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::change::Change;
use super::client_resets::ClientResets;
use super::confirmation_probe::ConfirmationProbes;
use super::partition_guard::{Awaited, GuardEvent, PartitionGuard, Watched};
use super::plan::{Plan, ServerPlan};
use super::protection::Protection;
use super::rates::{self, Meter};
use super::saved::Saved;
use super::server_path::{self, ServerPath};
use super::state::State;
use super::table_scan::{TableScan, TableScans, Waiter};
use super::virtual_routers::VirtualRouters;
use crate::checker::CheckSpec;
use crate::control::told_tables::ToldTables;
use crate::neighbor::{self, Hop, Hops};
use crate::resets::ResetReport;
use lb_dataplane::{
    Attachment, ConnectionCounts, ConntrackSnapshot, Dataplane, Error, Options, Origin,
    RemovedServer, Statistics, TableSizes,
};
use lb_model::{DesiredState, Forwarding, ServiceKey};

/// Pause before the data plane is asked again for what it has refused.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The data plane, and all that is asked of it. Nobody else writes to it.
///
/// Calling contract: [`apply`](Self::apply) after every change to the [`State`] or to
/// who leads, and when [`Event::Due`] says so; it is handed the whole state each
/// time. Wait for [`next`](Self::next) and do what its event names. Texts that are
/// returned are for operators who follow the events; they have been logged.
pub(super) struct Enforcer {
    dataplane: Dataplane,
    /// Set while the data plane does not do what is desired: packets are judged by a
    /// former state.
    refusal: Option<Refusal>,
    /// Keeps servers in place that may be alive though their checks fail.
    guard: PartitionGuard,
    /// Run for the services that `guard` has in doubt.
    probes: ConfirmationProbes,
    resets: ClientResets,
    protection: Protection,
    /// Capacities of the data plane's tables.
    tables: TableSizes,
    /// Scans through the tables of connections, at most one at a time.
    scans: TableScans,
    /// When the next scan removes what has expired.
    sweep_at: Instant,
    meter: Meter,
    /// When the counters are read for `meter`.
    readings: Interval,
    /// The warnings about paths to servers that operators have been told of: each is
    /// told once, until it holds no longer.
    path_warnings: BTreeSet<String>,
}

/// Why the data plane keeps its former state.
struct Refusal {
    reason: String,
    retry_at: Instant,
}

/// Something that concerns the data plane.
pub(super) enum Event {
    /// [`Enforcer::apply`] is due.
    Due,
    /// Another server of a service in doubt answers: [`Enforcer::confirm_dead`].
    OtherServerAnswers(ServiceKey),
    /// The clients of a server have been reset: [`Enforcer::on_reset_report`].
    ResetReport(ResetReport),
    /// A scan has ended: [`Enforcer::on_scan`].
    Scan(TableScan),
    /// Expired entries are to be removed: [`Enforcer::sweep`].
    SweepDue,
    /// The counters are to be read: [`Enforcer::read_counters`].
    ReadingDue,
}

impl Enforcer {
    /// Loads the data plane, or adopts that of an earlier agent. It does not follow
    /// a state before the first [`commit`](Self::commit). `tables`: what servers are told.
    ///
    /// Meanwhile other tasks run: most of the time the kernel verifies the program.
    ///
    /// # Errors
    /// As of [`Dataplane::load`].
    pub(super) async fn load(options: &Options, tables: ToldTables) -> Result<Self, Error> {
        let for_thread = options.clone();
        let loaded = tokio::task::spawn_blocking(move || Dataplane::load(&for_thread)).await;
        let dataplane = loaded.unwrap_or_else(|panic| resume_unwind(panic.into_panic()))?;
        log_origin(&dataplane, options);
        let mut readings = interval(rates::INTERVAL);
        readings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let validates = dataplane.validates_sources();
        Ok(Self {
            protection: Protection::new(validates, &options.tables),
            tables: options.tables,
            sweep_at: Instant::now() + dataplane.sweep_interval(),
            dataplane,
            refusal: None,
            guard: PartitionGuard::default(),
            probes: ConfirmationProbes::default(),
            resets: ClientResets::start(tables),
            scans: TableScans::default(),
            meter: Meter::default(),
            readings,
            path_warnings: BTreeSet::new(),
        })
    }

    /// The origin of the data plane.
    pub(super) fn origin(&self) -> &Origin {
        self.dataplane.origin()
    }

    /// The interfaces that the XDP program is attached to.
    pub(super) fn attachments(&self) -> &[Attachment] {
        self.dataplane.attachments()
    }

    /// Connections that were reset because their server was gone.
    pub(super) fn connections_reset(&self) -> &HashMap<(ServiceKey, SocketAddr), u64> {
        self.resets.counts()
    }

    /// The rates of traffic.
    pub(super) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Why packets are judged by a former state, if they are.
    pub(super) fn refusal(&self) -> Option<&str> {
        self.refusal.as_ref().map(|refusal| refusal.reason.as_str())
    }

    /// The tables of connections, for a reader in another thread.
    pub(super) fn conntrack_snapshot(&self) -> ConntrackSnapshot {
        self.dataplane.conntrack_snapshot()
    }

    /// The counters; `counts` brings what only a scan can count.
    ///
    /// # Errors
    /// A map cannot be read.
    pub(super) fn statistics(&self, counts: &ConnectionCounts) -> Result<Statistics, Error> {
        self.dataplane.statistics(counts)
    }

    /// Waits for the next event, and starts the scan that is due. May be dropped
    /// without losing an event.
    pub(super) async fn next(&mut self) -> Event {
        if self.scans.is_due() {
            self.scans.start(self.dataplane.conntrack_snapshot());
        }
        let retry_at = self.refusal.as_ref().map(|refusal| refusal.retry_at);
        tokio::select! {
            () = sleep_until(retry_at) => Event::Due,
            () = sleep_until(self.guard.deadline()) => Event::Due,
            service = self.probes.answered() => Event::OtherServerAnswers(service),
            report = self.resets.next_report() => Event::ResetReport(report),
            scan = self.scans.finished() => Event::Scan(scan),
            () = tokio::time::sleep_until(self.sweep_at) => Event::SweepDue,
            _ = self.readings.tick() => Event::ReadingDue,
        }
    }

    /// Has the data plane do what follows from `state`. If it refuses, packets are
    /// judged as before. Returns what operators are to know.
    ///
    /// # Errors
    /// As of [`Dataplane::apply`].
    pub(super) fn commit(
        &mut self,
        state: &State,
        routers: &VirtualRouters,
    ) -> Result<Option<String>, Error> {
        let protection = &state.plan().protection;
        self.protection.admit(protection, &self.tables)?;
        self.protection.replace_plan(protection);
        // Before the packets: where `apply` replaces an earlier agent's program, it takes
        // seconds for what that one remembers.
        let protected = self.protect();
        let (desired, events) = self.desired(state, routers);
        let result = self.dataplane.apply(&desired);
        // Also after a refusal: the guard has changed, and reports each event once.
        self.on_guard_events(events);
        let removed = result?.removed_servers;
        // The interval depends on the shortest persistence.
        let sweep_at = Instant::now() + self.dataplane.sweep_interval();
        self.sweep_at = self.sweep_at.min(sweep_at);
        self.reset_clients(removed, state.plan(), routers);
        self.follow_peers(state.plan(), routers);
        protected?;
        Ok(self.refusal.take().map(|_| {
            let message = "the data plane is in sync again".to_owned();
            log::info!("{message}");
            message
        }))
    }

    /// The state that the data plane has.
    pub(super) fn in_force(&self) -> &DesiredState {
        self.dataplane.desired()
    }

    /// Has the data plane do what follows from `state` now. What it refuses it is
    /// asked again after [`RETRY_INTERVAL`]. Returns what operators are to know.
    pub(super) fn apply(&mut self, state: &State, routers: &VirtualRouters) -> Option<String> {
        match self.commit(state, routers) {
            Ok(message) => message,
            Err(error) => self.refused(error.to_string()),
        }
    }

    /// Takes note of a refusal; what operators are to know if it is a new one.
    fn refused(&mut self, reason: String) -> Option<String> {
        let message = (self.refusal() != Some(&reason)).then(|| {
            let message = format!("the data plane keeps its former state: {reason}");
            log::error!("{message}");
            message
        });
        self.refusal = Some(Refusal {
            reason,
            retry_at: Instant::now() + RETRY_INTERVAL,
        });
        message
    }

    /// The desired state that follows from `state`, with servers left in place that
    /// the guard has in doubt.
    fn desired(
        &mut self,
        state: &State,
        routers: &VirtualRouters,
    ) -> (DesiredState, Vec<GuardEvent>) {
        let mut desired = state.desired();
        let watched = |service| watched(state, service, routers);
        let in_force = self.dataplane.desired();
        let events = self.guard.filter(&mut desired, in_force, watched, now());
        (desired, events)
    }

    /// Starts and ends confirmation probes as the guard asks for them.
    fn on_guard_events(&mut self, events: Vec<GuardEvent>) {
        for event in events {
            match event {
                GuardEvent::Begun(service, servers, awaited, checks) => {
                    let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
                    let servers = servers.join(", ");
                    self.probes.start(service, checks);
                    let decision = match awaited {
                        Awaited::Witness => "another server answers",
                        Awaited::Succession => {
                            "the virtual routers have decided which director is master"
                        }
                        Awaited::Recheck => "it has been checked again",
                    };
                    log::info!("{service}: {servers} stays in place until {decision}");
                }
                GuardEvent::Ended(service) => {
                    log::info!("{service}: no server is in doubt any more");
                    self.probes.stop(service);
                }
            }
        }
    }

    /// True while the guard has servers in doubt: who leads decides about them.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.guard.deadline().is_some()
    }

    /// Another server of `service` answers, so that those in doubt are dead. Returns
    /// true if any was in doubt: then [`apply`](Self::apply) is due.
    pub(super) fn confirm_dead(&mut self, service: ServiceKey) -> bool {
        self.guard.confirm_dead(service, now())
    }

    /// See [`ClientResets::reset_clients`].
    fn reset_clients(
        &mut self,
        removed: Vec<RemovedServer>,
        plan: &Plan,
        routers: &VirtualRouters,
    ) {
        self.resets
            .reset_clients(removed, &self.dataplane, plan, routers);
    }

    /// The virtual routers have started: whichever leads within `longest_start` is
    /// taken to have led all the time.
    pub(super) fn defer_resets_for(&mut self, longest_start: Duration) {
        self.resets.defer_for(longest_start);
    }

    /// One more virtual router leads: see [`ClientResets::reset_deferred`] and
    /// [`ClientResets::ask_lost_clients`].
    pub(super) fn on_leading(&mut self, plan: &Plan, routers: &VirtualRouters) {
        self.resets.ask_lost_clients(plan, routers);
        self.resets.reset_deferred(&self.dataplane, plan, routers);
    }

    /// Who leads has changed: see [`ClientResets::follow_peers`].
    pub(super) fn follow_peers(&mut self, plan: &Plan, routers: &VirtualRouters) {
        self.resets.follow_peers(&self.dataplane, plan, routers);
    }

    /// See [`ClientResets::on_report`].
    pub(super) fn on_reset_report(&mut self, report: ResetReport) -> Option<Change> {
        self.resets.on_report(report)
    }

    /// Has a scan made for a listing, which begins after this.
    pub(super) fn scan_for(&mut self, waiter: Waiter) {
        self.scans.add(waiter);
    }

    /// Has the next scan remove what has expired.
    pub(super) fn sweep(&mut self) {
        self.scans.sweep();
        self.sweep_at = Instant::now() + self.dataplane.sweep_interval();
    }

    /// Takes what a scan has counted; returns it with those who wait for it.
    pub(super) fn on_scan(
        &mut self,
        scan: TableScan,
    ) -> (Result<ConnectionCounts, Error>, Vec<Waiter>) {
        match &scan.counts {
            Ok(counts) if scan.swept => {
                if let Err(error) = self.dataplane.correct_loads(counts) {
                    log::error!("cannot correct the connection counts of the schedulers: {error}");
                }
            }
            Ok(_) => {}
            Err(error) => log::error!("cannot read the tables of connections: {error}"),
        }
        (scan.counts, scan.waiting)
    }

    /// Has the rates of traffic, and the protection from floods, follow the counters.
    /// Returns what operators are to know.
    pub(super) fn read_counters(&mut self) -> Vec<String> {
        match self.dataplane.statistics(&ConnectionCounts::default()) {
            Ok(statistics) => self.meter.record(&statistics, now()),
            Err(error) => log::debug!("cannot read the counters: {error}"),
        }
        let updated = self.protection.update(&self.dataplane);
        match updated.and_then(|messages| self.protect().map(|()| messages)) {
            Ok(messages) => messages,
            Err(error) => {
                log::error!("the protection from floods stays as it is: {error}");
                Vec::new()
            }
        }
    }

    /// The protection from floods.
    pub(super) fn protection(&self) -> &Protection {
        &self.protection
    }

    /// Changes the protection from floods.
    ///
    /// # Errors
    /// The data plane refuses it; then it is as before.
    pub(super) fn change_protection(
        &mut self,
        change: impl FnOnce(&mut Protection),
    ) -> Result<(), Error> {
        let former = self.protection.orders().clone();
        change(&mut self.protection);
        self.protect()
            .inspect_err(|_| self.protection.set_orders(former))
    }

    /// Takes up the orders about the protection that an earlier agent has saved.
    pub(super) fn inherit_protection(&mut self, saved: &Saved, plan: &Plan) {
        self.protection
            .inherit(saved, &plan.protection, &self.tables);
    }

    fn protect(&mut self) -> Result<(), Error> {
        if self.protection.enforce(&mut self.dataplane)? {
            // It removes the connections of networks that are denied now.
            self.sweep();
        }
        Ok(())
    }

    /// Attaches the program to interfaces that have come, and forgets those that have
    /// gone. Returns what operators are to know.
    pub(super) fn follow_interfaces(&mut self) -> Vec<String> {
        let changed = self.dataplane.follow_interfaces();
        let messages = changed.iter().map(|attachment| {
            let message = super::interfaces::describe(attachment);
            match &attachment.lost {
                Some(_) => log::warn!("{message}"),
                None => log::info!("{message}"),
            }
            message
        });
        messages.collect()
    }

    /// The hops that an earlier agent has left in the data plane. Those to
    /// addresses that it could not reach any more (`cut_off`) are from before.
    pub(super) fn known_hops(&self, cut_off: &BTreeSet<IpAddr>) -> Hops {
        let known = self.dataplane.known_hops().into_iter();
        known
            .filter(|(address, ..)| !cut_off.contains(address))
            .filter_map(|(address, next_hop, forwarding)| {
                let name = nix::net::if_::if_indextoname(next_hop.interface_index).ok()?;
                let interface = name.to_string_lossy().into_owned();
                let path = match forwarding {
                    Forwarding::Tunnel { source, mtu } => Some(neighbor::Path { source, mtu }),
                    Forwarding::Direct | Forwarding::Local => None,
                };
                Some((
                    address,
                    Hop::Ready {
                        next_hop,
                        interface,
                        path,
                    },
                ))
            })
            .collect()
    }

    /// The warnings about paths to servers now.
    pub(super) fn path_warnings(&self, state: &State) -> BTreeSet<String> {
        let paths = ServerPath::all(state.plan(), |address| state.hop(address));
        server_path::warnings(
            self.dataplane.attachments(),
            &paths,
            server_path::merging_now,
        )
    }

    /// The warnings about paths that operators have not been told of yet.
    pub(super) fn new_path_warnings(&mut self, state: &State) -> Vec<String> {
        let warnings = self.path_warnings(state);
        let new: Vec<String> = warnings.difference(&self.path_warnings).cloned().collect();
        self.path_warnings = warnings;
        for warning in &new {
            log::warn!("{warning}");
        }
        new
    }

    /// Ends the confirmation probes; returns when nothing of them is left.
    pub(super) async fn end_probes(&mut self) {
        self.probes.end().await;
    }

    /// Takes the data plane away: packets go to the kernel's stack again.
    pub(super) fn remove(self) {
        if let Err(error) = self.dataplane.remove() {
            log::error!("{error}");
        }
    }
}

/// The input of the guard about a service; `None`
/// where another director would not lead for that.
fn watched(state: &State, service: ServiceKey, routers: &VirtualRouters) -> Option<Watched> {
    let plan = state.plan();
    let succession = routers.succession(plan, service.address.ip())?;
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

/// Says what was there before.
fn log_origin(dataplane: &Dataplane, options: &Options) {
    let directory = options.pins.as_deref().unwrap_or(Path::new("")).display();
    match dataplane.origin() {
        Origin::New => log::info!("the data plane is pinned in {directory}"),
        Origin::Adopted => log::info!("the data plane in {directory} is adopted"),
        Origin::Replaced {
            because,
            carried_over: true,
        } => log::info!("the data plane in {directory} is replaced: {because}"),
        Origin::Replaced {
            because,
            carried_over: false,
        } => {
            log::warn!("the data plane in {directory} is replaced, and connections end: {because}")
        }
        Origin::Unpinned {
            because: Some(because),
        } => log::warn!("the data plane is not pinned, and ends with the agent: {because}"),
        Origin::Unpinned { because: None } => {}
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
