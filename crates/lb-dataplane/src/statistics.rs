//! Statistics: traffic per service and server, live connections, and the reason of
//! every verdict.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::conntrack::ConnectionCounts;
use super::error::Error;
use super::maps::FlowTables;
use super::registry::Registry;
use super::traffic::Traffic;
use lb_model::{DesiredState, Protocol};

/// A snapshot of every counter, taken by
/// [`Dataplane::statistics`](super::Dataplane::statistics).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// One entry per virtual service, in the order of the desired state.
    pub services: Vec<ServiceStatistics>,
    /// Packets by reason of their verdict; every reason that the data plane knows is
    /// present, also with 0 packets.
    pub reasons: Vec<ReasonCount>,
}

/// Counters of one virtual service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatistics {
    /// Protocol of the service.
    pub protocol: Protocol,
    /// The virtual address and port.
    pub address: SocketAddr,
    /// Traffic since the service was set up, servers that have left included.
    pub traffic: Traffic,
    /// One entry per real server, in the order of the desired state.
    pub servers: Vec<ServerStatistics>,
}

/// Counters of one real server within one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatistics {
    /// Address of the real server.
    pub address: SocketAddr,
    /// Traffic since the server joined the service.
    pub traffic: Traffic,
    /// Connections in the ESTABLISHED state (`ActiveConn` of ipvsadm(8)).
    pub active_connections: u64,
    /// Connections in any other state (`InActConn` of ipvsadm(8)).
    pub inactive_connections: u64,
    /// Persistence templates that name this server.
    pub templates: u64,
    /// True if it has reached its upper threshold, and has not fallen below the lower
    /// one since.
    pub is_full: bool,
}

/// Number of packets with one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonCount {
    /// Name of the reason, such as `not-a-service`.
    pub name: String,
    /// One sentence for people.
    pub description: String,
    /// Packets.
    pub packets: u64,
}

/// Reads every counter for the services of `desired`, and joins them with the numbers
/// of connections.
pub(super) fn collect(
    desired: &DesiredState,
    registry: &Registry,
    flow_tables: &FlowTables,
    counts: &ConnectionCounts,
) -> Result<Statistics, Error> {
    let services = desired.services.iter().map(|service| {
        let record = registry
            .service(&service.key())
            .expect("reconciled by `apply`");
        let mut traffic = record.retired;
        let mut servers = Vec::with_capacity(service.servers.len());
        for server in &service.servers {
            let known = &record.servers[&server.address];
            let own = known.traffic(flow_tables.server_counters(known.slot)?);
            traffic += own;
            let count = counts.of((known.slot, known.generation));
            servers.push(ServerStatistics {
                address: server.address,
                traffic: own,
                active_connections: count.established,
                inactive_connections: count.opening + count.closing,
                templates: count.templates,
                is_full: flow_tables.is_full(known.slot, server.thresholds)?,
            });
        }
        Ok(ServiceStatistics {
            protocol: service.protocol,
            address: service.address,
            traffic,
            servers,
        })
    });
    let services = services.collect::<Result<_, Error>>()?;
    let reasons = flow_tables
        .reasons()?
        .into_iter()
        .map(|(reason, packets)| ReasonCount {
            name: reason.name().to_owned(),
            description: reason.description().to_owned(),
            packets,
        });
    Ok(Statistics {
        services,
        reasons: reasons.collect(),
    })
}
