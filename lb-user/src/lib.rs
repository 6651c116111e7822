//! The agent of the Millrace balancer: keepalived's promises on an XDP data plane.
//!
//! Layers, each knowing only those below it: [`cli`] → [`agent`] (the one loop
//! that owns desired and actual state) → [`config`], [`checker`],
//! [`vrrp`], [`neighbor`], [`resets`], [`control`] → [`script`],
//! [`track_file`], [`dataplane`], [`netlink`], [`network`],
//! [`owned_task`].

pub mod agent;
pub mod checker;
pub mod cli;
pub mod config;
pub mod control;
pub mod dataplane;
pub mod neighbor;
pub mod netlink;
pub mod network;
pub mod owned_task;
pub mod resets;
pub mod script;
pub mod track_file;
pub mod vrrp;

/// A MAC address as people write it.
pub fn format_mac(mac: netlink::link::Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
