//! The agent's state in one line, for `systemctl status`.

use std::collections::BTreeSet;

use super::plan::ServerPlan;
use super::state::State;
use crate::control::protocol::Order;
use crate::neighbor::Hop;
use lb_model::ServiceKey;

/// The number of servers that get connections, the services that lack servers, and the
/// virtual routers that lead: `1 of 2 servers up; master of VI_1`.
pub(super) fn line(state: &State, masters: &BTreeSet<String>) -> String {
    let plan = state.plan();
    let servers = || {
        let services = plan.services.iter();
        services.flat_map(|service| service.servers.iter().map(|server| (service.key, server)))
    };
    let up = servers().filter(|(service, server)| is_up(state, *service, server));
    let mut line = format!("{} of {} servers up", up.count(), servers().count());
    for service in &plan.services {
        if !state.has_quorum(service.key) {
            line += &format!("; {}: quorum lost", service.key);
        }
    }
    if !masters.is_empty() {
        let names: Vec<&str> = masters.iter().map(String::as_str).collect();
        line += &format!("; master of {}", names.join(", "));
    } else if !plan.vrrp.instances.is_empty() {
        line += "; master of no virtual router";
    }
    line
}

/// True if a server gets connections.
fn is_up(state: &State, service: ServiceKey, server: &ServerPlan) -> bool {
    state.weight(service, server) > 0
        && state.order(service, server.address) != Some(Order::Disabled)
        && matches!(state.hop(server.address), Some(Hop::Ready { .. }))
}
