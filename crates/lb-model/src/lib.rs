//! Virtual services and real servers as every part of the director knows them.
//!
//! [`config`] is the operator's configuration; [`DesiredState`] is what the agent makes
//! of it for the data plane.

#![forbid(unsafe_code)]

pub mod config;
mod service;
mod tables;

pub use service::{
    DesiredState, Forwarding, NextHop, OrphanPolicy, Persistence, Protocol, RealServer, Scheduler,
    Service, ServiceKey, Thresholds, Timeouts, Vlan,
};
pub use tables::{Generation, MAX_GENERATIONS, ServiceTables, TableServer, Tables};
