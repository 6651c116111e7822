//! The tables by which a director schedules new connections, and those that it had before:
//! what real servers need in order to find the server of another director's connection.
//!
//! A Maglev table is a function of its servers and their weights, so that these are all
//! that is told of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use net_types::MacAddress;
use serde::{Deserialize, Serialize};

/// Maximum number of generations of a service's table that are remembered.
pub const MAX_GENERATIONS: usize = 32;

/// The tables of a director's services (`GET /api/v1/tables`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tables {
    /// Changes whenever anything else does, and differs from run to run of the agent.
    pub version: u64,
    /// Services of TCP with `lb_algo mh` and a port.
    pub services: Vec<ServiceTables>,
}

/// The tables of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceTables {
    /// The virtual address and port.
    pub address: SocketAddr,
    /// Number of places in a table, a prime.
    pub places: u32,
    /// True if the client's port is hashed along with its address (`mh-port`).
    pub hash_port: bool,
    /// The servers that have connections, or may have; those that are down have none.
    pub servers: Vec<TableServer>,
    /// At most [`MAX_GENERATIONS`], the newest first.
    pub generations: Vec<Generation>,
}

/// A real server that packets can be passed on to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableServer {
    /// Its address and port.
    pub address: SocketAddr,
    /// Its MAC address, on the segment of the director.
    pub mac: MacAddress,
}

/// A table, as long as it was in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// The time from which on it was, in milliseconds since 1970.
    pub since_ms: u64,
    /// The servers that were in it, with their weights.
    pub weights: BTreeMap<SocketAddr, u32>,
}
