//! The agent: one loop, and five owners of what it consists of.
//!
//! `checks` knows the servers, `discovery` those that are not in the configuration, `virtual_routers` the addresses of this machine,
//! `enforcer` the data plane, `operators` whoever asks and is told. The loop
//! (`serve`) passes events from one to the others; the owners know each other only
//! as arguments.

mod capabilities;
pub(crate) mod capacity;
pub mod change;
mod checks;
pub(crate) mod cleanup;
mod client_resets;
mod confirmation_probe;
mod discovery;
mod enforcer;
mod exit;
mod interfaces;
mod keepalived_files;
mod listing;
pub mod load_shares;
mod logging;
mod operators;
mod options;
mod partition_guard;
pub mod plan;
pub(crate) mod protection;
mod rates;
pub mod recovery;
mod reload;
mod requests;
pub mod saved;
mod serve;
pub(crate) mod server_path;
mod signals;
mod start;
pub mod state;
pub mod statics;
mod status;
mod table_history;
mod table_scan;
mod upgrade;
mod virtual_routers;
mod vrrp_thread;

use saved::SavedFile;
use serve::{Agent, Exit};
use signals::Signals;

pub use options::{RunOptions, UsageError};
pub use start::rehearse;

/// Runs until a signal, a request or a failure ends it. A signal to stop leaves
/// nothing behind; neither does a failure, unless it is of a kind that ends the
/// process at once: then what is pinned goes on, and a later agent adopts it.
///
/// # Errors
/// [`lb_config::ConfigError`] and [`UsageError`] are the operator's errors; anything else
/// is what the system refused.
pub async fn run(options: RunOptions) -> anyhow::Result<()> {
    lb_dataplane::warm_up();
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
