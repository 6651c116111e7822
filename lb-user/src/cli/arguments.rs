//! The commands and their arguments.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand, ValueEnum};
use lb_dataplane::{AttachMode, ConnectionState, DEFAULT_PINS};
use net_types::Network;

use super::{protection, server, tables, watch};
use crate::control::DEFAULT_SOCKET;
use crate::control::protocol::Request;
use crate::control::selection::{Endpoint, Selection};

/// The version of the program: with the revision, where `cargo xtask dist` builds it.
const VERSION: &str = match option_env!("MILLRACE_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

const EXAMPLES: &str = "\
Examples:
  lb-user check -c /etc/keepalived/keepalived.conf   Is the file right, and what will be done?
  lb-user convert -c keepalived.conf > lb-user.json  The same as JSON; and back
  lb-user run -c /etc/keepalived/keepalived.conf     Balance, until SIGTERM; SIGHUP reloads
  lb-user list                                       Services, servers, state, counters
  lb-user list -c --server 172.16.1.211              Connections there, with state and time left
  lb-user list --json | jq '.services[].servers[]'   The same for programs
  lb-user drain --wait 172.16.1.211                  No new viewers there; wait for the last to go
  lb-user undrain 172.16.1.211                       As configured again
  lb-user deny add 192.0.2.0/24 --timeout 10m        Drop what comes from there
  lb-user validate automatic                         Have sources prove themselves during floods
  lb-user watch                                      All of it, live; q quits
  lb-user events                                     What happens, as it happens
  lb-user reload                                     Read the file again
  lb-user upgrade                                    Run the program that is installed now; no viewer notices
  lb-user stop                                       Take everything away, also what a killed agent left

Exit status: 0 done; 1 the system refused; 2 an error in the configuration or the command line.
RUST_LOG=debug shows every check and new connection, RUST_LOG=info,lb_ebpf=debug only
connections (\"Tracing packets\" in the operator's guide); RUST_LOG=warn only trouble.";

/// Spreads connections over real servers: health checks, VRRP and configuration of
/// keepalived on an XDP data plane.
#[derive(Debug, Parser)]
#[command(name = "lb-user", version = VERSION, after_help = EXAMPLES)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Balance as a configuration file says, until SIGTERM or SIGINT
    Run(RunArguments),
    /// Say whether a configuration file is right, and what would be done
    Check {
        #[command(flatten)]
        config: ConfigArgument,
        /// Print the configuration as JSON instead
        #[arg(long)]
        json: bool,
    },
    /// Print a configuration in its other form: keepalived.conf as JSON, JSON as
    /// keepalived.conf
    Convert {
        #[command(flatten)]
        config: ConfigArgument,
    },
    /// Print the JSON Schema of a configuration
    Schema,
    /// Show services and servers with their state, weights and counters
    List {
        #[command(flatten)]
        socket: SocketArgument,
        /// Show what was decided over packets, and why, instead
        #[arg(long, conflicts_with = "json")]
        reasons: bool,
        #[command(flatten)]
        entries: EntriesArguments,
        /// Print JSON; with -c or -p a line of it for each
        #[arg(long)]
        json: bool,
    },
    /// Give a server no new connections; those that are there stay
    ///
    /// Clients that persistence ties to it still come back to it, as with IPVS.
    Drain {
        #[command(flatten)]
        server: ServerArgument,
        /// Send such clients' new connections elsewhere, too
        #[arg(long)]
        drop_templates: bool,
        /// Wait until it has no connections left, showing how many there are
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        socket: SocketArgument,
    },
    /// Take a server out: no new connections, and an end to those that are there
    Disable {
        #[command(flatten)]
        server: ServerArgument,
        #[command(flatten)]
        socket: SocketArgument,
    },
    /// Give a server another share of new connections
    Weight {
        #[command(flatten)]
        server: ServerArgument,
        /// The share; 0 drains
        #[arg(value_name = "WEIGHT", value_parser = clap::value_parser!(u32).range(0..=65535))]
        weight: u32,
        #[command(flatten)]
        socket: SocketArgument,
    },
    /// Take back `drain`, `disable` and `weight`: the server is as configured again
    #[command(visible_alias = "enable")]
    Undrain {
        #[command(flatten)]
        server: ServerArgument,
        #[command(flatten)]
        socket: SocketArgument,
    },
    /// Drop the packets of networks, show which are dropped, or take that back
    #[command(subcommand)]
    Deny(protection::DenyCommand),
    /// Add real servers to services, and take them out again
    #[command(subcommand)]
    Server(server::ServerCommand),
    /// Limit the new connections of each network of clients
    Limit(protection::LimitArguments),
    /// Have SYNs of sources that are not proven answered by a challenge, or not
    Validate(protection::ValidateArguments),
    /// Tell of every change of state as it happens, until interrupted
    Events {
        #[command(flatten)]
        socket: SocketArgument,
        /// Print JSON lines
        #[arg(long)]
        json: bool,
    },
    /// Show services, servers, rates of ten minutes and events live, in a terminal
    ///
    /// Without one everything is printed every second.
    Watch {
        #[command(flatten)]
        socket: SocketArgument,
        #[command(flatten)]
        options: watch::WatchOptions,
    },
    /// Make the running agent read its configuration file again
    Reload {
        #[command(flatten)]
        socket: SocketArgument,
    },
    /// Have the agent become the program that is installed now: connections,
    /// virtual addresses and orders stay, and its process number, too
    Upgrade {
        #[command(flatten)]
        socket: SocketArgument,
    },
    /// End the agent and take everything away; also what is left of one that was
    /// killed: the XDP program, its maps, virtual addresses, orders
    Stop {
        #[command(flatten)]
        socket: SocketArgument,
        #[command(flatten)]
        pins: PinsArgument,
    },
}

/// Entries that are shown in place of services, and conditions for them.
#[derive(Debug, Args)]
pub(super) struct EntriesArguments {
    /// Show connections instead, each with its state and when it counts as gone
    #[arg(short = 'c', long, group = "entries", conflicts_with_all = ["persistence", "reasons"])]
    connections: bool,
    /// Show clients that stick to a server instead
    #[arg(short = 'p', long, group = "entries", conflicts_with = "reasons")]
    persistence: bool,
    /// With -c or -p: only of this client, or network of clients
    #[arg(long, value_name = "ADDRESS[/LENGTH]", requires = "entries")]
    client: Option<Network>,
    /// With -c or -p: only at this real server
    #[arg(long, value_name = "ADDRESS[:PORT]", requires = "entries")]
    server: Option<Endpoint>,
    /// With -c or -p: only of this service
    #[arg(long, value_name = "ADDRESS[:PORT]", requires = "entries")]
    service: Option<Endpoint>,
    /// With -c: only in this state
    #[arg(long, value_name = "STATE", requires = "connections",
          value_parser = PossibleValuesParser::new(ConnectionState::NAMES)
              .try_map(|name| name.parse::<ConnectionState>()), ignore_case = true)]
    state: Option<ConnectionState>,
}

impl EntriesArguments {
    /// The request for entries in place of services, if there is one.
    pub(super) fn request(&self) -> Option<Request> {
        let selection = Selection {
            client: self.client,
            server: self.server,
            service: self.service,
            state: self.state,
        };
        if self.connections {
            Some(Request::Connections(selection))
        } else if self.persistence {
            Some(Request::PersistentClients(selection))
        } else {
            None
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct RunArguments {
    #[command(flatten)]
    pub(super) config: ConfigArgument,
    /// Attach to this interface, not to those of the file [may be repeated]
    #[arg(long, value_name = "IF")]
    pub(super) interface: Vec<String>,
    /// The place in the receive path where the XDP program runs
    #[arg(long, value_enum, default_value_t = XdpMode::Auto)]
    pub(super) xdp_mode: XdpMode,
    #[command(flatten)]
    pub(super) socket: SocketArgument,
    #[command(flatten)]
    pub(super) pins: PinsArgument,
    /// Capacity of a table, such as connections=1000000 [may be repeated]
    #[arg(long = "table", value_name = "NAME=ENTRIES", value_parser = tables::parse)]
    pub(super) tables: Vec<tables::Capacity>,
    /// Serve a page, /metrics, /healthz and /api/v1 there, such as 127.0.0.1:9101
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) http: Option<SocketAddr>,
    /// Let in by HTTP who has the USER:PASSWORD of this file, and take orders there
    #[arg(long, value_name = "FILE", requires = "http")]
    pub(super) http_auth: Option<PathBuf>,
    /// Only say whether it would start; changes nothing, and may be asked beside
    /// an agent that runs. `lb-user upgrade` asks the new program first
    #[arg(long)]
    pub(super) rehearse: bool,
}

#[derive(Debug, Args)]
pub(super) struct ConfigArgument {
    /// Configuration: keepalived.conf(5), or JSON if its name ends in .json
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Use the lines of the file that begin with @ID [default: the host's name]
    #[arg(short = 'i', long, value_name = "ID")]
    config_id: Option<String>,
}

impl ConfigArgument {
    pub(super) fn id(&self) -> String {
        self.config_id
            .clone()
            .unwrap_or_else(lb_config::default_config_id)
    }
}

#[derive(Debug, Args)]
pub(super) struct ServerArgument {
    /// The real server, in every service that has it: ADDRESS or ADDRESS:PORT
    #[arg(id = "server", value_name = "SERVER")]
    pub(super) name: String,
}

#[derive(Debug, Args)]
pub(super) struct SocketArgument {
    /// The agent's control socket
    #[arg(long = "socket", value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub(super) path: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct PinsArgument {
    /// The directory in a BPF file system where the data plane is pinned
    #[arg(long, value_name = "DIRECTORY", default_value = DEFAULT_PINS)]
    pins: PathBuf,
    /// Pin nothing: forwarding ends with the agent
    #[arg(long, conflicts_with = "pins")]
    no_pins: bool,
}

impl PinsArgument {
    pub(super) fn directory(self) -> Option<PathBuf> {
        (!self.no_pins).then_some(self.pins)
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum XdpMode {
    /// Native where the driver can, else generic
    Auto,
    /// In the driver
    Native,
    /// In the kernel's stack: works everywhere, costs more
    Generic,
}

impl From<XdpMode> for AttachMode {
    fn from(mode: XdpMode) -> Self {
        match mode {
            XdpMode::Auto => Self::Auto,
            XdpMode::Native => Self::Native,
            XdpMode::Generic => Self::Generic,
        }
    }
}
