//! The agent of the Millrace balancer: health checks, VRRP and configuration of keepalived
//! on an XDP data plane.
//!
//! Layers, each knowing only those below it: [`cli`] → [`agent`] (the one loop
//! that owns desired and actual state) → [`checker`], [`neighbor`], [`resets`], `peers`,
//! [`control`].

pub mod agent;
pub mod checker;
pub mod cli;
pub mod control;
pub mod discovery;
pub mod neighbor;
mod peers;
pub mod resets;
