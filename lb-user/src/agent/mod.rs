//! The one loop that owns desired and actual state.
//!
//! Events come in (checks, neighbours, signals, commands), [`state::State`]
//! decides what follows, and the data plane is handed the whole desired state.
//! Nobody else writes to it.

mod capabilities;
pub mod change;
mod listing;
pub mod plan;
mod rates;
pub mod recovery;
pub mod saved;
mod signals;
pub mod state;
mod status;
mod survey;
mod upgrade;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use rtmp_core::config::did_you_mean;
use rtmp_core::systemd;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at};

use crate::checker::{CheckEvent, CheckResult, CheckSpec, RunningCheck};
use crate::config::model::Script;
use crate::config::{self, Config, Diagnostic, Loaded};
use crate::control::http::HttpServer;
use crate::control::protocol::{Event, ListedInterface, Listing, Request, Response};
use crate::control::selection::Endpoint;
use crate::control::{self, Call};
use crate::dataplane::state::{Forwarding, OrphanPolicy};
use crate::dataplane::{
    self, AttachMode, Attachment, Census, Dataplane, Departed, Options, Origin, Statistics,
    TableSizes,
};
use crate::neighbor::{self, Hop, Hops, Watcher};
use crate::netlink::{self, interfaces, link};
use crate::resets::{self, Resets, Told};
use crate::script::ScriptRunner;
use crate::vrrp::{self, Vrrp};
use change::Change;
use plan::{Plan, ServiceKey};
use rates::Meter;
use saved::{HandOver, Saved, SavedAddress, SavedFile};
use signals::Signals;
use state::State;
use survey::{Survey, Surveys};

/// How long the start waits for the servers' MAC addresses before it attracts
/// viewers all the same.
const NEIGHBOR_PATIENCE: Duration = Duration::from_secs(1);

/// Events that a follower may be behind before it misses some.
const EVENTS_KEPT: usize = 1024;

/// How the agent is to run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The configuration file.
    pub config: PathBuf,
    /// Which conditional lines of it hold.
    pub config_id: String,
    /// Interfaces to attach to, in place of those of the configuration.
    pub interfaces: Vec<String>,
    /// Where in the receive path the program is attached.
    pub mode: AttachMode,
    /// The control socket.
    pub socket: PathBuf,
    /// Where metrics are served over HTTP, if anywhere.
    pub http: Option<SocketAddr>,
    /// Where the data plane is pinned, if it is to outlive the agent.
    pub pins: Option<PathBuf>,
    /// Capacities of the kernel's tables.
    pub tables: TableSizes,
}

/// What makes the agent end.
enum Ending {
    /// Everything goes, orders perhaps excepted.
    Stop {
        /// Whether they go, too.
        forget_orders: bool,
    },
    /// The process becomes the program that is installed now.
    Upgrade,
}

/// A mistake of the operator's that is neither in the file nor in the syntax of
/// the command line.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Misuse(pub String);

/// Runs until a signal, an order or a failure ends it. A signal to stop leaves
/// nothing behind; neither does a failure, unless it is of a kind that ends the
/// process at once: then what is pinned goes on, and a later agent adopts it.
///
/// # Errors
/// [`config::Refused`] and [`Misuse`] are the operator's mistakes; anything else
/// is what the system refused.
pub async fn run(options: RunOptions) -> anyhow::Result<()> {
    let mut signals = Signals::install()?;
    // Before another file may take its name.
    let program = upgrade::own_program().context("cannot find our own program")?;
    let loaded = config::load_for(&options.config, &options.config_id)?;
    log_diagnostics(&loaded.warnings);
    let plan = Plan::new(&loaded.config)?;
    let (calls, incoming) = mpsc::channel(16);
    let mut agent = Agent::start(options, program, loaded.config, plan, calls, incoming).await?;
    match agent.serve(&mut signals).await {
        Ok(Ending::Stop { forget_orders }) => {
            agent.stop(forget_orders).await;
            Ok(())
        }
        Ok(Ending::Upgrade) => Err(agent.hand_over().await),
        Err(error) => {
            agent.stop(false).await;
            Err(error)
        }
    }
}

struct Agent {
    options: RunOptions,
    /// The file that this process was started from.
    program: PathBuf,
    state: State,
    dataplane: Dataplane,
    surveys: Surveys,
    meter: Meter,
    resets: Resets,
    told: mpsc::UnboundedReceiver<Told>,
    /// Connections reset by us, of each server.
    connections_reset: HashMap<(ServiceKey, SocketAddr), u64>,
    netlink: netlink::Connection,
    watcher: Watcher,
    interfaces: interfaces::Watcher,
    checks: HashMap<CheckSpec, RunningCheck>,
    check_results: mpsc::UnboundedReceiver<CheckEvent>,
    check_events: mpsc::UnboundedSender<CheckEvent>,
    vrrp: Option<Vrrp>,
    /// The virtual routers that are master.
    masters: BTreeSet<String>,
    /// What a later agent is to know.
    saved: SavedFile,
    /// Why the agent is to end, if it is.
    ending: Option<Ending>,
    /// Where the scripts of virtual routers are named.
    config: Config,
    scripts: ScriptRunner,
    events: broadcast::Sender<Event>,
    /// Keeps the socket open; requests arrive by `calls`.
    _control: control::Server,
    _http: Option<HttpServer>,
    calls: mpsc::Receiver<Call>,
}

impl Agent {
    /// Sets everything up, in an order that attracts viewers only when they can
    /// be served.
    async fn start(
        options: RunOptions,
        program: PathBuf,
        config: Config,
        plan: Plan,
        call_sender: mpsc::Sender<Call>,
        calls: mpsc::Receiver<Call>,
    ) -> anyhow::Result<Self> {
        let netlink = netlink::Connection::open().context("cannot open a netlink socket")?;
        let interfaces = attach_to(&options, &plan)?;
        require_interfaces(&netlink, &interfaces, &plan).await?;
        capabilities::check()?;
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
        let (events, _) = broadcast::channel(EVENTS_KEPT);
        let control = control::Server::start(&options.socket, call_sender, events.clone()).await?;
        let saved_file = SavedFile::beside(&options.socket);
        let saved = saved_file.read();
        // Others wait for adverts: what was handed over goes on before all else.
        let masters = saved.masters_handed_over();
        let vrrp = if masters.is_empty() {
            None
        } else {
            let vrrp = start_vrrp(&plan, masters.clone()).await?;
            // Loading the program blocks: its first adverts go out before.
            tokio::task::yield_now().await;
            Some(vrrp)
        };
        let dataplane = Dataplane::load(&Options {
            interfaces,
            mode: options.mode,
            tables: options.tables,
            pins: options.pins.clone(),
        })?;
        log_origin(&dataplane, options.pins.as_deref());
        let (check_events, check_results) = mpsc::unbounded_channel();
        let (tell, told) = mpsc::unbounded_channel();
        let interfaces = interfaces::Watcher::start().await;
        let mut agent = Self {
            options,
            program,
            state: State::default(),
            dataplane,
            surveys: Surveys::default(),
            meter: Meter::default(),
            resets: Resets::start(tell),
            told,
            connections_reset: HashMap::new(),
            netlink,
            watcher: Watcher::start().context("cannot open a netlink socket")?,
            interfaces: interfaces.context("cannot follow the interfaces")?,
            checks: HashMap::new(),
            check_results,
            check_events,
            vrrp,
            // Until an event says otherwise.
            masters: masters.into_iter().collect(),
            saved: saved_file,
            ending: None,
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
                }
                Err(error)
            }
        }
    }

    /// Puts the first plan in force, on top of what an earlier agent has left.
    async fn begin(&mut self, saved: &Saved, plan: Plan) -> anyhow::Result<()> {
        self.state.inherit(saved);
        let known = self.known_hops();
        self.state.hops_changed(known.clone());
        self.put_in_force(plan)?;
        log_attachments(self.dataplane.attachments());
        self.wait_for_neighbors(&known).await?;
        // Last: it attracts viewers.
        if self.vrrp.is_none() {
            self.vrrp = Some(start_vrrp(self.state.plan(), Vec::new()).await?);
        }
        self.tell_quorums();
        log::info!("ready: {} service(s)", self.state.plan().services.len());
        systemd::ready(&status::line(&self.state, &self.masters));
        Ok(())
    }

    /// The hops that an earlier agent has left in the data plane.
    fn known_hops(&self) -> Hops {
        let known = self.dataplane.known_hops().into_iter();
        known
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

    async fn serve(&mut self, signals: &mut Signals) -> anyhow::Result<Ending> {
        let mut followed = self.interfaces.subscribe();
        let mut sweep_at = Instant::now() + self.dataplane.sweep_interval();
        let mut readings = interval(rates::INTERVAL);
        readings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watched = systemd::watchdog().is_some();
        loop {
            if self.surveys.is_due() {
                self.surveys.start(self.dataplane.remembered());
            }
            tokio::select! {
                Some(event) = self.check_results.recv() => {
                    let changes = self.state.check_changed(event, Instant::now().into_std());
                    self.carry_out(changes);
                }
                hops = self.watcher.changed() => {
                    let changes = self.state.hops_changed(hops?);
                    self.carry_out(changes);
                }
                Ok(()) = followed.changed() => self.follow_interfaces(),
                () = sleep_until_some(self.state.deadline()) => {
                    if let Some(changes) = self.state.tick(Instant::now().into_std()) {
                        self.put_through(changes);
                    }
                }
                event = next_event(&mut self.vrrp) => {
                    self.note_vrrp(&event);
                    self.report_vrrp(&event, &self.config);
                }
                Some(call) = self.calls.recv() => {
                    self.take_call(call).await;
                    if let Some(ending) = self.ending.take() {
                        return Ok(ending);
                    }
                }
                () = sleep_until(sweep_at) => {
                    self.surveys.sweep();
                    sweep_at = Instant::now() + self.dataplane.sweep_interval();
                }
                _ = readings.tick() => {
                    self.read_counters();
                    if watched {
                        systemd::alive();
                    }
                }
                Some(told) = self.told.recv() => self.take_told(told),
                survey = self.surveys.finished() => self.take_survey(survey).await,
                _ = signals.hangup.recv() => {
                    // Both outcomes have been logged.
                    let _ = self.reload().await;
                }
                _ = signals.upgrade.recv() => match self.rehearse_upgrade().await {
                    Ok(()) => return Ok(Ending::Upgrade),
                    Err(reason) => log::error!("not upgraded, nothing has changed: {reason}"),
                },
                name = signals.stop.received() => {
                    log::info!("stopping: {name}");
                    return Ok(Ending::Stop { forget_orders: false });
                }
            }
        }
    }

    /// Takes everything away; the socket goes with `self`.
    async fn stop(mut self, forget_orders: bool) {
        systemd::stopping();
        if let Some(vrrp) = self.vrrp.take() {
            for event in vrrp.stop().await {
                self.report_vrrp(&event, &self.config);
            }
        }
        for script in self.state.scripts_on_stop() {
            self.run_script(script);
        }
        for attachment in self.dataplane.attachments() {
            log::info!("{}: XDP program detached", attachment.interface);
        }
        self.saved.forget(!forget_orders);
        remove(self.dataplane);
        self.scripts.finish().await;
    }

    /// Lets the program that is installed now say whether it can take over.
    async fn rehearse_upgrade(&self) -> Result<(), String> {
        if matches!(self.dataplane.origin(), Origin::Unpinned { .. }) {
            return Err(
                "the data plane is not pinned, so that viewers would notice; restart instead"
                    .to_owned(),
            );
        }
        upgrade::rehearse(&self.program, &self.options).await
    }

    /// Becomes the program that is installed now. Returns only if that fails.
    async fn hand_over(mut self) -> anyhow::Error {
        log::info!("upgrade: {} takes over", self.program.display());
        systemd::reloading("becoming the program that is installed now");
        self.checks.clear();
        let mut to_save = self.to_save();
        let Self {
            scripts,
            vrrp,
            mut saved,
            program,
            ..
        } = self;
        scripts.finish().await;
        let masters = match vrrp {
            Some(vrrp) => vrrp.hand_over().await,
            None => Vec::new(),
        };
        to_save.handed_over = Some(HandOver::now(masters));
        saved.write(to_save);
        let error = upgrade::become_program(&program);
        anyhow::Error::new(error).context(format!("cannot run {}", program.display()))
    }

    /// Makes `plan` the one in force: data plane, state, checks, neighbours. If
    /// the data plane refuses it, nothing has changed.
    fn put_in_force(&mut self, plan: Plan) -> anyhow::Result<()> {
        let mut state = self.state.clone();
        let changes = state.replace_plan(plan);
        let prepared = self.dataplane.prepare(&state.desired())?;
        let departed = self.dataplane.commit(prepared)?.departed;
        self.state = state;
        self.tell_viewers(departed);
        let wanted: Vec<CheckSpec> = self.state.plan().checks().cloned().collect();
        let mut before = std::mem::take(&mut self.checks);
        for spec in wanted {
            if self.checks.contains_key(&spec) {
                continue;
            }
            let running = before.remove(&spec).unwrap_or_else(|| {
                let is_known = self.state.is_inherited(&spec)
                    || before.keys().any(|old| old.probe == spec.probe);
                let known = is_known
                    .then(|| matches!(self.state.check_result(&spec), Some(CheckResult::Up(_))));
                RunningCheck::start(spec.clone(), known, self.check_events.clone())
            });
            self.checks.insert(spec, running);
        }
        self.watcher.watch(self.state.addresses());
        self.report(changes);
        Ok(())
    }

    /// Waits until every server's MAC address is found, within reason. Those
    /// that an earlier agent knew hold until then.
    async fn wait_for_neighbors(&mut self, known: &Hops) -> anyhow::Result<()> {
        let deadline = Instant::now() + NEIGHBOR_PATIENCE;
        let mut found = Hops::new();
        while let Ok(hops) = timeout_at(deadline, self.watcher.changed()).await {
            found = hops?;
            let is_ready = |hop: &Hop| matches!(hop, Hop::Ready { .. });
            if found.values().all(is_ready) {
                break;
            }
            let mut hops = found.clone();
            for (address, hop) in &mut hops {
                if !is_ready(hop)
                    && let Some(known) = known.get(address)
                {
                    *hop = known.clone();
                }
            }
            let changes = self.state.hops_changed(hops);
            self.carry_out(changes);
        }
        if !found.is_empty() {
            let changes = self.state.hops_changed(found);
            self.carry_out(changes);
        }
        Ok(())
    }

    /// Interfaces have come, gone or changed.
    fn follow_interfaces(&mut self) {
        for attachment in self.dataplane.follow_interfaces() {
            let what = describe(&attachment);
            match &attachment.lost {
                Some(_) => log::warn!("{what}"),
                None => log::info!("{what}"),
            }
            self.publish(what);
        }
    }

    /// Keeps account of the virtual routers that are master.
    fn note_vrrp(&mut self, event: &vrrp::Event) {
        if event.subject == vrrp::Subject::Instance {
            if event.state == vrrp::machine::State::Master {
                self.masters.insert(event.name.clone());
            } else {
                self.masters.remove(&event.name);
            }
            self.save();
        }
    }

    /// Lets the operator know what has become of a virtual router; it has been
    /// logged.
    fn report_vrrp(&self, event: &vrrp::Event, config: &Config) {
        for script in vrrp::notify::scripts(event, config) {
            self.run_script(script);
        }
        self.publish(event.to_string());
    }

    fn run_script(&self, script: Script) {
        self.scripts.run(script.or_user(&self.config.global_defs));
    }

    fn publish(&self, message: String) {
        // Nobody may be following.
        let _ = self.events.send(Event {
            time_ms: now_ms(),
            message,
        });
    }

    /// Lets the data plane and the operator know of changes.
    fn carry_out(&mut self, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.put_through(changes);
        }
    }

    fn put_through(&mut self, changes: Vec<Change>) {
        if let Err(error) = self.apply() {
            log::error!("the data plane keeps its former state: {error}");
        }
        self.report(changes);
    }

    /// Lets the virtual routers know which services lack servers.
    fn tell_quorums(&self) {
        if let Some(vrrp) = &self.vrrp {
            // By then a director that was cut off has seen every server again
            // that lives: one alone may be its quorum.
            let settling = self.state.longest_round();
            vrrp.set_lacking(self.state.addresses_without_quorum(), settling);
        }
    }

    /// Makes the data plane do what is desired now.
    fn apply(&mut self) -> Result<(), dataplane::Error> {
        let departed = self.dataplane.apply(&self.state.desired())?.departed;
        self.tell_viewers(departed);
        Ok(())
    }

    /// Has the viewers told of servers that are gone. Those of a service that
    /// another director leads are its business: what is remembered of them here
    /// is from before, and they may be served well.
    fn tell_viewers(&self, mut departed: Vec<Departed>) {
        let vrrp = &self.state.plan().vrrp;
        departed.retain(|departed| {
            departed.orphans != OrphanPolicy::Drop
                && vrrp.speaks_for(departed.service.ip(), &self.masters)
        });
        if let Some(rate) = self.state.plan().reset_rate
            && !departed.is_empty()
        {
            self.resets.tell(resets::Job {
                remembered: self.dataplane.remembered(),
                departed,
                rate,
            });
        }
    }

    /// Has the rates of traffic follow the counters.
    fn read_counters(&mut self) {
        match self.dataplane.statistics(&Census::default()) {
            Ok(statistics) => self.meter.record(&statistics, Instant::now().into_std()),
            Err(error) => log::debug!("cannot read the counters: {error}"),
        }
    }

    /// Takes note of what has become of a dead server's viewers.
    fn take_told(&mut self, told: Told) {
        let Told {
            departed, viewers, ..
        } = &told;
        let service = ServiceKey {
            protocol: departed.protocol,
            address: departed.service,
        };
        *self
            .connections_reset
            .entry((service, departed.server))
            .or_default() += viewers;
        if *viewers > 0 || told.failed.is_some() {
            self.report(vec![Change::Told(told)]);
        }
    }

    /// Lets a later agent, and systemd, know how things stand now.
    fn save(&mut self) {
        systemd::status(&status::line(&self.state, &self.masters));
        let saved = self.to_save();
        self.saved.write(saved);
    }

    fn to_save(&self) -> Saved {
        let is_master =
            |instance: &&vrrp::settings::InstanceSettings| self.masters.contains(&instance.name);
        let instances = self.state.plan().vrrp.instances.iter();
        let addresses = instances
            .filter(is_master)
            .flat_map(|instance| &instance.addresses);
        Saved {
            addresses: addresses
                .map(|held| SavedAddress {
                    address: held.address,
                    prefix_length: held.prefix_length,
                    interface: held.interface.clone(),
                })
                .collect(),
            ..self.state.to_save()
        }
    }

    fn report(&mut self, changes: Vec<Change>) {
        self.tell_quorums();
        self.save();
        for change in changes {
            log::log!(change.level(), "{change}");
            self.publish(change.to_string());
            if let Some(script) = change.script() {
                self.run_script(script.clone());
            }
        }
    }

    async fn take_call(&mut self, call: Call) {
        // A client that has gone wants no answer.
        match call {
            Call::Remembered(answer) => {
                let _ = answer.send(self.dataplane.remembered());
            }
            Call::Request(Request::List, answer) => self.surveys.ask(answer),
            Call::Request(request, answer) => {
                let response = self.answer(request).await;
                let _ = answer.send(response);
            }
        }
    }

    async fn answer(&mut self, request: Request) -> Response {
        match request {
            // What does not turn, or has lost its maps, gives no answer.
            Request::Health => match self.dataplane.statistics(&Census::default()) {
                Ok(_) => Response::Done(Vec::new()),
                Err(error) => Response::Refused(error.to_string()),
            },
            Request::Order { server, order } => match server.parse::<Endpoint>() {
                Ok(name) => {
                    let (concerned, changes) = self.state.order_changed(name, order);
                    if concerned.is_empty() {
                        return Response::Refused(format!("no service has a server {server}"));
                    }
                    let remarks = changes.iter().map(ToString::to_string).collect();
                    self.carry_out(changes);
                    Response::Done(remarks)
                }
                Err(mistake) => Response::Refused(mistake),
            },
            Request::Stop => {
                log::info!("stopping: asked to on the control socket");
                self.ending = Some(Ending::Stop {
                    forget_orders: true,
                });
                Response::Done(Vec::new())
            }
            Request::Upgrade => match self.rehearse_upgrade().await {
                Ok(()) => {
                    self.ending = Some(Ending::Upgrade);
                    Response::Done(Vec::new())
                }
                Err(reason) => Response::Refused(reason),
            },
            Request::List
            | Request::Connections(_)
            | Request::PersistentClients(_)
            | Request::Follow => Response::Refused("this is answered elsewhere".to_owned()),
            Request::Reload => match self.reload().await {
                Ok(remarks) => Response::Done(remarks),
                Err(error) => Response::Refused(format!("{error:#}")),
            },
        }
    }

    /// Answers who has waited for a walk through the tables.
    async fn take_survey(&mut self, survey: Survey) {
        let census = match survey.census {
            Ok(census) => census,
            Err(error) => {
                log::error!("cannot read the tables of connections: {error}");
                for waiter in survey.waiting {
                    let _ = waiter.send(Response::Refused(error.to_string()));
                }
                return;
            }
        };
        if survey.swept
            && let Err(error) = self.dataplane.correct_loads(&census)
        {
            log::error!("cannot tell the schedulers of expired connections: {error}");
        }
        for waiter in survey.waiting {
            let response = match self.dataplane.statistics(&census) {
                Ok(statistics) => Response::Listing(self.listing(&statistics).await),
                Err(error) => Response::Refused(error.to_string()),
            };
            // A client that has gone wants no answer.
            let _ = waiter.send(response);
        }
    }

    async fn listing(&self, statistics: &Statistics) -> Listing {
        let interfaces = self
            .dataplane
            .attachments()
            .iter()
            .map(|attachment| ListedInterface {
                name: attachment.interface.clone(),
                index: attachment.interface_index,
                xdp_mode: mode_name(attachment.mode).to_owned(),
                native_refused: attachment.native_refused.clone(),
                lost: attachment.lost.clone(),
            })
            .collect();
        let status = match &self.vrrp {
            Some(vrrp) => vrrp.status().await,
            None => Vec::new(),
        };
        let virtual_addresses = listing::virtual_addresses(self.state.plan(), &status);
        Listing {
            interfaces,
            virtual_addresses,
            services: listing::services(
                &self.state,
                statistics,
                &self.meter,
                &self.connections_reset,
            ),
            reasons: statistics.reasons.clone(),
        }
    }

    /// Reads the configuration again; a bad one changes nothing.
    async fn reload(&mut self) -> anyhow::Result<Vec<String>> {
        let result = self.try_reload().await;
        match &result {
            Ok(_) => log::info!("reloaded {}", self.options.config.display()),
            Err(error) => {
                log::error!("not reloaded, nothing has changed:");
                for line in format!("{error:#}").lines() {
                    log::error!("  {line}");
                }
            }
        }
        result
    }

    async fn try_reload(&mut self) -> anyhow::Result<Vec<String>> {
        let Loaded { config, warnings } =
            config::load_for(&self.options.config, &self.options.config_id)?;
        let plan = Plan::new(&config)?;
        let interfaces = attach_to(&self.options, &plan)?;
        let attached: Vec<&str> = self
            .dataplane
            .attachments()
            .iter()
            .map(|a| a.interface.as_str())
            .collect();
        if interfaces != attached {
            bail!(Misuse(format!(
                "the interfaces have changed from {} to {}: this needs a restart",
                attached.join(", "),
                interfaces.join(", ")
            )));
        }
        require_interfaces(&self.netlink, &interfaces, &plan).await?;
        log_diagnostics(&warnings);
        let virtual_routers = plan.vrrp.clone();
        self.put_in_force(plan)?;
        let former = std::mem::replace(&mut self.config, config);
        let events = match &mut self.vrrp {
            Some(vrrp) => vrrp.reload(virtual_routers).await,
            None => Vec::new(),
        };
        for event in events {
            self.note_vrrp(&event);
            // A virtual router that is gone has its scripts in the file that had
            // it.
            let config = match event.state {
                vrrp::machine::State::Init => &former,
                _ => &self.config,
            };
            self.report_vrrp(&event, config);
        }
        Ok(warnings.iter().map(ToString::to_string).collect())
    }
}

fn remove(dataplane: Dataplane) {
    if let Err(error) = dataplane.remove() {
        log::error!("{error}");
    }
}

async fn start_vrrp(plan: &Plan, masters: Vec<String>) -> anyhow::Result<Vrrp> {
    let started = Vrrp::lead_on(plan.vrrp.clone(), masters).await;
    started.context("cannot start VRRP")
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

fn log_attachments(attachments: &[Attachment]) {
    for attachment in attachments {
        log::info!("{}", describe(attachment));
    }
}

fn describe(attachment: &Attachment) -> String {
    let Attachment {
        interface, mode, ..
    } = attachment;
    let mode = mode_name(*mode);
    match (&attachment.lost, &attachment.native_refused) {
        (Some(reason), _) => format!("{interface}: XDP program no longer attached: {reason}"),
        (None, None) => format!("{interface}: XDP program attached, {mode} mode"),
        (None, Some(reason)) => {
            format!("{interface}: XDP program attached, {mode} mode; native refused: {reason}")
        }
    }
}

/// The next event of the virtual routers; never, while there are none.
async fn next_event(vrrp: &mut Option<Vrrp>) -> vrrp::Event {
    match vrrp {
        Some(vrrp) => vrrp.next_event().await,
        None => std::future::pending().await,
    }
}

/// Sleeps until `deadline`; for ever, if there is none.
async fn sleep_until_some(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// The interfaces that viewers' packets arrive on.
fn attach_to(options: &RunOptions, plan: &Plan) -> Result<Vec<String>, Misuse> {
    let interfaces = if options.interfaces.is_empty() {
        plan.interfaces()
    } else {
        options.interfaces.clone()
    };
    if interfaces.is_empty() {
        return Err(Misuse(format!(
            "{} names no interface; add a vrrp_instance with `interface`, or give --interface",
            options.config.display()
        )));
    }
    Ok(interfaces)
}

/// Checks that every interface exists that will be needed.
async fn require_interfaces(
    netlink: &netlink::Connection,
    attached: &[String],
    plan: &Plan,
) -> anyhow::Result<()> {
    let links = link::all(&netlink.handle)
        .await
        .context("cannot read the list of interfaces")?;
    let of_plan = plan.interfaces();
    for name in attached.iter().chain(&of_plan) {
        if !links.iter().any(|link| link.name == *name) {
            let existing: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
            bail!(Misuse(format!(
                "there is no network interface `{name}`; there are: {}{}",
                existing.join(", "),
                did_you_mean(name, existing.iter().copied())
            )));
        }
    }
    Ok(())
}

fn log_diagnostics(diagnostics: &[Diagnostic]) {
    for Diagnostic { place, message, .. } in diagnostics {
        log::warn!("{place}: {message}");
    }
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis() as u64
}

fn mode_name(mode: AttachMode) -> &'static str {
    match mode {
        AttachMode::Auto => "auto",
        AttachMode::Native => "native",
        AttachMode::Generic => "generic",
    }
}
