//! A whole Millrace cluster in network namespaces.
//!
//! The network of the deployment on one machine: a switch, the director, the
//! origin, edges and clients, each a host of [`netbed`].
//! End-to-end tests, the demo and the benchmarks share it, so that there is one
//! description of the topology.
//!
//! Several clusters may run at once. Whatever happens to the program that
//! started one, nothing of it remains.

mod balancer;
mod binaries;
mod browser;
mod client;
mod cluster;
mod config;
mod director;
mod ecmp;
mod flood;
mod keep;
mod machine;
mod media;
mod native;
mod program;
mod server;
mod tap;
mod website;

pub use balancer::{Balancer, Interface, Load, RealServer, Service, Traffic, VirtualAddress};
pub use binaries::{BIN_DIR_VARIABLE, bin_dir, packages, program, source_root};
pub use browser::{Browser, Page, Playback};
pub use client::Client;
pub use cluster::{Builder, Cluster};
pub use config::{
    DEPLOYED_EDGE_CONF, DEPLOYED_KEEPALIVED_CONF, DEPLOYED_ORIGIN_CONF, HLS_FMP4_VHOST,
    HLS_TS_VHOST, HealthChecks, ORIGIN, STANDBY, VIP, keepalived_conf, virtual_router_conf,
};
pub use director::{AGENT_HTTP_PORT, Director, XdpMode};
pub use ecmp::{Connections, ECMP_VIP, Ecmp};
pub use flood::Flood;
pub use keep::Kept;
pub use machine::{Machine, PACKAGES, SOURCE};
pub use media::{Frames, GENERATED_FPS, Source, Viewer};
pub use server::{HTTP_API_PORT, HTTP_PORT, RTMP_PORT, Server, ServerKind};
pub use tap::{Passage, Tap};
