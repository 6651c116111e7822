//! The owner of virtual routers, and of the addresses and routes that this machine
//! has whoever leads.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;

use super::cleanup::Cleanup;
use super::plan::Plan;
use super::saved::Saved;
use super::state::State;
use super::statics::{self, StaticPlan, Statics};
use super::vrrp_thread::VrrpThread;
use lb_model::config::Route;
use netlink::interfaces::{Interfaces, Watcher};
use vrrp::{InstanceSettings, InstanceStatus, Settings, VirtualAddress, Vrrp};

/// Virtual routers (VRRP), static addresses and routes, and the interfaces that both
/// need.
///
/// Calling contract: [`start`](Self::start) once the data plane does what is desired,
/// since it attracts clients; then wait for [`next`](Self::next), and hand
/// each VRRP event to [`on_vrrp`](Self::on_vrrp) before anybody else gets to know of
/// it. [`set_quorum_lost`](Self::set_quorum_lost) after every change to the servers.
pub(super) struct VirtualRouters {
    /// For addresses and routes, and for look-ups at a reload.
    netlink: netlink::Connection,
    /// All interfaces of this machine. Stays subscribed to from the start, so that
    /// no change is missed before the loop runs.
    interfaces: watch::Receiver<Arc<Interfaces>>,
    /// Keeps `interfaces` up to date.
    _watcher: Watcher,
    statics: Statics,
    /// Addresses of services that routing daemons announce.
    announcements: Statics,
    /// `None` until [`start`](Self::start): who leads is not known before.
    vrrp: Option<Vrrp>,
    /// The thread of `vrrp`, so that adverts go out in time while the loop is busy.
    /// Must outlive it.
    thread: VrrpThread,
    /// The virtual routers that are master, by the events so far; at first those that
    /// an earlier agent has handed over.
    masters: BTreeSet<String>,
}

/// Something that concerns addresses, routes or interfaces.
pub(super) enum Event {
    /// A virtual router, or a sync group, has entered a state.
    Vrrp(vrrp::Event),
    /// Interfaces have come, gone or changed.
    Interfaces,
    /// Static addresses and routes are to be looked after:
    /// [`renew_statics`](VirtualRouters::renew_statics).
    StaticsDue,
}

impl VirtualRouters {
    /// Sets the static addresses and routes of `plan`, since the servers may be
    /// behind them. Leads on at once with the virtual routers that an earlier agent
    /// has handed over: other directors wait for adverts. `note` is called with the static
    /// addresses before some of them are added.
    ///
    /// # Errors
    /// The kernel refuses a socket.
    pub(super) async fn new(
        netlink: netlink::Connection,
        plan: &Plan,
        saved: &Saved,
        note: impl FnOnce(Vec<VirtualAddress>),
    ) -> anyhow::Result<Self> {
        let watcher = Watcher::start().await;
        let watcher = watcher.context("cannot follow the interfaces")?;
        let mut routers = Self {
            netlink,
            interfaces: watcher.subscribe(),
            _watcher: watcher,
            statics: Statics::new("static", saved.added_addresses()),
            announcements: Statics::new(statics::ANNOUNCE, saved.added_addresses()),
            vrrp: None,
            thread: VrrpThread::start().context("cannot start a thread")?,
            masters: BTreeSet::new(),
        };
        routers.plan_statics(plan.statics.clone());
        if routers.foresee_statics() {
            note(routers.statics.addresses().cloned().collect());
        }
        routers.renew_statics().await;
        let announced = plan.announced_addresses().collect();
        routers
            .announcements
            .inherit(StaticPlan::of_addresses(announced));
        let masters = saved.masters_handed_over(&plan.vrrp);
        if !masters.is_empty() {
            routers.masters = masters.iter().cloned().collect();
            routers.start(&plan.vrrp, masters).await?;
        }
        Ok(routers)
    }

    /// Starts the virtual routers; those in `masters` stay master.
    ///
    /// # Errors
    /// The kernel refuses a socket.
    pub(super) async fn start(
        &mut self,
        settings: &Settings,
        masters: Vec<String>,
    ) -> anyhow::Result<()> {
        let started = self.thread.resume(settings.clone(), masters).await;
        self.vrrp = Some(started.context("cannot start VRRP")?);
        Ok(())
    }

    /// True once the virtual routers run, so that it is known who leads.
    pub(super) fn has_started(&self) -> bool {
        self.vrrp.is_some()
    }

    /// Names of the virtual routers that are master.
    pub(super) fn masters(&self) -> &BTreeSet<String> {
        &self.masters
    }

    /// The netlink socket.
    pub(super) fn netlink(&self) -> &netlink::Connection {
        &self.netlink
    }

    /// The state of every virtual router; empty before they run.
    pub(super) async fn status(&self) -> Vec<InstanceStatus> {
        match &self.vrrp {
            Some(vrrp) => vrrp.status().await,
            None => Vec::new(),
        }
    }

    /// Waits for the next event. May be dropped without losing one.
    pub(super) async fn next(&mut self) -> Event {
        tokio::select! {
            event = next_vrrp_event(&mut self.vrrp) => Event::Vrrp(event),
            Ok(()) = self.interfaces.changed() => Event::Interfaces,
            () = self.statics.due() => Event::StaticsDue,
            () = self.announcements.due() => Event::StaticsDue,
        }
    }

    /// Keeps account of who is master. Returns true if one more virtual router is.
    pub(super) fn on_vrrp(&mut self, event: &vrrp::Event) -> bool {
        if event.subject != vrrp::Subject::Instance {
            return false;
        }
        let is_master = event.state == vrrp::State::Master;
        if is_master {
            self.masters.insert(event.name.clone());
        } else {
            self.masters.remove(&event.name);
        }
        is_master
    }

    /// Tells the virtual routers which services lack servers (`track_quorum`), and has the
    /// others announced.
    pub(super) fn set_quorum_lost(&mut self, state: &State) {
        if let Some(vrrp) = &self.vrrp {
            let announced = state.announced_addresses();
            self.announcements.plan(StaticPlan::of_addresses(announced));
            // By then a director that was cut off has seen every server again
            // that lives: one alone may be its quorum.
            let settling = state.longest_round();
            vrrp.set_quorum_lost(state.addresses_without_quorum(), settling);
        }
    }

    /// Follows a new configuration; returns what becomes of virtual routers by it.
    pub(super) async fn reload(&mut self, settings: Settings) -> Vec<vrrp::Event> {
        match &mut self.vrrp {
            Some(vrrp) => vrrp.reload(settings).await,
            None => Vec::new(),
        }
    }

    /// Replaces the static addresses and routes; [`renew_statics`](Self::renew_statics) sees
    /// to it.
    pub(super) fn plan_statics(&mut self, plan: StaticPlan) {
        self.statics.plan(plan);
    }

    /// Returns true if [`renew_statics`](Self::renew_statics) will add addresses, which
    /// [`held`](Self::held) names from now on, and which are to be saved before.
    pub(super) fn foresee_statics(&mut self) -> bool {
        let present = self.interfaces();
        let (statics, announcements) = (&mut self.statics, &mut self.announcements);
        [statics, announcements]
            .map(|statics| statics.foresee(&present))
            .contains(&true)
    }

    /// Sets what is not there yet, or not any more, and removes what is not to be there
    /// any more.
    pub(super) async fn renew_statics(&mut self) {
        let present = self.interfaces();
        let handle = &self.netlink.handle;
        self.statics.renew(handle, &present).await;
        self.announcements.renew(handle, &present).await;
    }

    /// The addresses that are announced now.
    pub(super) fn announced(&self) -> Vec<VirtualAddress> {
        self.announcements.addresses().cloned().collect()
    }

    /// Announces nothing any more. Returns true if anything was announced, so that clients
    /// need a while to find other directors.
    pub(super) async fn withdraw(&mut self) -> bool {
        let had_some = self.announcements.addresses().next().is_some();
        let present = self.interfaces();
        self.announcements
            .clear(&self.netlink.handle, &present)
            .await;
        had_some
    }

    /// Removes the static addresses and routes that this agent, or an earlier one,
    /// has added.
    pub(super) async fn clear_statics(&mut self) {
        let present = self.interfaces();
        self.statics.clear(&self.netlink.handle, &present).await;
        self.withdraw().await;
    }

    /// Removes what an earlier agent has left and no configuration names any more.
    pub(super) async fn clean_up(&self, stale: &Cleanup) {
        let report = |sentence: String| {
            log::info!("left by an earlier agent, and not in the file any more: {sentence}");
            Ok(())
        };
        let present = self.interfaces();
        let removed = stale.run(&self.netlink.handle, &present, report).await;
        if let Err(error) = removed {
            log::error!("{error:#}");
        }
    }

    /// The addresses and routes that are on this machine because of `plan` now.
    pub(super) fn held(&self, plan: &Plan) -> (Vec<VirtualAddress>, Vec<Route>) {
        let is_master = |instance: &&InstanceSettings| self.masters.contains(&instance.name);
        let masters = plan.vrrp.instances.iter().filter(is_master);
        let addresses = masters.clone().flat_map(|instance| &instance.addresses);
        let routes = masters.flat_map(|instance| &instance.routes);
        (
            addresses
                .chain(self.statics.addresses())
                .chain(self.announcements.addresses())
                .cloned()
                .collect(),
            routes.chain(&plan.statics.routes).cloned().collect(),
        )
    }

    /// True if this director answers for `address`: it leads there, or no virtual
    /// router has the address.
    pub(super) fn answers_at(&self, plan: &Plan, address: IpAddr) -> bool {
        plan.vrrp.answers_at(address, &self.masters)
    }

    /// The time within which another director leads in our place at `address` once a
    /// service there has lost its quorum; `None` if none would.
    pub(super) fn succession(&self, plan: &Plan, address: IpAddr) -> Option<Duration> {
        plan.vrrp.max_failover_time(address, &self.masters)
    }

    /// Ends the virtual routers and keeps what they hold, for the program that takes
    /// over; returns the names of those that are master.
    pub(super) async fn hand_over(&mut self) -> Vec<String> {
        match self.vrrp.take() {
            Some(vrrp) => vrrp.hand_over().await,
            None => Vec::new(),
        }
    }

    /// Ends the virtual routers, and returns what becomes of them by it.
    pub(super) async fn stop(&mut self) -> Vec<vrrp::Event> {
        match self.vrrp.take() {
            Some(vrrp) => vrrp.stop().await,
            None => Vec::new(),
        }
    }

    fn interfaces(&self) -> Arc<Interfaces> {
        Arc::clone(&self.interfaces.borrow())
    }
}

/// The next event of the virtual routers; never, while there are none.
async fn next_vrrp_event(vrrp: &mut Option<Vrrp>) -> vrrp::Event {
    match vrrp {
        Some(vrrp) => vrrp.next_event().await,
        None => std::future::pending().await,
    }
}
