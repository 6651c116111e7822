//! The configuration as the agent understands it; also its JSON form.
//!
//! Names and units are keepalived.conf(5)'s: times are seconds, fractions
//! allowed. A field that the file leaves out is `None` here and gets its
//! default where it is used, so that the model says what the operator said.

pub mod auth_hmac;
pub mod bounds;
mod check;
pub mod discovery;
pub mod hex;
mod protection;
mod quoted;
mod recovery;
mod route;
mod track_file;
mod vrrp;

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{OrphanPolicy, Protocol, Scheduler};
use conf_kit::Location;
use net_types::MacAddress;

pub use auth_hmac::{AntiReplay, AuthHmac, HmacKey, HmacMode};
pub use check::{
    Check, CheckKind, CheckTiming, ConnectionOptions, LoadHost, LoadUrl, RecordType, StatusCodes,
    UrlCheck,
};
pub use discovery::{Discover, DiscoveredServer, RealServerTemplate};
pub use protection::SynValidation;
pub use quoted::quoted;
pub use recovery::Recovery;
pub use route::{NextHop, Route, RouteKind, RouteScope};
pub use track_file::{InitFile, TrackFile, TrackedFile};
pub use vrrp::{
    AuthType, Authentication, GlobalDefs, InitialState, LvsTimeouts, Notify, Tracked, UnicastPeer,
    VirtualIpAddress, VrrpInstance, VrrpScript, VrrpSyncGroup,
};

/// A whole configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// Settings of the agent as a whole.
    pub global_defs: GlobalDefs,
    /// Addresses that this machine has while the agent runs.
    pub static_ipaddress: Vec<VirtualIpAddress>,
    /// Routes that this machine has while the agent runs.
    pub static_routes: Vec<Route>,
    /// Files whose number is followed.
    pub track_file: Vec<TrackFile>,
    /// Scripts that virtual routers depend on.
    pub vrrp_script: Vec<VrrpScript>,
    /// Virtual routers that change state together.
    pub vrrp_sync_group: Vec<VrrpSyncGroup>,
    /// Virtual routers: who holds which virtual address.
    pub vrrp_instance: Vec<VrrpInstance>,
    /// Addresses that have the same real servers.
    pub virtual_server_group: Vec<VirtualServerGroup>,
    /// Virtual services and the real servers behind them.
    pub virtual_server: Vec<VirtualServer>,
}

/// The port of a service that has all those of its address which no other has.
pub const ALL_PORTS: u16 = 0;

/// Persistence in seconds where the file wants it and names no time
/// (`IPVS_SVC_PERSISTENT_TIMEOUT` of keepalived).
pub const DEFAULT_PERSISTENCE_TIMEOUT_S: u32 = 360;

/// Address that viewers connect to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ServiceAddress {
    /// One address and port.
    One(SocketAddr),
    /// The addresses of a `virtual_server_group`.
    Group {
        /// Its name.
        group: String,
    },
}

impl std::fmt::Display for ServiceAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::One(address) => write!(f, "{} {}", address.ip(), address.port()),
            Self::Group { group } => write!(f, "group {group}"),
        }
    }
}

/// `virtual_server_group NAME`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VirtualServerGroup {
    /// Its name.
    pub name: String,
    /// Its addresses.
    #[serde(default)]
    pub address: Vec<AddressRange>,
    /// Place of the block.
    #[serde(skip)]
    pub location: Location,
}

/// One line of a `virtual_server_group`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AddressRange {
    /// The first address.
    pub first: IpAddr,
    /// The last address, where there are several.
    pub last: Option<IpAddr>,
    /// The port; 0, the default, for all ports.
    #[serde(default)]
    pub port: u16,
}

impl AddressRange {
    /// Number of addresses; 0 if the last stands before the first.
    pub fn count(&self) -> u128 {
        let Some(last) = self.last else { return 1 };
        match (self.first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                (u128::from(last.to_bits()) + 1).saturating_sub(first.to_bits().into())
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => last
                .to_bits()
                .saturating_add(1)
                .saturating_sub(first.to_bits()),
            _ => 0,
        }
    }

    /// Every address with the port, [`bounds::RANGE`] at most.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let (first, port) = (self.first, self.port);
        (0..self.count().min(*bounds::RANGE.end())).map(move |offset| {
            let address = match first {
                // Both fit: the count was measured against the last address.
                IpAddr::V4(first) => IpAddr::from((first.to_bits() + offset as u32).to_be_bytes()),
                IpAddr::V6(first) => IpAddr::from((first.to_bits() + offset).to_be_bytes()),
            };
            SocketAddr::new(address, port)
        })
    }
}

impl Config {
    /// The addresses of a service: its own, or those of its group.
    pub fn addresses(&self, service: &VirtualServer) -> Vec<SocketAddr> {
        match &service.address {
            ServiceAddress::One(address) => vec![*address],
            ServiceAddress::Group { group } => self
                .virtual_server_group
                .iter()
                .filter(|candidate| candidate.name == *group)
                .flat_map(|group| &group.address)
                .flat_map(AddressRange::addresses)
                .collect(),
        }
    }
}

/// `virtual_server ADDRESS PORT`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VirtualServer {
    /// The address and port that viewers connect to, or the group of addresses.
    /// Port 0 stands for all ports that no other service has.
    pub address: ServiceAddress,
    /// Transport protocol; default TCP.
    #[serde(default = "tcp")]
    pub protocol: Protocol,
    /// Scheduler; default `wlc`.
    pub lb_algo: Option<Scheduler>,
    /// Forwarding method; default direct routing.
    pub lb_kind: Option<LbKind>,
    /// Source-address persistence; default none, without a number 360 seconds.
    pub persistence_timeout: Option<u32>,
    /// Leading bits of a client's address that persistence looks at; default all.
    pub persistence_granularity: Option<u8>,
    /// Gives a client whose server is drained another one
    /// (`net.ipv4.vs.expire_quiescent_template`).
    #[serde(default)]
    pub expire_quiescent: bool,
    /// With the schedulers `sh` and `mh`: hash the client's port along with its
    /// address.
    #[serde(default)]
    pub hash_port: bool,
    /// With the same: where the server that a client hashes to is full, give it
    /// another.
    #[serde(default)]
    pub hash_fallback: bool,
    /// UDP: schedule every packet by itself, without remembering connections.
    #[serde(default)]
    pub ops: bool,
    /// Fate of connections whose server is gone; default `reset` for
    /// TCP, `reschedule` for UDP.
    pub orphans: Option<OrphanPolicy>,
    /// Schedule connections that are unknown in their middle (`sloppy_tcp`), so
    /// that with `mh` they survive a change of director; default true with `mh`
    /// over TCP, else false.
    pub sloppy: Option<bool>,
    /// Total weight of live servers below which the service has lost its
    /// quorum; default 1.
    pub quorum: Option<u32>,
    /// Weight by which the quorum must be missed or exceeded; default 0.
    pub hysteresis: Option<u32>,
    /// Run when the quorum is gained.
    pub quorum_up: Option<Script>,
    /// Run when the quorum is lost.
    pub quorum_down: Option<Script>,
    /// Interface, `lo` or a dummy, that has the service's address while the service has its
    /// quorum, so that a routing daemon announces it; default none.
    pub announce: Option<String>,
    /// Takes the connections while the quorum is lost.
    pub sorry_server: Option<SocketAddr>,
    /// Host that HTTP and RTMP checks ask for.
    pub virtualhost: Option<String>,
    /// Keep real servers that fail at weight 0 rather than taking them out.
    pub inhibit_on_failure: Option<bool>,
    /// Run the `down` scripts when the agent stops.
    #[serde(default)]
    pub omega: bool,
    /// Defaults for the checks of all its servers.
    #[serde(flatten)]
    pub timing: CheckTiming,
    /// Return of its servers that have been down.
    #[serde(flatten)]
    pub recovery: Recovery,
    /// The real servers.
    #[serde(default)]
    pub real_server: Vec<RealServer>,
    /// Sources of further real servers.
    #[serde(default)]
    pub discover: Vec<Discover>,
    /// What real servers of such sources are like.
    pub real_server_template: Option<RealServerTemplate>,
    /// Place of the block.
    #[serde(skip)]
    pub location: Location,
}

impl VirtualServer {
    /// The real servers, each address once: of two that are alike in that, the
    /// first counts, as in keepalived.
    pub fn servers(&self) -> impl Iterator<Item = &RealServer> {
        let mut seen = HashSet::new();
        let servers = self.real_server.iter();
        servers.filter(move |server| seen.insert(server.address))
    }

    /// Persistence of the service at `address`, in seconds; `None` for none. One of
    /// all ports has it in any case, as in keepalived.
    pub fn persistence_timeout_at(&self, address: SocketAddr) -> Option<u32> {
        let default = (address.port() == ALL_PORTS).then_some(DEFAULT_PERSISTENCE_TIMEOUT_S);
        self.persistence_timeout.or(default)
    }

    /// True if every packet is scheduled by itself: one over TCP never is.
    pub fn is_one_packet(&self) -> bool {
        self.ops && self.protocol == Protocol::Udp
    }

    /// True if the service takes connections over in their middle.
    ///
    /// With Maglev hashing, the default over TCP, the packet goes to the server that every
    /// other director gave the connection to. Where it does not (the servers have changed
    /// since), that server answers with the reset that our own stack would have sent. Any
    /// other scheduler would mostly guess wrong, and remember it.
    pub fn is_sloppy(&self) -> bool {
        let is_hashed = self.lb_algo == Some(Scheduler::Mh) && self.protocol == Protocol::Tcp;
        self.sloppy.unwrap_or(is_hashed)
    }

    /// The quorum, or the weight of all servers together if that is less: so
    /// keepalived reduces a quorum that could never be.
    pub fn attainable_quorum(&self) -> u32 {
        let weights = self.servers().map(|it| it.weight.unwrap_or(1));
        let all = weights.fold(0u32, u32::saturating_add);
        self.quorum.unwrap_or(1).min(all.max(1))
    }
}

fn tcp() -> Protocol {
    Protocol::Tcp
}

/// Forwarding method: the way of packets to a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LbKind {
    /// Direct routing: the frame's addresses change, the packet does not.
    #[serde(rename = "DR")]
    DirectRouting,
    /// The packet travels inside another one that is addressed to the server
    /// (RFC 2003, RFC 2473).
    #[serde(rename = "TUN")]
    Tunnel,
}

/// `real_server ADDRESS PORT`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RealServer {
    /// The server's own address; the port is where checks connect that do not say
    /// so themselves.
    pub address: SocketAddr,
    /// MAC address that its frames go to; default what the neighbour answers.
    pub mac_address: Option<MacAddress>,
    /// Share of new connections; default 1.
    pub weight: Option<u32>,
    /// Connections with which it is given no new ones; 0, the default, for no limit.
    pub uthreshold: Option<u32>,
    /// Connections below which it is given new ones again; 0, the default, for three
    /// quarters of `uthreshold`.
    pub lthreshold: Option<u32>,
    /// Forwarding method; default the service's.
    pub lb_kind: Option<LbKind>,
    /// Host that HTTP and RTMP checks ask for.
    pub virtualhost: Option<String>,
    /// Keep it at weight 0 when it fails rather than taking it out.
    pub inhibit_on_failure: Option<bool>,
    /// Run when it comes up.
    pub notify_up: Option<Script>,
    /// Run when it goes down.
    pub notify_down: Option<Script>,
    /// Defaults for its checks.
    #[serde(flatten)]
    pub timing: CheckTiming,
    /// Its return when it has been down; default as its service's.
    #[serde(flatten)]
    pub recovery: Recovery,
    /// Its checks; it is up while all of them succeed.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// Place of the block.
    #[serde(skip)]
    pub location: Location,
}

/// A command that is run when something changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Script {
    /// Program and arguments.
    #[schemars(length(min = 1))]
    pub command: Vec<String>,
    /// User to run it as.
    pub user: Option<String>,
    /// Group to run it as; default the user's.
    pub group: Option<String>,
    /// Its place.
    #[serde(skip)]
    pub location: Location,
}

/// A time span, written in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seconds(pub Duration);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.subsec_nanos() == 0 {
            serializer.serialize_u64(self.0.as_secs())
        } else {
            serializer.serialize_f64(self.0.as_secs_f64())
        }
    }
}

impl JsonSchema for Seconds {
    fn schema_name() -> Cow<'static, str> {
        "Seconds".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0 })
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(seconds).map(Self).map_err(|_| {
            serde::de::Error::custom(format!("{seconds} is not a number of seconds from 0 on"))
        })
    }
}
