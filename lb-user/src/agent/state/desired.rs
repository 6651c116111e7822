//! The desired state of the data plane.

use std::net::SocketAddr;

use super::super::plan::{ServerPlan, ServicePlan};
use super::super::recovery::PARTS;
use super::State;
use crate::control::protocol::Order;
use crate::neighbor::{Hop, Path};
use lb_model::config::LbKind;
use lb_model::{DesiredState, Forwarding, NextHop, RealServer, Scheduler, Service, Thresholds};

impl State {
    /// The desired state of the data plane.
    pub fn desired(&self) -> DesiredState {
        DesiredState {
            services: self
                .plan
                .services
                .iter()
                .map(|s| self.desired_service(s))
                .collect(),
            timeouts: self.plan.timeouts,
            tunnel_sources: self.plan.tunnel_sources.clone(),
        }
    }

    /// The same with every sorry server in it: the data plane never has to do
    /// more for this plan.
    pub fn largest(&self) -> DesiredState {
        let mut desired = self.desired();
        for (service, plan) in desired.services.iter_mut().zip(&self.plan.services) {
            let is_there = |address| service.servers.iter().any(|it| it.address == address);
            if let Some(sorry) = plan.sorry_server.filter(|sorry| !is_there(*sorry)) {
                service.servers.push(self.sorry_server(plan, sorry));
            }
        }
        desired
    }

    fn desired_service(&self, service: &ServicePlan) -> Service {
        let is_sorry = self.is_sorry(service);
        let sorry = service.sorry_server.filter(|_| is_sorry);
        let is_rising = service
            .servers
            .iter()
            .any(|server| self.parts(service.key, server) < PARTS);
        let is_by_load = self.is_by_load(service.key);
        // Shares can only differ where a scheduler looks at weights.
        let is_shared = is_rising || is_by_load;
        let (scheduler, is_weighted) = match service.scheduler {
            Scheduler::Rr if is_shared => (Scheduler::Wrr, false),
            Scheduler::Lc if is_shared => (Scheduler::Wlc, false),
            scheduler => (scheduler, true),
        };
        let weight = |server: &ServerPlan| {
            if is_sorry {
                return 0;
            }
            let configured = match (self.weight(service.key, server), is_shared, is_weighted) {
                (weight, true, false) => weight.min(1),
                (weight, _, _) => weight,
            };
            let by_load = self.weight_by_load(service.key, server.address);
            let weight = match by_load.filter(|_| configured > 0) {
                Some(weight) => weight,
                // It has come up since shares have last moved.
                None if is_by_load => configured.min(1),
                None => configured,
            };
            match is_rising {
                true => weight * self.parts(service.key, server),
                false => weight,
            }
        };
        let real = service.servers.iter();
        let real = real.filter(|server| Some(server.address) != sorry);
        let real = real.map(|server| {
            let (forwarding, next_hop) = self.forwarding_towards(server.lb_kind, server.address);
            let order = self.order(service.key, server.address);
            RealServer {
                address: server.address,
                weight: weight(server),
                thresholds: server.thresholds,
                keeps_templates: !is_sorry
                    && order != Some(Order::DrainedOfTemplates)
                    && !self.is_cut_off(server.address.ip()),
                alive: (self.failure(service.key, server).is_none() || server.inhibit_on_failure)
                    && order != Some(Order::Disabled),
                forwarding,
                next_hop,
            }
        });
        let sorry = sorry.map(|address| self.sorry_server(service, address));
        Service {
            protocol: service.key.protocol,
            address: service.key.address,
            scheduler,
            hash_port: service.hash_port,
            hash_fallback: service.hash_fallback,
            one_packet: service.one_packet,
            persistence: service.persistence,
            orphans: service.orphans,
            sloppy: service.sloppy,
            servers: real.chain(sorry).collect(),
        }
    }

    /// A service's sorry server, which may be one of the real ones.
    fn sorry_server(&self, service: &ServicePlan, address: SocketAddr) -> RealServer {
        let mut real = service.servers.iter();
        let real = real.find(|server| server.address == address);
        let lb_kind = real.map_or(service.lb_kind, |server| server.lb_kind);
        let (forwarding, next_hop) = self.forwarding_towards(lb_kind, address);
        RealServer {
            address,
            weight: 1,
            thresholds: Thresholds::default(),
            keeps_templates: true,
            alive: true,
            forwarding,
            next_hop,
        }
    }

    /// The forwarding of packets to a server, and their hop, as far as that is known.
    fn forwarding_towards(
        &self,
        lb_kind: LbKind,
        server: SocketAddr,
    ) -> (Forwarding, Option<NextHop>) {
        match (lb_kind, self.hop(server)) {
            // Whatever the method, as with IPVS (`IP_VS_CONN_F_LOCALNODE`).
            (_, Some(Hop::Ready { next_hop, .. })) if next_hop.is_local() => {
                (Forwarding::Local, Some(*next_hop))
            }
            (LbKind::DirectRouting, Some(Hop::Ready { next_hop, .. })) => {
                (Forwarding::Direct, Some(*next_hop))
            }
            (
                LbKind::Tunnel,
                Some(Hop::Ready {
                    next_hop,
                    path: Some(Path { source, mtu }),
                    ..
                }),
            ) => {
                let (source, mtu) = (*source, *mtu);
                (Forwarding::Tunnel { source, mtu }, Some(*next_hop))
            }
            _ => (Forwarding::Direct, None),
        }
    }
}
