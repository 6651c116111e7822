//! What the agent wants the data plane to do, complete and free of history.
//!
//! The agent describes every service anew after each change; the data plane
//! compares the description with what its maps hold and writes the difference.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Everything the data plane should do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DesiredState {
    /// The virtual services; no two share protocol, address and port.
    pub services: Vec<Service>,
}

/// Transport protocol of a virtual service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP, IP protocol 6.
    Tcp,
    /// UDP, IP protocol 17.
    Udp,
}

/// How a new connection's real server is chosen (ipvsadm(8), `--scheduler`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// Round robin: one cursor, advanced only when the scheduler runs.
    Rr,
}

/// One virtual service: an address that viewers connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Protocol of the service.
    pub protocol: Protocol,
    /// The virtual address and port.
    pub address: SocketAddr,
    /// How new connections are spread.
    pub scheduler: Scheduler,
    /// Source-address persistence, if any.
    pub persistence: Option<Persistence>,
    /// The real servers, in configuration order.
    pub servers: Vec<RealServer>,
}

/// Source-address persistence (ipvsadm(8), `--persistent`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Persistence {
    /// How long a template outlives the client's last connection.
    pub timeout: Duration,
    /// Granularity in leading address bits: 32 keeps every IPv4 client apart.
    pub prefix_length: u8,
}

/// One real server of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RealServer {
    /// Address of the server; in direct routing its port is the service's.
    pub address: SocketAddr,
    /// Share of new connections; 0 takes none but keeps established ones.
    pub weight: u32,
    /// False while its checks fail: its connections and templates are void.
    pub alive: bool,
    /// Where its frames go; `None` while its MAC address is unknown, which
    /// keeps it out of scheduling.
    pub next_hop: Option<NextHop>,
}

/// The Ethernet hop towards a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// Index of the interface that frames leave by.
    pub interface_index: u32,
    /// Source MAC address: that interface's own.
    pub source: [u8; 6],
    /// Destination MAC address: the real server's.
    pub destination: [u8; 6],
}
