//! Changes to servers: checks come to fail or to succeed, time passes.

use std::time::Instant;

use super::super::change::Change;
use super::super::plan::{ServerPlan, ServicePlan};
use super::super::recovery::Recovery;
use super::{Place, State};
use crate::checker::{CheckEvent, CheckSpec};
use crate::neighbor::Hop;
use lb_model::ServiceKey;

/// A server's availability for new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Availability {
    is_up: bool,
    is_cut_off: bool,
    weight: u32,
}

impl State {
    /// Takes the result of a check.
    pub fn check_changed(&mut self, event: CheckEvent, now: Instant) -> Vec<Change> {
        if !self.checks.contains_key(&event.spec) {
            return Vec::new();
        }
        let concerned: Vec<Place> = self
            .servers()
            .filter(|(_, _, server)| server.checks.contains(&event.spec))
            .map(|(service, index, _)| (service.key, index))
            .collect();
        let before: Vec<(bool, Availability)> = concerned
            .iter()
            .map(|place| (self.succeeds(*place), self.availability(*place)))
            .collect();
        self.load_told(&event, &concerned, now);
        self.checks.insert(event.spec, event.result);
        let mut changes = Vec::new();
        let mut come_back = Vec::new();
        for (place, (succeeded, availability)) in concerned.into_iter().zip(before) {
            let succeeds = self.succeeds(place);
            if succeeds != succeeded {
                let plan = self.server(place).recovery;
                self.recovery(place).changed(&plan, now);
            }
            changes.extend(self.server_changes(place, availability, now));
            if succeeds && !succeeded {
                come_back.push(place);
            }
        }
        changes.extend(self.release_last(now));
        for place in come_back {
            changes.extend(self.held_out(place));
        }
        changes.extend(self.update_quorums());
        changes
    }

    /// A check cannot be made, or can again: `None`. What it has found stands.
    pub fn check_unavailable(&mut self, spec: CheckSpec, reason: Option<String>) -> Vec<Change> {
        if !self.checks.contains_key(&spec) {
            return Vec::new();
        }
        let concerned = self
            .servers()
            .filter(|(_, _, server)| server.checks.contains(&spec));
        let changes = concerned.map(|(service, _, server)| Change::NotChecked {
            service: service.key,
            server: server.address,
            reason: reason.clone(),
        });
        let changes = changes.collect();
        match reason {
            Some(reason) => self.not_checked.insert(spec, reason),
            None => self.not_checked.remove(&spec),
        };
        changes
    }

    /// Why a server is not checked, if one of its checks cannot be made.
    pub fn not_checked(&self, server: &ServerPlan) -> Option<&String> {
        server
            .checks
            .iter()
            .find_map(|spec| self.not_checked.get(spec))
    }

    /// When to call [`tick`](Self::tick), if ever.
    pub fn deadline(&self) -> Option<Instant> {
        self.servers()
            .filter_map(|(service, _, server)| {
                let place = (service.key, server.address);
                self.recoveries.get(&place)?.deadline(&server.recovery)
            })
            .chain(self.next_outage())
            .chain(self.next_load_step())
            .min()
    }

    /// Lets time pass: servers come back, and others are out of reach for too
    /// long. `None` if nothing has changed for the data plane.
    pub fn tick(&mut self, now: Instant) -> Option<Vec<Change>> {
        let is_due = |service: &ServicePlan, server: &ServerPlan| {
            let recovery = self.recoveries.get(&(service.key, server.address));
            let deadline = recovery.and_then(|recovery| recovery.deadline(&server.recovery));
            deadline.is_some_and(|deadline| deadline <= now)
        };
        let due: Vec<Place> = self
            .servers()
            .filter(|(service, _, server)| is_due(service, server))
            .map(|(service, index, _)| (service.key, index))
            .collect();
        let is_outage_due = self.next_outage().is_some_and(|at| at <= now);
        let has_moved = self.step_loads(now);
        if due.is_empty() && !is_outage_due && !has_moved {
            return None;
        }
        let mut changes = self.update_outages(now);
        for place in due {
            let before = self.availability(place);
            let (plan, server) = (self.server(place).recovery, self.server(place).address);
            let recovery = self.recovery(place);
            let was_rising = recovery.is_rising();
            recovery.tick(&plan, now);
            let has_risen = was_rising && !recovery.is_rising();
            changes.extend(self.server_changes(place, before, now));
            changes.extend(has_risen.then_some(Change::SlowStart {
                service: place.0,
                server,
                remaining: None,
            }));
        }
        changes.extend(self.update_quorums());
        Some(changes)
    }

    /// The changes to a server whose availability was `before`.
    pub(super) fn server_changes(
        &mut self,
        place: Place,
        before: Availability,
        now: Instant,
    ) -> Vec<Change> {
        let availability = self.availability(place);
        let (service, server) = (place.0, self.server(place));
        let (address, plan) = (server.address, server.recovery);
        if availability.is_up == before.is_up {
            let weight = availability.weight;
            let change = (weight != before.weight).then_some(Change::Weight {
                service,
                server: address,
                weight,
            });
            return change.into_iter().collect();
        }
        let notify = if availability.is_up {
            &server.notify_up
        } else {
            &server.notify_down
        };
        let mut changes = vec![Change::Server {
            service,
            server: address,
            is_up: availability.is_up,
            reason: self.reason(service, server, before),
            notify: notify.clone(),
        }];
        let recovery = self.recovery(place);
        if !availability.is_up {
            recovery.gone_down();
            return changes;
        }
        recovery.come_up(&plan, now);
        changes.extend(recovery.is_rising().then_some(Change::SlowStart {
            service,
            server: address,
            remaining: Some(plan.slow_start),
        }));
        changes
    }

    /// Why a server whose availability was `before` is up, or is down.
    fn reason(&self, service: ServiceKey, server: &ServerPlan, before: Availability) -> String {
        if let Some(failure) = self.failure(service, server) {
            return failure.clone();
        }
        if !self.is_cut_off(server.address.ip()) {
            let again = "packets reach it again";
            let checked = "its checks succeed";
            return if before.is_cut_off { again } else { checked }.to_owned();
        }
        match self.hop(server.address) {
            Some(Hop::NotReady { reason, .. }) => format!("packets do not reach it: {reason}"),
            _ => "packets do not reach it".to_owned(),
        }
    }

    pub(super) fn availability(&self, place: Place) -> Availability {
        let server = self.server(place);
        Availability {
            is_up: self.is_up(place.0, server),
            is_cut_off: self.is_cut_off(server.address.ip()),
            weight: self.weight(place.0, server),
        }
    }

    /// True if all checks of a server succeed, held out or not.
    fn succeeds(&self, place: Place) -> bool {
        self.check_failure(self.server(place)).is_none()
    }

    fn recovery(&mut self, place: Place) -> &mut Recovery {
        let address = self.server(place).address;
        self.recoveries.entry((place.0, address)).or_default()
    }

    /// That a server whose checks succeed stays out all the same, if it does.
    fn held_out(&mut self, place: Place) -> Option<Change> {
        let server = self.server(place).address;
        let reason = self.recovery(place).hold_reason()?.clone();
        Some(Change::HeldOut {
            service: place.0,
            server,
            reason,
        })
    }

    /// Ends what holds out servers where no other serves, because it is down or
    /// because the operator wants it so: one that flaps is better than none.
    pub(super) fn release_last(&mut self, now: Instant) -> Vec<Change> {
        let mut held: Vec<Place> = Vec::new();
        for service in &self.plan.services {
            let serves = |server| self.weight(service.key, server) > 0;
            if !service.servers.iter().any(serves) {
                let places = (0..service.servers.len()).map(|index| (service.key, index));
                held.extend(places.filter(|place| self.would_serve(*place)));
            }
        }
        let mut changes = Vec::new();
        for place in held {
            let before = self.availability(place);
            self.recovery(place).release();
            changes.extend(self.server_changes(place, before, now));
        }
        changes
    }

    /// True if a server would serve, were it not held out.
    fn would_serve(&self, place: Place) -> bool {
        let server = self.server(place);
        self.check_failure(server).is_none()
            && !self.is_cut_off(server.address.ip())
            && self.share(place.0, server) > 0
    }
}
