//! The agent: one loop, and four owners of what it consists of.
//!
//! [`checks`] knows the servers, [`virtual_routers`] the addresses of this machine,
//! [`enforcer`] the data plane, [`operators`] whoever asks and is told. The loop
//! ([`serve`]) passes events from one to the others; the owners know each other only
//! as arguments.

mod capabilities;
pub mod capacity;
pub mod change;
mod checks;
pub mod cleanup;
mod confirmation_probe;
mod enforcer;
mod exit;
mod interfaces;
mod keepalived_files;
mod listing;
mod operators;
mod partition_guard;
pub mod plan;
mod rates;
pub mod recovery;
mod reload;
mod requests;
pub mod saved;
mod serve;
pub mod server_path;
mod signals;
mod start;
pub mod state;
pub mod statics;
mod status;
mod table_scan;
mod upgrade;
mod virtual_routers;
mod vrrp_thread;

use std::net::SocketAddr;
use std::path::PathBuf;

use checks::Checks;
use conf_kit::Diagnostic;
use enforcer::Enforcer;
use exit::Exit;
use lb_dataplane::{AttachMode, TableSizes};
use operators::Operators;
use saved::SavedFile;
use signals::Signals;
pub use start::rehearse;
use virtual_routers::VirtualRouters;

/// Options of `lb-user run`.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The configuration file.
    pub config: PathBuf,
    /// Conditional lines of it hold that begin with `@` and this.
    pub config_id: String,
    /// Interfaces to attach to, in place of those of the configuration.
    pub interfaces: Vec<String>,
    /// The place in the receive path where the program is attached.
    pub mode: AttachMode,
    /// The control socket.
    pub socket: PathBuf,
    /// The address at which metrics are served over HTTP, if they are.
    pub http: Option<SocketAddr>,
    /// The directory in which the data plane is pinned, if it is to outlive the agent.
    pub pins: Option<PathBuf>,
    /// Capacities of the kernel's tables.
    pub tables: TableSizes,
}

/// An error of the operator's that is neither in the file nor in the syntax of
/// the command line.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Runs until a signal, a request or a failure ends it. A signal to stop leaves
/// nothing behind; neither does a failure, unless it is of a kind that ends the
/// process at once: then what is pinned goes on, and a later agent adopts it.
///
/// # Errors
/// [`lb_config::ConfigError`] and [`UsageError`] are the operator's errors; anything else
/// is what the system refused.
pub async fn run(options: RunOptions) -> anyhow::Result<()> {
    let signals = Signals::install()?;
    let mut saved = SavedFile::beside(&options.socket);
    let started = Agent::start(options, signals).await;
    let mut agent = started.inspect_err(|error| saved.write_exit_report(format!("{error:#}")))?;
    match agent.serve().await {
        Ok(Exit::Stop { forget_orders }) => {
            agent.stop(forget_orders).await;
            Ok(())
        }
        Ok(Exit::Upgrade) => Err(agent.hand_over().await),
        Err(error) => {
            agent.stop(false).await;
            Err(error)
        }
    }
}

/// The four owners, and what none of them could own alone.
///
/// Calling contract: [`start`](Self::start), [`serve`](Self::serve), then
/// [`stop`](Self::stop) or [`hand_over`](Self::hand_over), as the exit says. Dropping
/// an agent instead leaves what is pinned, and the addresses that it holds.
struct Agent {
    /// As given on the command line, the tables raised to what the plan needs.
    options: RunOptions,
    checks: Checks,
    routers: VirtualRouters,
    enforcer: Enforcer,
    operators: Operators,
    /// Written after every change to what [`Saved`](saved::Saved) holds, so that a
    /// later agent goes on from there even if this one is killed.
    saved: SavedFile,
}

fn log_diagnostics(diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        log::warn!("{}", diagnostic.sentence());
    }
}

/// Logs that something was not done, and that nothing has changed; a reason may have
/// several lines.
fn log_refusal(what: &str, reason: &str) {
    log::error!("{what}, nothing has changed:");
    for line in reason.lines() {
        log::error!("  {line}");
    }
}
