//! The one loop that owns desired and actual state.
//!
//! Events come in (checks, neighbours, signals, commands), [`state::State`]
//! decides what follows, and the data plane is handed the whole desired state.
//! Nobody else writes to it.

mod capabilities;
pub mod capacity;
pub mod change;
mod doubt;
mod effects;
mod end;
mod interfaces;
mod keepalived_files;
pub mod leftovers;
mod listing;
pub mod plan;
mod rates;
pub mod recovery;
mod reload;
mod requests;
pub mod saved;
mod second_opinion;
mod serve;
mod signals;
mod start;
pub mod state;
pub mod statics;
mod status;
mod survey;
mod upgrade;
mod vrrp_thread;
pub mod ways;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::checker::{CheckNews, CheckSpec, RunningCheck};
use crate::control::event_log::EventLog;
use crate::control::http::HttpServer;
use crate::control::{self, Call};
use crate::neighbor::Watcher;
use crate::resets::{Resets, Told};
use conf_kit::Diagnostic;
use doubt::Doubts;
use lb_dataplane::{AttachMode, Dataplane, Departed, TableSizes};
use lb_model::config::Config;
use lb_script::script::ScriptRunner;
use netlink;
use plan::{Plan, ServiceKey};
use rates::Meter;
use saved::SavedFile;
use second_opinion::SecondOpinions;
use signals::{Signals, Upgrading};
use state::State;
use statics::Statics;
use survey::Surveys;
use upgrade::Upgrade;
use vrrp::Vrrp;
use vrrp_thread::VrrpThread;

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
/// [`lb_config::ConfigError`] and [`Misuse`] are the operator's mistakes; anything else
/// is what the system refused.
pub async fn run(options: RunOptions) -> anyhow::Result<()> {
    let signals = Signals::install()?;
    let mut saved = SavedFile::beside(&options.socket);
    let started = start(options).await;
    let mut agent = started.inspect_err(|error| saved.leave_last_words(format!("{error:#}")))?;
    match agent.serve(&signals).await {
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

async fn start(options: RunOptions) -> anyhow::Result<Agent> {
    // Before another file may take its name.
    let program = upgrade::own_program().context("cannot find our own program")?;
    let loaded = lb_config::load_for(&options.config, &options.config_id)?;
    log_diagnostics(&loaded.warnings);
    let plan = Plan::new(&loaded.config)?;
    let (calls, incoming) = mpsc::channel(16);
    Agent::start(options, program, loaded.config, plan, calls, incoming).await
}

/// Finds out whether [`run`] would start, and changes nothing.
///
/// # Errors
/// As of [`run`], as far as that can be told beforehand.
pub async fn rehearse(options: &RunOptions) -> anyhow::Result<()> {
    let loaded = lb_config::load_for(&options.config, &options.config_id)?;
    let plan = Plan::new(&loaded.config)?;
    let netlink = netlink::Connection::open().context("cannot open a netlink socket")?;
    let options = start::prepare(&netlink, options, &plan).await?;
    let mut state = State::default();
    state.replace_plan(plan, Instant::now().into_std());
    Dataplane::rehearse(&options, &state.desired())?;
    Ok(())
}

/// A state that the data plane has refused; packets are still judged by the one
/// before.
struct Refused {
    reason: String,
    retry_at: Instant,
}

/// Servers that were gone before the virtual routers began, at addresses that
/// one of them holds.
#[derive(Default)]
struct Untold {
    departed: Vec<Departed>,
    /// Until when who leads then is taken to have led all the time.
    until: Option<Instant>,
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
    doubts: Doubts,
    /// What was last said to be doubtful about the ways to the servers.
    doubtful: BTreeSet<String>,
    second_opinions: SecondOpinions,
    told: mpsc::UnboundedReceiver<Told>,
    /// Connections reset by us, of each server.
    connections_reset: HashMap<(ServiceKey, SocketAddr), u64>,
    netlink: netlink::Connection,
    watcher: Watcher,
    interfaces: netlink::interfaces::Watcher,
    statics: Statics,
    checks: HashMap<CheckSpec, RunningCheck>,
    check_results: mpsc::UnboundedReceiver<CheckNews>,
    check_events: mpsc::UnboundedSender<CheckNews>,
    vrrp: Option<Vrrp>,
    vrrp_thread: VrrpThread,
    /// The virtual routers that are master.
    masters: BTreeSet<String>,
    /// Servers whose viewers are not told before it is known who leads.
    untold: Untold,
    /// What a later agent is to know.
    saved: SavedFile,
    /// What the data plane was to do and has not done, if there is such.
    refused: Option<Refused>,
    /// Why the agent is to end, if it is.
    ending: Option<Ending>,
    /// Why it has not become another program when it was to, if that was last.
    not_upgraded: Option<String>,
    /// What comes before it becomes another program.
    upgrade: Upgrade,
    /// What SIGUSR2 asks for.
    upgrading: Upgrading,
    /// Where the scripts of virtual routers are named.
    config: Config,
    scripts: ScriptRunner,
    events: EventLog,
    /// Keeps the socket open; requests arrive by `calls`.
    _control: control::Server,
    _http: Option<HttpServer>,
    calls: mpsc::Receiver<Call>,
}

fn log_diagnostics(diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        log::warn!("{}", diagnostic.sentence());
    }
}

/// What was asked for and is not done; a reason may have several lines.
fn log_refusal(what: &str, reason: &str) {
    log::error!("{what}, nothing has changed:");
    for line in reason.lines() {
        log::error!("  {line}");
    }
}
