//! The agent of the Millrace balancer: keepalived's promises on an XDP data plane.

pub mod checker;
pub mod config;
pub mod dataplane;
pub mod neighbor;
pub mod vrrp;
