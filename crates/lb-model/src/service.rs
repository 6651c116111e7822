//! What the agent wants the data plane to do, complete and free of history.
//!
//! The agent describes every service anew after each change; the data plane
//! compares the description with what its maps hold and writes the difference.

use std::net::SocketAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use net_types::{MacAddress, Network};

/// Everything the data plane should do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DesiredState {
    /// The virtual services; no two share protocol, address and port.
    pub services: Vec<Service>,
    /// How long connections may be silent.
    pub timeouts: Timeouts,
    /// Networks that the outer packets of tunnels come from, one of a family at
    /// most: an address for each flow. Else they come from [`Forwarding::Tunnel`]'s
    /// source.
    pub tunnel_sources: Vec<Network>,
}

/// How long a connection may be silent before it counts as gone, by its state
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

/// How a new connection's real server is chosen (ipvsadm(8), `--scheduler`).
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

/// What becomes of a connection whose server has died or left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OrphanPolicy {
    /// Its packets vanish, as with IPVS: the client hangs until its own
    /// time-out.
    Drop,
    /// TCP: the client's next packet is answered by the reset that its stack
    /// accepts. UDP: the packet passes to the host's stack, which answers that
    /// the port is unreachable.
    Reset,
    /// UDP: it is given another server. TCP: as [`OrphanPolicy::Reset`].
    Reschedule,
}

impl OrphanPolicy {
    /// What fits `protocol`: a reset for TCP, another server for UDP.
    pub const fn default_for(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Reset,
            Protocol::Udp => Self::Reschedule,
        }
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
    /// How new connections are spread.
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
    /// What becomes of connections whose server is gone.
    pub orphans: OrphanPolicy,
    /// A TCP packet in the middle of a connection that the data plane does not
    /// know is scheduled like a SYN (`sloppy_tcp` of IPVS). With
    /// [`Scheduler::Mh`] connections so survive a change of director.
    pub sloppy: bool,
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
    /// A template whose server has weight 0 is void
    /// (`net.ipv4.vs.expire_quiescent_template`).
    pub expire_quiescent: bool,
}

/// One real server of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RealServer {
    /// Address of the server; in direct routing its port is the service's.
    pub address: SocketAddr,
    /// Share of new connections; 0 takes none but keeps established ones.
    pub weight: u32,
    /// When it is given no new connections though it might take some.
    pub thresholds: Thresholds,
    /// At weight 0: whether clients that persistence ties to it come back to
    /// it with new connections; if not, its templates are void.
    pub keeps_templates: bool,
    /// False while its checks fail: its connections and templates are void.
    pub alive: bool,
    /// How packets reach it by `next_hop`, and of no meaning without that.
    pub forwarding: Forwarding,
    /// Where its frames go; `None` while its MAC address is unknown, which
    /// keeps it out of scheduling.
    pub next_hop: Option<NextHop>,
}

/// How many connections a server may have (ipvsadm(8), `--u-threshold`,
/// `--l-threshold`). Clients that persistence ties to it come to it all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Thresholds {
    /// With so many a scheduler gives it no new ones; 0 for no limit.
    pub upper: u32,
    /// Not before it has fewer than so many; 0 for three quarters of the upper
    /// threshold.
    pub lower: u32,
}

/// How packets reach a real server (`lb_kind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarding {
    /// Direct routing: the packet as it is, in a frame to the server.
    Direct,
    /// The packet inside another one that is addressed to the server: for
    /// servers behind a router. [`NextHop`] is then the router's.
    Tunnel {
        /// Source address of the outer packet: ours, of the family of the
        /// server's address.
        source: std::net::IpAddr,
        /// The largest outer packet that the path to the server takes, in
        /// bytes. A client is told when its packet does not fit.
        mtu: u16,
    },
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
    /// Whether `destination` is a router's, so that clients' packets may come from
    /// there.
    pub is_router: bool,
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
