//! The loop: whatever happens arrives here, one event after the other, and is passed
//! from the owner that has noticed it to those whom it concerns.

use service_kit::{systemd, unix_ms};
use tokio::sync::oneshot;

use super::change::Change;
use super::checks::{self, Checks};
use super::discovery::Discovery;
use super::enforcer::{self, Enforcer};
use super::operators::{self, Operators};
use super::options::RunOptions;
use super::saved::{Saved, SavedAddress, SavedFile};
use super::signals::{KeepalivedFile, SignalRequest};
use super::status;
use super::table_history::TableHistory;
use super::virtual_routers::{self, VirtualRouters};
use crate::control::protocol::Response;
use lb_dataplane::Origin;

/// The five owners, and what none of them could own alone.
///
/// Calling contract: [`start`](Self::start), [`serve`](Self::serve), then
/// [`stop`](Self::stop) or [`hand_over`](Self::hand_over), as the exit says. Dropping
/// an agent instead leaves what is pinned, and the addresses that it holds.
pub(super) struct Agent {
    /// As given on the command line, the tables raised to what the plan needs.
    pub(super) options: RunOptions,
    pub(super) checks: Checks,
    pub(super) routers: VirtualRouters,
    pub(super) enforcer: Enforcer,
    pub(super) operators: Operators,
    /// What real servers are told of the tables in force.
    pub(super) tables: TableHistory,
    pub(super) discovery: Discovery,
    /// Written after every change to what [`Saved`] holds, so that a
    /// later agent goes on from there even if this one is killed.
    pub(super) saved: SavedFile,
}

/// The way in which the agent ends.
pub(super) enum Exit {
    /// Everything is taken away, orders perhaps excepted.
    Stop {
        /// True if orders go, too.
        forget_orders: bool,
    },
    /// The process becomes the program that is installed now.
    Upgrade,
}

impl Agent {
    /// Serves until a signal, a request or a failure ends the agent.
    ///
    /// # Errors
    /// The kernel refuses what the agent cannot do without.
    pub(super) async fn serve(&mut self) -> anyhow::Result<Exit> {
        loop {
            tokio::select! {
                event = self.checks.next() => self.on_check_event(event?),
                event = self.routers.next() => self.on_router_event(event).await,
                reading = self.discovery.next() => self.on_reading(reading),
                event = self.enforcer.next() => self.on_enforcer_event(event).await,
                event = self.operators.next() => {
                    if let Some(exit) = self.on_operator_event(event?).await {
                        return Ok(exit);
                    }
                }
            }
        }
    }

    fn on_check_event(&mut self, event: checks::Event) {
        if let Some(changes) = self.checks.on_event(event) {
            self.apply_and_report(changes);
        }
    }

    async fn on_router_event(&mut self, event: virtual_routers::Event) {
        match event {
            virtual_routers::Event::Vrrp(event) => {
                self.on_vrrp(&event);
                if self.enforcer.is_in_doubt() {
                    self.apply();
                }
                self.operators.report_vrrp(&event, None);
            }
            virtual_routers::Event::Interfaces => {
                for message in self.enforcer.follow_interfaces() {
                    self.operators.publish(message);
                }
                self.report_path_warnings();
            }
            virtual_routers::Event::StaticsDue => {
                self.renew_statics().await;
            }
        }
    }

    /// Sees to static and announced addresses, and saves those that are added before they are:
    /// should this agent be killed then, they are ours for a later one, too.
    pub(super) async fn renew_statics(&mut self) {
        if self.routers.foresee_statics() {
            self.save();
        }
        self.routers.renew_statics().await;
        self.save();
    }

    async fn on_enforcer_event(&mut self, event: enforcer::Event) {
        match event {
            enforcer::Event::Due => self.apply(),
            enforcer::Event::OtherServerAnswers(service) => {
                if self.enforcer.confirm_dead(service) {
                    self.apply();
                }
            }
            enforcer::Event::ResetReport(report) => {
                if let Some(change) = self.enforcer.on_reset_report(report) {
                    self.report(vec![change]);
                }
            }
            enforcer::Event::Scan(scan) => self.on_scan(scan).await,
            enforcer::Event::SweepDue => self.enforcer.sweep(),
            enforcer::Event::ReadingDue => {
                let messages = self.enforcer.read_counters();
                if !messages.is_empty() {
                    // An order may have come to its end.
                    self.save();
                }
                for message in messages {
                    self.operators.publish(message);
                }
                // A loop that hangs is restarted by systemd.
                if systemd::watchdog().is_some() {
                    systemd::alive();
                }
            }
        }
    }

    async fn on_operator_event(&mut self, event: operators::Event) -> Option<Exit> {
        match event {
            operators::Event::Call(call) => return self.on_call(call).await,
            operators::Event::Signal(request) => return self.on_signal(request).await,
            operators::Event::UpgradeDue => self.begin_upgrade(None),
            operators::Event::Rehearsed(outcome) => self.operators.on_rehearsal(outcome),
            operators::Event::UpgradeReady => {
                self.operators.grant_upgrade();
                return Some(Exit::Upgrade);
            }
        }
        None
    }

    async fn on_signal(&mut self, request: SignalRequest) -> Option<Exit> {
        match request {
            SignalRequest::Reload => {
                // Both outcomes have been logged.
                let _ = self.reload().await;
            }
            SignalRequest::File(file) => self.write_keepalived_file(file).await,
            SignalRequest::StatsOrUpgrade => {
                self.operators.on_upgrade_signal();
                self.write_keepalived_file(KeepalivedFile::Stats).await;
            }
            SignalRequest::Unknown(number) => {
                log::warn!("signal {number} has no meaning here, and is ignored");
            }
            SignalRequest::Stop(signal) => {
                log::info!("stopping: {signal}");
                return Some(Exit::Stop {
                    forget_orders: false,
                });
            }
        }
        None
    }

    async fn write_keepalived_file(&mut self, file: KeepalivedFile) {
        let status = self.routers.status().await;
        let settings = &self.checks.state().plan().vrrp;
        self.operators
            .write_keepalived_file(file, settings, &status);
    }

    /// Has the installed program rehearse its start; `waiter` is told the outcome.
    pub(super) fn begin_upgrade(&mut self, waiter: Option<oneshot::Sender<Response>>) {
        let is_pinned = !matches!(self.enforcer.origin(), Origin::Unpinned { .. });
        self.operators.begin_upgrade(waiter, is_pinned);
    }

    /// Tells the others of a virtual router's new state, but for the operators.
    pub(super) fn on_vrrp(&mut self, event: &vrrp::Event) {
        let leads = self.routers.on_vrrp(event);
        let plan = self.checks.state().plan();
        if leads {
            self.enforcer.on_leading(plan, &self.routers);
        }
        self.enforcer.follow_peers(plan, &self.routers);
        self.save();
    }

    /// Tells the data plane and the operators of changes, if there are any.
    pub(super) fn apply_changes(&mut self, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.apply_and_report(changes);
        }
    }

    /// Has the data plane follow the state, then tells the others what has changed.
    pub(super) fn apply_and_report(&mut self, changes: Vec<Change>) {
        self.apply();
        self.report(changes);
    }

    fn apply(&mut self) {
        let message = self.enforcer.apply(self.checks.state(), &self.routers);
        if let Some(message) = message {
            self.operators.publish(message);
        }
        self.observe_tables();
    }

    /// Tells real servers of the tables that the data plane has now.
    pub(super) fn observe_tables(&mut self) {
        self.tables.observe(self.enforcer.in_force(), unix_ms());
    }

    /// Tells virtual routers, a later agent and the operators of changes.
    pub(super) fn report(&mut self, changes: Vec<Change>) {
        self.routers.set_quorum_lost(self.checks.state());
        self.save();
        let has_hops = changes
            .iter()
            .any(|change| matches!(change, Change::Hop { .. }));
        self.operators.report(changes);
        if has_hops {
            self.report_path_warnings();
        }
    }

    fn report_path_warnings(&mut self) {
        for warning in self.enforcer.new_path_warnings(self.checks.state()) {
            self.operators.publish(warning);
        }
    }

    /// Saves for a later agent, and for `systemctl status`, how things stand now.
    pub(super) fn save(&mut self) {
        systemd::status(&self.status_line());
        let saved = self.to_save();
        self.saved.write(saved);
    }

    /// See [`status::line`].
    pub(super) fn status_line(&self) -> String {
        status::line(self.checks.state(), self.routers.masters())
    }

    /// All that a later agent is to know.
    pub(super) fn to_save(&self) -> Saved {
        let state = self.checks.state();
        let (addresses, routes) = self.routers.held(state.plan());
        let mut saved = Saved {
            addresses: addresses.into_iter().map(SavedAddress::from).collect(),
            routes,
            tables: self.tables.to_save(),
            ..state.to_save()
        };
        self.enforcer.protection().save(&mut saved);
        self.discovery.save(&mut saved);
        saved
    }
}
