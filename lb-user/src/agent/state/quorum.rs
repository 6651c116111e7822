//! Quorums: the services that have enough servers.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::super::change::Change;
use super::super::plan::{ServerPlan, ServicePlan};
use super::State;
use crate::control::protocol::Order;
use lb_model::ServiceKey;
use vrrp::VirtualAddress;

impl State {
    /// True if a service has its quorum.
    pub fn has_quorum(&self, service: ServiceKey) -> bool {
        self.quorum.get(&service).copied().unwrap_or_default()
    }

    /// The addresses at which a service has lost its quorum.
    pub fn addresses_without_quorum(&self) -> BTreeSet<IpAddr> {
        let services = self.plan.services.iter().map(|service| service.key);
        services
            .filter(|service| !self.has_quorum(*service))
            .map(|service| service.address.ip())
            .collect()
    }

    /// The addresses of which every service that is announced has its quorum.
    pub fn announced_addresses(&self) -> Vec<VirtualAddress> {
        let services = self.plan.services.iter();
        let lost: BTreeSet<IpAddr> = services
            .filter(|service| service.announce.is_some() && !self.has_quorum(service.key))
            .map(|service| service.key.address.ip())
            .collect();
        let announced = self.plan.announced_addresses();
        announced
            .filter(|held| !lost.contains(&held.address))
            .collect()
    }

    /// True if the sorry server takes a service's new connections now: the quorum
    /// is lost, or the operator lets no real server have any. Servers that are up
    /// keep the connections that they have. One that packets do not reach takes
    /// none: whatever servers there are serve without it.
    pub fn is_sorry(&self, service: &ServicePlan) -> bool {
        let serves = |server: &ServerPlan| self.weight(service.key, server) > 0;
        let is_reached = |sorry: SocketAddr| !self.is_cut_off(sorry.ip());
        service.sorry_server.is_some_and(is_reached)
            && (!self.has_quorum(service.key) || !service.servers.iter().any(serves))
    }

    /// The weight that a server adds to the quorum. As with keepalived and ipvsadm(8), what
    /// the operator orders about its share does not count; out of service does, and
    /// so does being out of reach.
    fn weight_for_quorum(&self, service: ServiceKey, server: &ServerPlan) -> u32 {
        let is_disabled = self.order(service, server.address) == Some(Order::Disabled);
        match self.is_up(service, server) {
            true if !is_disabled => self.share_by_checks(server),
            _ => 0,
        }
    }

    /// Decides anew which services have their quorum (keepalived
    /// `update_quorum_state`).
    pub(super) fn update_quorums(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for service in &self.plan.services {
            let known = self.quorum.get(&service.key).copied();
            let weight = service.servers.iter().fold(0u32, |sum, server| {
                sum.saturating_add(self.weight_for_quorum(service.key, server))
            });
            let needed = match known {
                None => service.quorum,
                Some(true) => service.quorum.saturating_sub(service.hysteresis),
                Some(false) => service.quorum.saturating_add(service.hysteresis),
            };
            let has = weight >= needed;
            self.quorum.insert(service.key, has);
            if known != Some(has) {
                changes.push(Change::Quorum {
                    service: service.key,
                    gained: has,
                    weight,
                    quorum: needed,
                    notify: if has {
                        &service.quorum_up
                    } else {
                        &service.quorum_down
                    }
                    .clone(),
                });
            }
        }
        changes
    }
}
