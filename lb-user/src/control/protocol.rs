//! The protocol of the control socket: one JSON object per line, a request and
//! its answer.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::selection::Selection;
use lb_dataplane::{Connection, ConnectionRate, PersistentClient, ReasonCount};
use lb_model::config::{DiscoveredServer, SynValidation};
use lb_model::{Protocol, Scheduler};
use net_types::Network;

/// A client's request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Request {
    /// Services, servers, counters.
    List,
    /// The rates of the last ten minutes.
    History,
    /// Connections: one [`Response::Connections`] after another, and
    /// [`Response::Done`] behind the last.
    Connections(Selection),
    /// Clients that stick to a server, in the same way.
    PersistentClients(Selection),
    /// Is all well? [`Response::Done`] if so.
    Health,
    /// Read the configuration file again.
    Reload,
    /// Give a server another share of new connections, or take that back.
    Order {
        /// `ADDRESS` or `ADDRESS:PORT`
        server: String,
        /// The order; `None` for as configured.
        order: Option<Order>,
    },
    /// Drop the packets of a network.
    Deny {
        /// The network.
        network: Network,
        /// Time after which it is not denied any more, in seconds; `None`: never.
        #[serde(default)]
        timeout_s: Option<u64>,
    },
    /// Add a server to services, or give it another weight.
    AddServer {
        /// The server.
        server: DiscoveredServer,
        /// The service; `None`: every one with a `real_server_template`.
        service: Option<SocketAddr>,
    },
    /// Take an addition back.
    RemoveServer {
        /// Its address.
        address: IpAddr,
        /// Its port; `None`: whichever it was added with.
        port: Option<u16>,
    },
    /// Take an order to drop them back.
    Allow {
        /// The network.
        network: Network,
    },
    /// The deny list: [`Response::Denials`].
    Denials,
    /// Limit new connections otherwise than configured, or take that back.
    LimitConnections {
        /// The order; `None` for as configured.
        order: Option<RateOrder>,
    },
    /// Validate sources otherwise than configured, or take that back.
    ValidateSources {
        /// The order; `None` for as configured.
        order: Option<SynValidation>,
    },
    /// Take everything away and end; the connection is closed at the very end.
    Stop,
    /// Become the program that is installed now, provided that it can take over;
    /// the connection is closed when that happens.
    Upgrade,
    /// Tell of every change from now on: one [`Response::Event`] after another.
    Follow,
    /// The same, the latest changes first.
    Watch,
}

/// An operator's order for a server while the agent runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// No new connections; those that are there stay.
    Drained,
    /// The same, also for clients that persistence ties to it.
    DrainedOfTemplates,
    /// Out: its connections are void.
    Disabled,
    /// This share of new connections.
    Weight(u32),
}

impl Order {
    /// The share of new connections that it means.
    pub fn weight(self) -> u32 {
        match self {
            Self::Drained | Self::DrainedOfTemplates | Self::Disabled => 0,
            Self::Weight(weight) => weight,
        }
    }
}

/// An operator's order about new connections while the agent runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RateOrder {
    /// No limit.
    Off,
    /// This limit per network.
    Limit(ConnectionRate),
}

/// An answer of the agent's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// To [`Request::List`].
    Listing(Listing),
    /// To [`Request::History`].
    History(Vec<RateHistory>),
    /// Some of what [`Request::Connections`] asks for.
    Connections(Vec<Connection>),
    /// Some of what [`Request::PersistentClients`] asks for.
    PersistentClients(Vec<PersistentClient>),
    /// To [`Request::Denials`].
    Denials(Vec<ListedDenial>),
    /// It has been done; what there is to say about it.
    Done(Vec<String>),
    /// To [`Request::Follow`] and [`Request::Watch`]: something has changed.
    Event(Event),
    /// It cannot be done, and why.
    Refused(String),
}

/// Something that has changed; `lb-user events --json` prints it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// What it is about.
    #[serde(default)]
    pub kind: EventKind,
    /// True if an operator should look at it.
    #[serde(default)]
    pub warning: bool,
    /// The change and its reason, in words.
    pub message: String,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// A server's checks, or its share of new connections.
    Server,
    /// Connections of a server that is gone were reset.
    Reset,
    /// An operator's order.
    Order,
    /// A service's quorum.
    Quorum,
    /// The path that frames take to a server.
    Path,
    /// A virtual router.
    Vrrp,
    /// The agent itself, its interfaces and its data plane.
    #[default]
    Agent,
}

/// The listing that `lb-user list --json` prints.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Listing {
    /// The interfaces that the XDP program is attached to.
    pub interfaces: Vec<ListedInterface>,
    /// The virtual addresses that this machine is to hold.
    pub virtual_addresses: Vec<ListedAddress>,
    /// The services, in the order of the configuration.
    pub services: Vec<ListedService>,
    /// Number of packets for each verdict, with its meaning.
    pub reasons: Vec<ReasonCount>,
    /// The protection from floods.
    #[serde(default)]
    pub protection: ListedProtection,
    /// The sources of servers.
    #[serde(default)]
    pub sources: Vec<ListedSource>,
    /// Warnings about the paths that packets take to the servers, and what to do about
    /// them.
    #[serde(default, rename = "doubts")]
    pub path_warnings: Vec<String>,
    /// Why packets are still judged by a former state, if they are.
    #[serde(default)]
    pub refused: Option<String>,
    /// Why the former program still runs, if the last upgrade has failed when the
    /// new one was to take over.
    #[serde(default)]
    pub not_upgraded: Option<String>,
}

/// The protection from floods.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedProtection {
    /// When sources are validated.
    pub syn_validation: SynValidation,
    /// True if they are now.
    pub validating: bool,
    /// SYNs per second of connections that are not known, as last measured.
    pub syns_per_s: u64,
    /// Connections of the last minute whose handshake is not complete.
    pub half_open: u64,
    /// Limit of new connections per network, if any.
    pub connection_rate: Option<ConnectionRate>,
    /// Number of networks on the deny list.
    pub denied: usize,
}

/// A source of servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedSource {
    /// The source: its kind and its name.
    pub source: String,
    /// Number of servers that it has named.
    pub servers: usize,
    /// Seconds since it named them last; `None`: an earlier agent has saved them, or an
    /// operator has ordered them.
    pub age_s: Option<u64>,
    /// Why it is not read, or its servers are not taken, at the moment.
    pub error: Option<String>,
}

/// A network on the deny list; `lb-user deny list --json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedDenial {
    /// The network.
    pub network: Network,
    /// True if the configured file denies it, false if an operator has ordered it.
    pub by_file: bool,
    /// Seconds until it is not denied any more, if that is so.
    pub remaining_s: Option<u64>,
}

/// An interface that the XDP program is attached to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedInterface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// `native` or `generic`.
    pub xdp_mode: String,
    /// Why native mode was not possible, where it was tried.
    pub native_refused: Option<String>,
    /// Why the program is not attached at the moment, if it is not.
    pub lost: Option<String>,
}

/// A virtual address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedAddress {
    /// Address and prefix length.
    pub address: String,
    /// Name of its interface.
    pub interface: String,
    /// The virtual router it belongs to; `announce` if it belongs to none, and is there while
    /// services have their quorum.
    pub instance: String,
    /// True if this machine holds it now.
    pub held: bool,
    /// The virtual router's state: `init`, `backup`, `master` or `fault`; or `announced` or
    /// `withdrawn`.
    pub state: String,
    /// Why it is in that state.
    pub cause: String,
}

/// A virtual service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListedService {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its address and port.
    pub address: SocketAddr,
    /// The scheduler of new connections.
    pub scheduler: Scheduler,
    /// Its persistence, if any.
    pub persistence: Option<ListedPersistence>,
    /// True if every packet is scheduled by itself.
    #[serde(default)]
    pub ops: bool,
    /// True if enough servers are up.
    pub quorum: bool,
    /// Traffic since the service was set up.
    pub counters: Counters,
    /// Traffic at present; `None` in the first second.
    pub rates: Option<Rates>,
    /// Its servers, in the order of the configuration.
    pub servers: Vec<ListedServer>,
}

impl ListedService {
    /// Scheduler and persistence, as ipvsadm(8) writes them.
    pub fn scheduling(&self) -> String {
        let mut text = scheduler_name(self.scheduler);
        if let Some(persistence) = &self.persistence {
            text += &format!(" persistent {}", persistence.timeout_s);
        }
        if self.ops {
            text += " ops";
        }
        text
    }
}

/// Persistence of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedPersistence {
    /// Time for which a client's address is remembered after its last connection, in
    /// seconds.
    pub timeout_s: u64,
    /// Number of leading bits of the address that count.
    pub prefix_length: u8,
}

/// Traffic from viewers; direct routing never sees the other direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets forwarded.
    pub packets: u64,
    /// Bytes forwarded, from the IP header on.
    pub bytes: u64,
}

/// The growth of [`Counters`] over the last five seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Connections scheduled per second.
    pub connections_per_s: f64,
    /// Packets forwarded per second.
    pub packets_per_s: f64,
    /// Bits forwarded per second, from the IP header on.
    pub bits_per_s: f64,
}

/// The rates of a service, or of one of its servers, every five seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RateHistory {
    /// The service's protocol.
    pub protocol: Protocol,
    /// The service's address and port.
    pub service: SocketAddr,
    /// The server's; none for the service as a whole.
    pub server: Option<SocketAddr>,
    /// Bits forwarded per second, as in [`Rates`], the oldest first.
    pub bits_per_s: Vec<f64>,
}

/// A real server of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListedServer {
    /// Its address.
    pub address: SocketAddr,
    /// True if it only serves while the quorum is lost.
    pub sorry: bool,
    /// Its share of new connections at present.
    pub weight: u32,
    /// Its state.
    pub state: ServerState,
    /// Why it does not.
    pub reason: Option<String>,
    /// The operator's order for it, if any.
    #[serde(default)]
    pub order: Option<Order>,
    /// Its load, if a `LOAD_CHECK` asks for it.
    #[serde(default)]
    pub load: Option<ListedLoad>,
    /// MAC address that its frames go to.
    pub mac: Option<String>,
    /// Interface that its frames leave by.
    pub interface: Option<String>,
    /// Connections in the ESTABLISHED state.
    pub active_connections: u64,
    /// Connections in any other state.
    pub inactive_connections: u64,
    /// Clients that persistence ties to it.
    pub persistent_clients: u64,
    /// Connections that were reset, unasked, when it was gone.
    pub connections_reset: u64,
    /// Traffic since it joined the service.
    pub counters: Counters,
    /// Traffic at present; `None` in the first second.
    pub rates: Option<Rates>,
}

/// What a server has said of its load. Rates are in bit/s.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedLoad {
    /// The weight that follows, of 1,000 for all servers of the service; `None`: as
    /// configured.
    pub weight: Option<u32>,
    /// False if it is too old to count.
    pub fresh: bool,
    /// What it sends, and what viewers will take that were let in a moment ago.
    pub used: u64,
    /// What viewers may take; `None` if it does not know.
    pub limit: Option<u64>,
    /// Number of its players.
    pub players: u64,
    /// Lag that 99 of 100 players do not pass, in ms.
    pub lag_p99_ms: u64,
    /// Part of its processors that it takes, in percent.
    pub cpu_percent: u32,
}

impl ListedServer {
    /// The weight in force: that by the load, if there is one.
    pub fn weight_in_force(&self) -> u32 {
        let by_load = self.load.as_ref().and_then(|load| load.weight);
        by_load.filter(|_| self.weight > 0).unwrap_or(self.weight)
    }
}

/// The state of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerState {
    /// It takes connections.
    Up,
    /// Its checks fail.
    Down,
    /// Its weight is 0: it keeps its connections and takes no new ones.
    Quiesced,
    /// It has as many connections as its thresholds allow, and takes no new ones.
    Full,
    /// Its checks succeed, but frames cannot reach it: after a moment it counts for
    /// nothing.
    NoMac,
    /// The operator has taken it out.
    Disabled,
    /// A sorry server that is not needed.
    Standby,
}

impl std::fmt::Display for ServerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Quiesced => "quiesced",
            Self::Full => "full",
            Self::NoMac => "no-mac",
            Self::Disabled => "disabled",
            Self::Standby => "standby",
        })
    }
}

/// A scheduler as ipvsadm(8) names it.
pub fn scheduler_name(scheduler: Scheduler) -> String {
    let name = serde_json::to_value(scheduler).ok();
    name.as_ref()
        .and_then(|name| name.as_str())
        .unwrap_or_default()
        .to_owned()
}
