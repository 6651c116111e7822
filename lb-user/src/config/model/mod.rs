//! The configuration as the agent understands it; also its JSON form.
//!
//! Names and units are keepalived.conf(5)'s: times are seconds, fractions
//! allowed. A field that the file leaves out is `None` here and gets its
//! default where it is used, so that the model says what the operator said.

mod vrrp;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::diagnostic::Origin;
use crate::dataplane::state::{Protocol, Scheduler};

pub use vrrp::{
    AuthType, Authentication, GlobalDefs, InitialState, Tracked, UnicastPeer, VirtualIpAddress,
    VrrpInstance, VrrpScript, VrrpSyncGroup,
};

/// A whole configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Settings of the agent as a whole.
    pub global_defs: GlobalDefs,
    /// Scripts that virtual routers depend on.
    pub vrrp_script: Vec<VrrpScript>,
    /// Virtual routers that change state together.
    pub vrrp_sync_group: Vec<VrrpSyncGroup>,
    /// Virtual routers: who holds which virtual address.
    pub vrrp_instance: Vec<VrrpInstance>,
    /// Virtual services and the real servers behind them.
    pub virtual_server: Vec<VirtualServer>,
}

/// `virtual_server ADDRESS PORT`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VirtualServer {
    /// The address and port that viewers connect to.
    pub address: SocketAddr,
    /// Transport protocol; default TCP.
    #[serde(default = "tcp")]
    pub protocol: Protocol,
    /// Scheduler; default `rr`. (`lvs_sched` is the same word.)
    pub lb_algo: Option<Scheduler>,
    /// Forwarding method; default direct routing. (`lvs_method` is the same word.)
    pub lb_kind: Option<LbKind>,
    /// Source-address persistence in seconds; absent for none.
    pub persistence_timeout: Option<u32>,
    /// Leading bits of a client's address that persistence looks at; default all.
    pub persistence_granularity: Option<u8>,
    /// Total weight of live servers below which the service has lost its
    /// quorum; default 1.
    pub quorum: Option<u32>,
    /// Weight by which the quorum must be missed or exceeded; default 0.
    pub hysteresis: Option<u32>,
    /// Run when the quorum is gained.
    pub quorum_up: Option<Script>,
    /// Run when the quorum is lost.
    pub quorum_down: Option<Script>,
    /// Takes the connections while the quorum is lost.
    pub sorry_server: Option<SocketAddr>,
    /// Keep real servers that fail at weight 0 rather than taking them out.
    pub inhibit_on_failure: Option<bool>,
    /// Run the `down` scripts when the agent stops.
    #[serde(default)]
    pub omega: bool,
    /// Defaults for the checks of all its servers.
    #[serde(flatten)]
    pub timing: CheckTiming,
    /// The real servers.
    #[serde(default)]
    pub real_server: Vec<RealServer>,
    /// Where the block stands.
    #[serde(skip)]
    pub origin: Origin,
}

fn tcp() -> Protocol {
    Protocol::Tcp
}

/// Forwarding method of a virtual service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LbKind {
    /// Direct routing: the frame's addresses change, the packet does not.
    #[serde(rename = "DR")]
    DirectRouting,
}

/// `real_server ADDRESS PORT`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RealServer {
    /// The server's own address; the port is where checks connect.
    pub address: SocketAddr,
    /// Share of new connections; default 1.
    pub weight: Option<u32>,
    /// Keep it at weight 0 when it fails rather than taking it out.
    pub inhibit_on_failure: Option<bool>,
    /// Run when it comes up.
    pub notify_up: Option<Script>,
    /// Run when it goes down.
    pub notify_down: Option<Script>,
    /// Defaults for its checks.
    #[serde(flatten)]
    pub timing: CheckTiming,
    /// Its checks; it is up while all of them succeed.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// Where the block stands.
    #[serde(skip)]
    pub origin: Origin,
}

/// One health check of a real server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What is checked.
    #[serde(flatten)]
    pub kind: CheckKind,
    /// How it connects.
    #[serde(flatten)]
    pub connection: ConnectionOptions,
    /// When it runs.
    #[serde(flatten)]
    pub timing: CheckTiming,
}

/// The kinds of health check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum CheckKind {
    /// A TCP connection can be made.
    #[serde(rename = "TCP_CHECK")]
    Tcp,
}

/// Where a check connects to and from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct ConnectionOptions {
    /// Address to connect to; default the real server's.
    pub connect_ip: Option<IpAddr>,
    /// Port to connect to; default the real server's.
    pub connect_port: Option<u16>,
    /// Local address to connect from.
    pub bindto: Option<IpAddr>,
    /// Local port to connect from.
    pub bind_port: Option<u16>,
}

/// When a check runs and how often it may fail.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckTiming {
    /// Whether the server counts as down until its first success.
    pub alpha: Option<bool>,
    /// How long a connection may take; default 5.
    pub connect_timeout: Option<Seconds>,
    /// Further failures that an up server is allowed; default 1.
    pub retry: Option<u32>,
    /// Delay after a failure that is not yet the last allowed one; default 1.
    pub delay_before_retry: Option<Seconds>,
    /// Upper bound of the random delay of the first check; default `delay_loop`.
    pub warmup: Option<Seconds>,
    /// Delay between checks; default 60.
    pub delay_loop: Option<Seconds>,
}

/// A command that is run when something changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Script {
    /// Program and arguments.
    pub command: Vec<String>,
    /// User to run it as.
    pub user: Option<String>,
    /// Group to run it as; default the user's.
    pub group: Option<String>,
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

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(seconds).map(Self).map_err(|_| {
            serde::de::Error::custom(format!("{seconds} is not a number of seconds from 0 on"))
        })
    }
}
