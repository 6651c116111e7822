//! The state that the data plane is to have, complete and without history.
//!
//! The agent makes the whole of it anew after each change; the data plane compares it
//! with its maps and writes the difference.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use net_types::{MacAddress, Network};

/// The state that the data plane is to have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DesiredState {
    /// The virtual services; no two share protocol, address and port.
    pub services: Vec<Service>,
    /// Time-outs of connections.
    pub timeouts: Timeouts,
    /// Networks of the source addresses of tunnels' outer packets, at most one of each
    /// family: every flow has an address of its own, so that routers (ECMP) and the
    /// servers' network cards spread flows. Without one all flows have the source of
    /// [`Forwarding::Tunnel`].
    pub tunnel_sources: Vec<Network>,
}

/// Time after its last packet in which a connection expires, by its state
/// (`ipvsadm --set`, `net.netfilter.nf_conntrack_tcp_timeout_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeouts {
    /// A SYN has been seen.
    pub syn_received: Duration,
    /// The handshake is complete.
    pub established: Duration,
    /// The client has sent FIN.
    pub fin_wait: Duration,
    /// The client has sent FIN before the handshake was complete.
    pub time_wait: Duration,
    /// The client has sent RST.
    pub closed: Duration,
    /// UDP.
    pub udp: Duration,
}

impl Default for Timeouts {
    /// Those of IPVS.
    fn default() -> Self {
        Self {
            syn_received: Duration::from_secs(60),
            established: Duration::from_secs(900),
            fin_wait: Duration::from_secs(120),
            time_wait: Duration::from_secs(120),
            closed: Duration::from_secs(10),
            udp: Duration::from_secs(300),
        }
    }
}

/// Transport protocol of a virtual service.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP, IP protocol 6.
    Tcp,
    /// UDP, IP protocol 17.
    Udp,
}

/// Scheduler: chooses the real server of a new connection (ipvsadm(8),
/// `--scheduler`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// Round robin: one cursor, advanced only when the scheduler runs.
    Rr,
    /// Weighted round robin, a heavy server's turns spread among the others'.
    Wrr,
    /// The fewest connections; an established one counts as 256 others.
    Lc,
    /// As [`Scheduler::Lc`], in relation to the weight.
    Wlc,
    /// By a hash of the client's address.
    Sh,
    /// As [`Scheduler::Sh`] by Maglev hashing: directors with the same servers
    /// agree, and few clients move when a server comes or goes.
    Mh,
    /// By a hash of the virtual address: all connections to one address go to one
    /// server.
    Dh,
    /// Shortest expected delay: the fewest active connections, the one to come
    /// included, in relation to the weight.
    Sed,
    /// Never queue: a server without an active connection, else as
    /// [`Scheduler::Sed`].
    Nq,
    /// Failover: the heaviest server takes all connections.
    Fo,
    /// Overflow: the heaviest server with no more active connections than it
    /// weighs.
    Ovf,
}

/// Policy for a connection whose server has died or was removed (IPVS:
/// `expire_nodest_conn`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OrphanPolicy {
    /// Its packets are dropped, as with IPVS: the client waits for its own time-out.
    Drop,
    /// TCP: the client's next packet is answered by the reset that its stack
    /// accepts. UDP: the packet passes to the host's stack, which answers that
    /// the port is unreachable.
    Reset,
    /// UDP: it is given another server. TCP: as [`OrphanPolicy::Reset`].
    Reschedule,
}

impl OrphanPolicy {
    /// The default of `protocol`: a reset for TCP, another server for UDP.
    pub const fn default_for(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Reset,
            Protocol::Udp => Self::Reschedule,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// Key of a virtual service: no two have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its address and port.
    pub address: SocketAddr,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol, self.address)
    }
}

/// One virtual service: an address that viewers connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Protocol of the service.
    pub protocol: Protocol,
    /// The virtual address and port. Port 0 stands for all ports that no other
    /// service has; such a service must have persistence.
    pub address: SocketAddr,
    /// Its scheduler.
    pub scheduler: Scheduler,
    /// For [`Scheduler::Sh`] and [`Scheduler::Mh`]: the client's port is hashed
    /// along with its address (`sh-port`, `mh-port`).
    pub hash_port: bool,
    /// For the same: where the server that a client hashes to is full, another
    /// takes it (`sh-fallback`, `mh-fallback`).
    pub hash_fallback: bool,
    /// UDP: every packet is scheduled by itself, and no connection is remembered
    /// (ipvsadm(8), `--ops`).
    pub one_packet: bool,
    /// Source-address persistence, if any.
    pub persistence: Option<Persistence>,
    /// Policy for connections whose server is gone.
    pub orphans: OrphanPolicy,
    /// A TCP packet in the middle of a connection that the data plane does not
    /// know is scheduled like a SYN (`sloppy_tcp` of IPVS). With
    /// [`Scheduler::Mh`] connections so survive a change of director.
    pub sloppy: bool,
    /// The real servers, in configuration order.
    pub servers: Vec<RealServer>,
}

impl Service {
    /// Its key.
    pub fn key(&self) -> ServiceKey {
        ServiceKey {
            protocol: self.protocol,
            address: self.address,
        }
    }
}

/// Source-address persistence (ipvsadm(8), `--persistent`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Persistence {
    /// Time for which a template outlives the client's last connection.
    pub timeout: Duration,
    /// Granularity in leading address bits: 32 keeps every IPv4 client apart.
    pub prefix_length: u8,
    /// A template whose server has weight 0 is void
    /// (`net.ipv4.vs.expire_quiescent_template`).
    pub expire_quiescent: bool,
}

/// One real server of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RealServer {
    /// Address of the server; in direct routing its port is the service's.
    pub address: SocketAddr,
    /// Share of new connections; with 0 there are none, and established ones stay.
    pub weight: u32,
    /// Numbers of connections from which and to which it is full.
    pub thresholds: Thresholds,
    /// At weight 0: true if clients with a persistence template for it come back to it
    /// with new connections; if not, its templates are void.
    pub keeps_templates: bool,
    /// False while its checks fail: its connections and templates are void.
    pub alive: bool,
    /// Forwarding method. Without `next_hop` it has no meaning.
    pub forwarding: Forwarding,
    /// Destination of its frames; `None` while its MAC address is unknown: it is then not
    /// scheduled.
    pub next_hop: Option<NextHop>,
}

/// Limits to the connections of a server (ipvsadm(8), `--u-threshold`,
/// `--l-threshold`). They do not apply to clients with a persistence template for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Thresholds {
    /// Number of connections from which it is not scheduled; 0 for no limit.
    pub upper: u32,
    /// Number of connections below which it is scheduled again; 0 for three quarters of
    /// the upper threshold.
    pub lower: u32,
}

/// Forwarding method (`lb_kind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarding {
    /// Direct routing: the packet as it is, in a frame to the server.
    Direct,
    /// The packet inside another one that is addressed to the server: for
    /// servers behind a router. [`NextHop`] is then the router's.
    Tunnel {
        /// Source address of the outer packet: ours, of the family of the
        /// server's address.
        source: IpAddr,
        /// The largest outer packet that the path to the server takes, in
        /// bytes. A client is told when its packet does not fit.
        mtu: u16,
    },
    /// The server is this host: its packets pass to the host's own stack, as they are.
    Local,
}

/// The Ethernet hop towards a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// Index of the interface that frames leave by.
    pub interface_index: u32,
    /// Source MAC address: that interface's own.
    pub source: MacAddress,
    /// Destination MAC address: the real server's.
    pub destination: MacAddress,
    /// VLAN tags that frames to the server carry.
    pub vlan: Vlan,
    /// True if `destination` is a router's: clients' packets may come from there.
    pub is_router: bool,
}

impl NextHop {
    /// The hop of a server that is this host, whose address is on an interface with the MAC
    /// address `mac`.
    pub const fn local(interface_index: u32, mac: MacAddress) -> Self {
        Self {
            interface_index,
            source: mac,
            destination: mac,
            vlan: Vlan::Untagged,
            is_router: false,
        }
    }

    /// True if the server is this host.
    pub fn is_local(&self) -> bool {
        self.source == self.destination
    }
}

/// VLAN tags of a frame, by VLAN number (0–4095).
///
/// The interface of [`NextHop`] is the one below the VLAN interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Vlan {
    /// No tag.
    #[default]
    Untagged,
    /// One tag (IEEE 802.1Q).
    Tagged(u16),
    /// Two tags (IEEE 802.1ad): the provider's, then the customer's.
    Stacked(u16, u16),
}
