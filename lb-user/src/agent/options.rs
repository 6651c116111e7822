//! Options of the agent, and the error that they may be.

use std::net::SocketAddr;
use std::path::PathBuf;

use lb_dataplane::{AttachMode, TableSizes};

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
    /// The file with the user and the password that HTTP asks for; without it, no order is
    /// taken there.
    pub http_auth: Option<PathBuf>,
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
