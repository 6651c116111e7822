//! Knowledge that one agent leaves to the next.

use std::collections::HashMap;

use super::super::plan::{Plan, ServerPlan, ServicePlan};
use super::super::saved::{Saved, SavedCheck, SavedOrder, SavedQuorum};
use super::State;
use crate::checker::machine::Share;
use crate::checker::{CheckResult, CheckSpec};

impl State {
    /// Takes up what an earlier agent has saved; the first plan comes next.
    pub fn inherit(&mut self, saved: &Saved) {
        let orders = saved.orders.iter();
        self.orders = orders
            .map(|saved| ((saved.service.into(), saved.server), saved.order))
            .collect();
        let quorums = saved.quorums.iter();
        self.quorum = quorums
            .map(|saved| (saved.service.into(), saved.gained))
            .collect();
        self.found_before.clone_from(&saved.checks);
        self.load_weights_before.clone_from(&saved.load_weights);
        self.cut_off_before.clone_from(&saved.cut_off);
    }

    /// True if the result of a check is an earlier agent's.
    pub fn is_inherited(&self, spec: &CheckSpec) -> bool {
        self.inherited.contains(spec)
    }

    /// The results of checks of `plan` that an earlier agent has saved (`found`).
    pub(super) fn inherited_results(
        plan: &Plan,
        found: &[SavedCheck],
    ) -> HashMap<CheckSpec, CheckResult> {
        let mut inherited = HashMap::new();
        for service in &plan.services {
            for server in &service.servers {
                for (spec, check, place) in places(server) {
                    let same = |saved: &&SavedCheck| {
                        saved.service == service.key.into()
                            && saved.server == server.address
                            && saved.check == check
                            && saved.place == place
                    };
                    if let Some(saved) = found.iter().find(same) {
                        let result = match &saved.failure {
                            Some(reason) => CheckResult::Down(reason.clone()),
                            None => CheckResult::Up(saved.weight.map(Share::Of)),
                        };
                        inherited.insert(spec.clone(), result);
                    }
                }
            }
        }
        inherited
    }

    /// The part of this that a later agent is to know.
    pub fn to_save(&self) -> Saved {
        let orders = self.orders.iter();
        let mut orders: Vec<SavedOrder> = orders
            .map(|((service, server), order)| SavedOrder {
                service: (*service).into(),
                server: *server,
                order: *order,
            })
            .collect();
        orders.sort_by_key(|it| (it.service.address, it.service.protocol, it.server));
        let servers = || self.servers().map(|(service, _, server)| (service, server));
        Saved {
            orders,
            checks: servers()
                .flat_map(|(service, server)| self.found(service, server))
                .collect(),
            load_weights: self.load_weights(),
            quorums: self
                .plan
                .services
                .iter()
                .map(|service| SavedQuorum {
                    service: service.key.into(),
                    gained: self.has_quorum(service.key),
                })
                .collect(),
            cut_off: self
                .outages
                .keys()
                .copied()
                .filter(|address| self.is_cut_off(*address))
                .collect(),
            ..Saved::default()
        }
    }

    /// The results of a server's checks.
    fn found(&self, service: &ServicePlan, server: &ServerPlan) -> Vec<SavedCheck> {
        let found = places(server).filter_map(|(spec, check, place)| {
            let (failure, weight) = match self.checks.get(spec)? {
                CheckResult::Up(Some(Share::Of(weight))) => (None, Some(*weight)),
                // A file is read again before anything else happens.
                CheckResult::Up(Some(Share::Added(_) | Share::Load(_)) | None) => (None, None),
                CheckResult::Down(reason) => (Some(reason.clone()), None),
            };
            Some(SavedCheck {
                service: service.key.into(),
                server: server.address,
                check,
                place,
                failure,
                weight,
            })
        });
        found.collect()
    }
}

/// The checks of a server, each with its name and the number of checks of that name
/// before it.
fn places(server: &ServerPlan) -> impl Iterator<Item = (&CheckSpec, String, usize)> {
    let names: Vec<String> = server
        .checks
        .iter()
        .map(|spec| spec.probe.to_string())
        .collect();
    server.checks.iter().enumerate().map(move |(index, spec)| {
        let place = names[..index]
            .iter()
            .filter(|earlier| **earlier == names[index])
            .count();
        (spec, names[index].clone(), place)
    })
}
