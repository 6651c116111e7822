//! The start: everything is set up in an order that attracts viewers only when they
//! can be served.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use service_kit::{systemd, unix_ms};
use tokio::time::Instant;

use super::capabilities;
use super::capacity;
use super::checks::Checks;
use super::cleanup::Cleanup;
use super::discovery::Discovery;
use super::enforcer::Enforcer;
use super::interfaces::{attach_to, log_attachments, require_interfaces};
use super::logging::log_diagnostics;
use super::operators::Operators;
use super::options::RunOptions;
use super::plan::Plan;
use super::saved::{Saved, SavedAddress, SavedFile};
use super::serve::Agent;
use super::signals::Signals;
use super::state::State;
use super::table_history::TableHistory;
use super::upgrade::{self, Upgrade};
use super::virtual_routers::VirtualRouters;
use crate::control::credentials;
use crate::neighbor::{Hop, Hops};
use lb_dataplane::{Dataplane, Options, Origin};
use lb_model::config::Config;
use vrrp::Settings;

/// Time limit for finding the servers' MAC addresses before viewers are attracted all
/// the same.
const NEIGHBOR_TIMEOUT: Duration = Duration::from_secs(1);

/// Finds out whether [`run`](super::run) would start, and changes nothing.
///
/// # Errors
/// As of [`run`](super::run), as far as that can be told beforehand.
pub async fn rehearse(options: &RunOptions) -> anyhow::Result<()> {
    let loaded = lb_config::load_for(&options.config, &options.config_id)?;
    let saved = SavedFile::beside(&options.socket).read();
    let plan = Plan::new(&loaded.config)?;
    let plan = Discovery::new(&saved).complete_plan(&loaded.config, plan)?;
    options
        .http_auth
        .as_deref()
        .map(credentials::read)
        .transpose()?;
    let netlink = netlink::Connection::open().context("cannot open a netlink socket")?;
    let options = prepare(&netlink, options, &plan).await?;
    plan.protection.admit_with(&saved.denied, &options.tables)?;
    let mut state = State::default();
    state.replace_plan(plan, Instant::now().into_std());
    Dataplane::rehearse(&options, &state.desired())?;
    Ok(())
}

impl Agent {
    /// Starts as `options` say.
    ///
    /// # Errors
    /// As of [`run`](super::run). What was there before goes on.
    pub(super) async fn start(options: RunOptions, signals: Signals) -> anyhow::Result<Self> {
        // Before another file may take its name.
        let program = upgrade::own_program().context("cannot find our own program")?;
        let loaded = lb_config::load_for(&options.config, &options.config_id)?;
        log_diagnostics(&loaded.warnings);
        let plan = Plan::new(&loaded.config)?;
        Self::set_up(options, signals, program, loaded.config, plan).await
    }

    async fn set_up(
        mut options: RunOptions,
        signals: Signals,
        program: PathBuf,
        config: Config,
        plan: Plan,
    ) -> anyhow::Result<Self> {
        let netlink = netlink::Connection::open().context("cannot open a netlink socket")?;
        let for_dataplane = prepare(&netlink, &options, &plan).await?;
        options.tables = for_dataplane.tables;
        if lb_config::runs_scripts_as_others(&config)
            && let Some(missing) = capabilities::missing_for_scripts()
        {
            log::warn!("scripts cannot run as their configured user: lb-user lacks {missing}");
        }
        raise_descriptor_limit();
        let upgrade = Upgrade::new(program);
        // Holds the control socket, so that no second agent gets further than this.
        let mut operators = Operators::start(&options, config, signals, upgrade).await?;
        // Now that no agent before us writes it any more.
        let mut saved_file = SavedFile::beside(&options.socket);
        let saved = saved_file.read();
        // Before anybody can ask: a server takes an answer without them for all there is.
        let tables = TableHistory::inherit(options.tables.maglev_places, unix_ms(), &saved.tables);
        operators.open_http(&options, tables.told().clone()).await?;
        if let Some(handed_over) = &saved.handed_over {
            operators.on_hand_over(handed_over);
        }
        let note = |added: Vec<_>| {
            let mut noted = saved.clone();
            noted
                .addresses
                .extend(added.into_iter().map(SavedAddress::from));
            saved_file.write(noted);
        };
        let mut routers = VirtualRouters::new(netlink, &plan, &saved, note).await?;
        let checks = Checks::new(&saved)?;
        checks.watch_neighbors_of(&plan);
        let enforcer = match Enforcer::load(&for_dataplane, tables.told().clone()).await {
            Ok(enforcer) => enforcer,
            Err(error) => {
                if has_no_statics(&saved) {
                    routers.clear_statics().await;
                    saved_file.restore(saved);
                }
                return Err(error.into());
            }
        };
        let mut agent = Self {
            options,
            checks,
            routers,
            enforcer,
            operators,
            tables,
            discovery: Discovery::new(&saved),
            saved: saved_file,
        };
        let config = agent.operators.config().clone();
        let plan = agent.discover(&config, plan).await;
        match agent.begin(&saved, plan).await {
            Ok(()) => Ok(agent),
            Err(error) => {
                // What was there before goes on.
                let is_first = match agent.enforcer.origin() {
                    Origin::New => true,
                    Origin::Unpinned { .. } => has_no_statics(&saved),
                    Origin::Adopted | Origin::Replaced { .. } => false,
                };
                if is_first {
                    agent.enforcer.remove();
                    agent.routers.clear_statics().await;
                    agent.saved.restore(saved);
                }
                Err(error)
            }
        }
    }

    /// Puts the first plan in force, on top of what an earlier agent has left.
    async fn begin(&mut self, saved: &Saved, plan: Plan) -> anyhow::Result<()> {
        let known = self.enforcer.known_hops(&saved.cut_off);
        self.enforcer.inherit_protection(saved, &plan);
        // No change that is to be reported: there is no plan yet.
        self.checks.on_hops(known.clone());
        let stale = Cleanup::unknown_to(&plan, saved);
        // What an operator has written to a file outlives an upgrade.
        self.commit_plan(plan, saved.handed_over.is_none())?;
        self.routers.clean_up(&stale).await;
        log_attachments(self.enforcer.attachments());
        self.wait_for_neighbors(&known).await?;
        // Last: it attracts viewers.
        if !self.routers.has_started() {
            let settings = &self.checks.state().plan().vrrp;
            self.routers.start(settings, Vec::new()).await?;
            self.enforcer.defer_resets_for(longest_start(settings));
        }
        self.routers.set_quorum_lost(self.checks.state());
        let services = self.checks.state().plan().services.len();
        log::info!("ready: {services} service(s)");
        systemd::ready(&self.status_line());
        Ok(())
    }

    /// Waits until every server's MAC address is found, within reason. Those
    /// that an earlier agent knew hold until then.
    async fn wait_for_neighbors(&mut self, known: &Hops) -> anyhow::Result<()> {
        let wanted = self.checks.state().addresses();
        if wanted.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + NEIGHBOR_TIMEOUT;
        let mut found = Hops::new();
        while let Some(hops) = self.checks.next_hops(deadline).await? {
            if !wanted.keys().all(|address| hops.contains_key(address)) {
                // Of the file's servers alone, which were looked for during the load.
                continue;
            }
            found = hops;
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
            let changes = self.checks.on_hops(hops);
            self.apply_changes(changes);
        }
        if !found.is_empty() {
            let changes = self.checks.on_hops(found);
            self.apply_changes(changes);
        }
        // What is out of reach does not count when it is decided who leads.
        if let Some(changes) = self.checks.tick() {
            self.apply_and_report(changes);
        }
        Ok(())
    }
}

/// True if no earlier agent has left static addresses or routes, by which its data plane may
/// still forward.
fn has_no_statics(saved: &Saved) -> bool {
    saved.addresses.is_empty() && saved.routes.is_empty()
}

/// Checks what can be checked before anything is set up; returns the options of the
/// data plane.
async fn prepare(
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

/// The longest time that a virtual router of a director that was killed takes to lead
/// again: it waits as long as for any master
/// (RFC 3768 §6.1, RFC 5798 §6.1, `Master_Down_Interval`).
fn longest_start(settings: &Settings) -> Duration {
    let master_down_intervals = settings.instances.iter().map(|instance| {
        let policy = &instance.policy;
        policy.interval * policy.down_timer_adverts + instance.max_skew()
    });
    settings.startup_delay + master_down_intervals.max().unwrap_or_default()
}

/// Raises the limit of open descriptors as far as it goes: a check that gets none
/// says nothing of its server.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        log::warn!("the limit of open descriptors stays as it is: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_takes_as_long_as_the_most_patient_virtual_router_waits_for_a_master() {
        let longest_start = |down_timer_adverts: u32| {
            let directory = tempfile::tempdir().expect("a directory");
            let file = directory.path().join("keepalived.conf");
            let router = |id: u8, adverts: u32| {
                format!(
                    "vrrp_instance VI_{id} {{\ninterface eth0\nvirtual_router_id {id}\n\
                     advert_int 2\ndown_timer_adverts {adverts}\n\
                     virtual_ipaddress {{\n10.0.0.{id}\n}}\n}}\n"
                )
            };
            let text = router(1, down_timer_adverts) + &router(2, 1);
            std::fs::write(&file, text).expect("written");
            let loaded = lb_config::load(&file).expect("it is right");
            let settings = Settings::from_config(&loaded.config).expect("settings");
            longest_start(&settings)
        };
        // The skew of VRRP version 2 is at most a second.
        assert_eq!(longest_start(3), Duration::from_secs(7));
        assert_eq!(longest_start(10), Duration::from_secs(21));
    }
}
