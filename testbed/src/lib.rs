//! A whole Millrace cluster in network namespaces.
//!
//! The network of the deployment on one machine: a switch, the director, the
//! origin, edges and clients, each a host with its own network stack, its own
//! `eth2` and its own `/run`, running real programs that exchange real packets.
//! End-to-end tests, the demo and the benchmarks share it, so that there is one
//! description of the topology.
//!
//! Several clusters may run at once. Whatever happens to the program that
//! started one, nothing of it remains.

mod balancer;
mod binaries;
mod client;
mod cluster;
mod config;
mod control_group;
mod director;
mod flood;
mod host;
mod keep;
mod keepalived;
mod lifeline;
mod machine;
mod media;
mod namespace;
mod native;
mod network;
mod process;
mod program;
mod server;
mod sockets;
mod tap;
mod wait;

pub use balancer::{Balancer, Interface, RealServer, Service, Traffic, VirtualAddress};
pub use binaries::{BIN_DIR_VARIABLE, bin_dir, program, source_root};
pub use client::Client;
pub use cluster::{Builder, Cluster};
pub use config::{
    DEPLOYED_EDGE_CONF, DEPLOYED_KEEPALIVED_CONF, DEPLOYED_ORIGIN_CONF, HealthChecks, ORIGIN,
    STANDBY, VIP, keepalived_conf,
};
pub use director::{Director, XdpMode};
pub use flood::Flood;
pub use host::{Counters, Host, INTERFACE};
pub use keep::Kept;
pub use keepalived::{start_keepalived, virtual_router_conf};
pub use machine::{BUILT, Machine, SOURCE};
pub use media::{Frames, GENERATED_FPS, Source, Viewer};
pub use process::Process;
pub use server::{RTMP_PORT, Server, ServerKind};
pub use tap::{Passage, Tap};
pub use wait::{wait_for, wait_until};
