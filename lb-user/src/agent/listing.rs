//! The listing of services and servers: state and counters, joined.

use std::collections::HashMap;
use std::net::SocketAddr;

use tokio::time::Instant;

use super::plan::{Plan, ServicePlan};
use super::rates::Meter;
use super::recovery::PARTS;
use super::state::State;
use crate::control::protocol::{
    Counters, ListedAddress, ListedLoad, ListedPersistence, ListedServer, ListedService, Order,
    ServerState,
};
use lb_dataplane::{ServerStatistics, ServiceStatistics, Statistics, Traffic};
use lb_model::{ServiceKey, Thresholds};

use crate::neighbor::Hop;
use vrrp::{self, InstanceStatus, VirtualAddress};

/// The services with their servers, in the order of the configuration.
///
/// `meter` knows the rates; `connections_reset` counts connections of servers
/// that were gone.
pub(super) fn services(
    state: &State,
    statistics: &Statistics,
    meter: &Meter,
    connections_reset: &HashMap<(ServiceKey, SocketAddr), u64>,
) -> Vec<ListedService> {
    let services = state.plan().services.iter();
    services
        .map(|service| {
            let mut listed = listed(service, state, statistics);
            listed.rates = meter.of_service(service.key);
            for server in &mut listed.servers {
                let reset = connections_reset.get(&(service.key, server.address));
                server.connections_reset = reset.copied().unwrap_or_default();
                server.rates = meter.of_server(service.key, server.address);
            }
            listed
        })
        .collect()
}

/// The addresses that are announced while services have their quorum; `held` are there.
pub(super) fn announced_addresses<'a>(
    plan: &'a Plan,
    held: &'a [VirtualAddress],
) -> impl Iterator<Item = ListedAddress> + 'a {
    plan.announced_addresses().map(|address| {
        let held = held.contains(&address);
        let (state, cause) = if held {
            ("announced", "its services have their quorum")
        } else {
            ("withdrawn", "a service there has lost its quorum")
        };
        ListedAddress {
            address: format!("{}/{}", address.address, address.prefix_length),
            interface: address.interface,
            instance: "announce".to_owned(),
            held,
            state: state.to_owned(),
            cause: cause.to_owned(),
        }
    })
}

/// The virtual addresses, and whether this machine holds them.
pub(super) fn virtual_addresses(plan: &Plan, status: &[InstanceStatus]) -> Vec<ListedAddress> {
    let mut list = Vec::new();
    for instance in &plan.vrrp.instances {
        let status = status.iter().find(|status| status.name == instance.name);
        for address in &instance.addresses {
            list.push(ListedAddress {
                address: format!("{}/{}", address.address, address.prefix_length),
                interface: address.interface.clone(),
                instance: instance.name.clone(),
                held: status.is_some_and(|status| status.state == vrrp::State::Master),
                state: status.map_or_else(|| "init".to_owned(), |s| s.state.to_string()),
                cause: status.map_or_else(String::new, |status| status.cause.clone()),
            });
        }
    }
    list
}

fn listed(service: &ServicePlan, state: &State, statistics: &Statistics) -> ListedService {
    let seen = statistics
        .services
        .iter()
        .find(|seen| seen.address == service.key.address && seen.protocol == service.key.protocol);
    let sorry = state.is_sorry(service);
    let mut servers: Vec<ListedServer> = service
        .servers
        .iter()
        .map(|server| {
            let mut listed = without_state(server.address, state, seen);
            listed.weight = state.weight(service.key, server);
            listed.load = load(state, service.key, server.address);
            let order = state.order(service.key, server.address);
            listed.order = order;
            if order == Some(Order::Disabled) {
                listed.state = ServerState::Disabled;
                listed.reason = Some("disabled by the operator".to_owned());
            } else if let Some(failure) = state.failure(service.key, server) {
                listed.state = ServerState::Down;
                listed.reason = Some(failure.clone());
            } else if listed.reason.is_some() {
                listed.state = ServerState::NoMac;
            } else if sorry && order.is_none() {
                listed.weight = 0;
                listed.state = ServerState::Quiesced;
                let reason = "the quorum is lost: new viewers get the sorry server";
                listed.reason = Some(reason.to_owned());
            } else if listed.weight == 0 {
                listed.state = ServerState::Quiesced;
                listed.reason = order.map(|_| "drained by the operator".to_owned());
            } else if is_full(server.address, seen) {
                listed.state = ServerState::Full;
                listed.reason = Some(fullness(server.thresholds));
            } else {
                let parts = state.parts(service.key, server);
                let percent = parts * 100 / PARTS;
                let trouble = state.not_checked(server);
                listed.reason = trouble
                    .map(|reason| format!("not checked: {reason}"))
                    .or_else(|| {
                        (parts < PARTS).then(|| format!("slow start: {percent} % of its share"))
                    });
            }
            listed
        })
        .collect();
    if let Some(address) = service.sorry_server {
        let mut listed = without_state(address, state, seen);
        listed.sorry = true;
        listed.weight = u32::from(sorry);
        if listed.reason.is_some() {
            listed.state = ServerState::NoMac;
        } else if !sorry {
            listed.state = ServerState::Standby;
        }
        servers.push(listed);
    }
    ListedService {
        protocol: service.key.protocol,
        address: service.key.address,
        scheduler: service.scheduler,
        persistence: service.persistence.map(|persistence| ListedPersistence {
            timeout_s: persistence.timeout.as_secs(),
            prefix_length: persistence.prefix_length,
        }),
        ops: service.one_packet,
        quorum: state.has_quorum(service.key),
        counters: counters(seen.map(|seen| seen.traffic)),
        rates: None,
        servers,
    }
}

/// What a server has said of its load.
fn load(state: &State, service: ServiceKey, server: SocketAddr) -> Option<ListedLoad> {
    let (load, fresh) = state.load(service, server, Instant::now().into_std())?;
    Some(ListedLoad {
        weight: state.weight_by_load(service, server),
        fresh,
        used: load.used(),
        limit: load.limit(),
        players: load.players,
        lag_p99_ms: load.lag_p99_ms,
        cpu_percent: load.cpu_percent,
    })
}

fn is_full(server: SocketAddr, seen: Option<&ServiceStatistics>) -> bool {
    seen_server(server, seen).is_some_and(|seen| seen.is_full)
}

fn fullness(Thresholds { upper, lower }: Thresholds) -> String {
    let enough = match lower {
        0 => format!("three quarters of {upper}"),
        lower => lower.to_string(),
    };
    format!("no new connections before it has fewer than {enough} (uthreshold {upper})")
}

fn seen_server(address: SocketAddr, seen: Option<&ServiceStatistics>) -> Option<&ServerStatistics> {
    let mut servers = seen?.servers.iter();
    servers.find(|server| server.address == address)
}

/// A server that is up as far as its hop goes: `reason` says why frames cannot
/// reach it.
fn without_state(
    address: SocketAddr,
    state: &State,
    seen: Option<&ServiceStatistics>,
) -> ListedServer {
    let seen = seen_server(address, seen);
    let (mac, interface, reason) = match state.hop(address) {
        Some(Hop::Ready {
            next_hop,
            interface,
            ..
        }) => (
            Some(next_hop.destination.to_string()),
            Some(interface.clone()),
            None,
        ),
        Some(Hop::NotReady { reason, .. }) => (None, None, Some(reason.clone())),
        None => (
            None,
            None,
            Some("its MAC address is being looked up".to_owned()),
        ),
    };
    ListedServer {
        address,
        sorry: false,
        weight: 0,
        state: ServerState::Up,
        reason,
        order: None,
        load: None,
        mac,
        interface,
        active_connections: seen.map_or(0, |seen| seen.active_connections),
        inactive_connections: seen.map_or(0, |seen| seen.inactive_connections),
        persistent_clients: seen.map_or(0, |seen| seen.templates),
        connections_reset: 0,
        counters: counters(seen.map(|seen| seen.traffic)),
        rates: None,
    }
}

fn counters(traffic: Option<Traffic>) -> Counters {
    let traffic = traffic.unwrap_or_default();
    Counters {
        connections: traffic.connections,
        packets: traffic.packets_in,
        bytes: traffic.bytes_in,
    }
}
