//! The start: what an agent sets up before it attracts viewers.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use service_kit::systemd;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::doubt::Doubts;
use super::end::remove;
use super::interfaces::{attach_to, log_attachments, require_interfaces};
use super::leftovers::Leftovers;
use super::plan::Plan;
use super::rates::Meter;
use super::saved::{Saved, SavedFile};
use super::second_opinion::SecondOpinions;
use super::signals::Upgrading;
use super::state::State;
use super::statics::Statics;
use super::survey::Surveys;
use super::upgrade::Upgrade;
use super::vrrp_thread::VrrpThread;
use super::{Agent, RunOptions, Untold, capabilities, capacity, status};
use crate::control::event_log::EventLog;
use crate::control::http::HttpServer;
use crate::control::{self, Call};
use crate::neighbor::{self, Hop, Hops, Watcher};
use crate::resets::Resets;
use lb_dataplane::{Dataplane, Options, Origin};
use lb_model::Forwarding;
use lb_model::config::Config;
use lb_script::script::ScriptRunner;
use lb_script::track_file;
use netlink::{self, interfaces};
use vrrp::{Settings, Vrrp};

/// How long the start waits for the servers' MAC addresses before it attracts
/// viewers all the same.
const NEIGHBOR_PATIENCE: Duration = Duration::from_secs(1);

impl Agent {
    /// Sets everything up, in an order that attracts viewers only when they can
    /// be served.
    pub(super) async fn start(
        mut options: RunOptions,
        program: PathBuf,
        config: Config,
        plan: Plan,
        call_sender: mpsc::Sender<Call>,
        calls: mpsc::Receiver<Call>,
    ) -> anyhow::Result<Self> {
        let netlink = netlink::Connection::open().context("cannot open a netlink socket")?;
        let for_dataplane = prepare(&netlink, &options, &plan).await?;
        options.tables = for_dataplane.tables;
        if lb_config::runs_scripts_as_others(&config)
            && let Some(missing) = capabilities::missing_for_scripts()
        {
            log::warn!("scripts cannot run as their user as they should: lb-user lacks {missing}");
        }
        raise_descriptor_limit();
        let http = match options.http {
            Some(address) => Some(
                HttpServer::start(address, call_sender.clone())
                    .await
                    .with_context(|| {
                        format!(
                            "cannot serve HTTP on {address}; choose another address with --http"
                        )
                    })?,
            ),
            None => None,
        };
        let events = EventLog::default();
        let control = control::Server::start(&options.socket, call_sender, events.clone()).await?;
        let saved_file = SavedFile::beside(&options.socket);
        let saved = saved_file.read();
        let interfaces = interfaces::Watcher::start().await;
        let interfaces = interfaces.context("cannot follow the interfaces")?;
        let present = interfaces.subscribe().borrow().clone();
        // First: the servers may be behind them.
        let mut statics = Statics::new(saved.added_addresses());
        let wanted = plan.statics.clone();
        statics.follow(&netlink.handle, &present, wanted).await;
        // Others wait for adverts: what was handed over goes on before all else.
        let masters = saved.masters_handed_over(&plan.vrrp);
        let vrrp_thread = VrrpThread::start().context("cannot start a thread")?;
        let vrrp = if masters.is_empty() {
            None
        } else {
            Some(start_vrrp(&vrrp_thread, &plan, masters.clone()).await?)
        };
        let dataplane = match Dataplane::load(&for_dataplane) {
            Ok(dataplane) => dataplane,
            Err(error) => {
                // What an earlier agent has left may still forward by them.
                if saved.addresses.is_empty() && saved.routes.is_empty() {
                    statics.clear(&netlink.handle, &present).await;
                }
                return Err(error.into());
            }
        };
        log_origin(&dataplane, options.pins.as_deref());
        let (check_events, check_results) = mpsc::unbounded_channel();
        let (tell, told) = mpsc::unbounded_channel();
        let mut agent = Self {
            options,
            program,
            state: State::default(),
            dataplane,
            surveys: Surveys::default(),
            meter: Meter::default(),
            resets: Resets::start(tell),
            doubts: Doubts::default(),
            doubtful: BTreeSet::new(),
            second_opinions: SecondOpinions::default(),
            told,
            connections_reset: HashMap::new(),
            netlink,
            watcher: Watcher::start().context("cannot open a netlink socket")?,
            interfaces,
            statics,
            checks: HashMap::new(),
            check_results,
            check_events,
            vrrp,
            vrrp_thread,
            // Until an event says otherwise.
            masters: masters.into_iter().collect(),
            saved: saved_file,
            untold: Untold::default(),
            refused: None,
            ending: None,
            not_upgraded: saved
                .handed_over
                .as_ref()
                .and_then(|given| given.failure.clone()),
            upgrade: Upgrade::default(),
            upgrading: Upgrading::default(),
            config,
            scripts: ScriptRunner::start(),
            events,
            _control: control,
            _http: http,
            calls,
        };
        match agent.begin(&saved, plan).await {
            Ok(()) => Ok(agent),
            Err(error) => {
                // What was there before goes on.
                if *agent.dataplane.origin() == Origin::New {
                    remove(agent.dataplane);
                    let present = agent.interfaces.subscribe().borrow().clone();
                    agent.statics.clear(&agent.netlink.handle, &present).await;
                }
                Err(error)
            }
        }
    }

    /// Puts the first plan in force, on top of what an earlier agent has left.
    async fn begin(&mut self, saved: &Saved, plan: Plan) -> anyhow::Result<()> {
        self.state.inherit(saved);
        let known = self.known_hops(&saved.cut_off);
        self.state
            .hops_changed(known.clone(), Instant::now().into_std());
        // What an operator has written to a file outlives an upgrade.
        track_file::initialise(plan.number_files(), saved.handed_over.is_none());
        let leftovers = Leftovers::unknown_to(&plan, saved);
        self.put_in_force(plan)?;
        let present = self.interfaces.subscribe().borrow().clone();
        let say = |sentence: String| {
            log::info!("left by an earlier agent, and not in the file any more: {sentence}");
            Ok(())
        };
        let removed = leftovers.remove(&self.netlink.handle, &present, say).await;
        if let Err(error) = removed {
            log::error!("{error:#}");
        }
        log_attachments(self.dataplane.attachments());
        self.wait_for_neighbors(&known).await?;
        // Last: it attracts viewers.
        if self.vrrp.is_none() {
            let vrrp = start_vrrp(&self.vrrp_thread, self.state.plan(), Vec::new());
            self.vrrp = Some(vrrp.await?);
            self.untold.until = Some(Instant::now() + longest_start(&self.state.plan().vrrp));
        }
        self.tell_quorums();
        log::info!("ready: {} service(s)", self.state.plan().services.len());
        systemd::ready(&status::line(&self.state, &self.masters));
        Ok(())
    }

    /// The hops that an earlier agent has left in the data plane. Those to
    /// addresses that it could not reach any more are from before.
    fn known_hops(&self, cut_off: &BTreeSet<IpAddr>) -> Hops {
        let known = self.dataplane.known_hops().into_iter();
        known
            .filter(|(address, ..)| !cut_off.contains(address))
            .filter_map(|(address, next_hop, forwarding)| {
                let name = nix::net::if_::if_indextoname(next_hop.interface_index).ok()?;
                let interface = name.to_string_lossy().into_owned();
                let path = match forwarding {
                    Forwarding::Tunnel { source, mtu } => Some(neighbor::Path { source, mtu }),
                    Forwarding::Direct => None,
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

    /// Waits until every server's MAC address is found, within reason. Those
    /// that an earlier agent knew hold until then.
    async fn wait_for_neighbors(&mut self, known: &Hops) -> anyhow::Result<()> {
        if self.state.addresses().is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + NEIGHBOR_PATIENCE;
        let mut found = Hops::new();
        while let Ok(hops) = timeout_at(deadline, self.watcher.changed()).await {
            found = hops?;
            if found.values().all(Hop::is_ready) {
                break;
            }
            let mut hops = found.clone();
            for (address, hop) in &mut hops {
                if !hop.is_ready()
                    && let Some(known) = known.get(address)
                {
                    *hop = known.clone();
                }
            }
            let changes = self.state.hops_changed(hops, Instant::now().into_std());
            self.carry_out(changes);
        }
        let now = Instant::now().into_std();
        if !found.is_empty() {
            let changes = self.state.hops_changed(found, now);
            self.carry_out(changes);
        }
        // What is out of reach does not count when it is decided who leads.
        if let Some(changes) = self.state.tick(now) {
            self.put_through(changes);
        }
        Ok(())
    }
}

/// Checks what can be checked before anything is set up; what the data plane is
/// to be.
pub async fn prepare(
    netlink: &netlink::Connection,
    options: &RunOptions,
    plan: &Plan,
) -> anyhow::Result<Options> {
    let interfaces = attach_to(options, plan)?;
    require_interfaces(netlink, &interfaces, plan).await?;
    capabilities::check()?;
    Ok(Options {
        interfaces,
        mode: options.mode,
        tables: capacity::sizes(plan, options.tables)?,
        pins: options.pins.clone(),
        trace: log::log_enabled!(target: lb_abi::TRACE_TARGET, log::Level::Debug),
    })
}

async fn start_vrrp(
    thread: &VrrpThread,
    plan: &Plan,
    masters: Vec<String>,
) -> anyhow::Result<Vrrp> {
    let started = thread.lead_on(plan.vrrp.clone(), masters).await;
    started.context("cannot start VRRP")
}

/// How long a virtual router of a director that was killed may take to lead
/// again: it listens for an interval, or waits as long as for any master
/// (RFC 3768 §6.1, RFC 5798 §6.1, `Master_Down_Interval`).
fn longest_start(settings: &Settings) -> Duration {
    let intervals = settings.instances.iter();
    let longest = intervals.map(|instance| instance.policy.interval).max();
    settings.startup_delay + longest.unwrap_or_default() * 4
}

/// Says what there was before us.
fn log_origin(dataplane: &Dataplane, pins: Option<&Path>) {
    let directory = pins.unwrap_or(Path::new("")).display();
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

/// Has as many descriptors as may be had: a check that gets none says nothing of
/// its server.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        log::warn!("the limit of open descriptors stays as it is: {error}");
    }
}
