//! Priorities and faults of a unit's members, from what they track.

use std::time::Instant;

use super::{StartMode, Unit};
use crate::instance::Instance;
use crate::machine::{Input, State};
use crate::packet_queue::PacketQueue;
use crate::tracking::watched::Watched;
use crate::tracking::{self, Evaluation, Tracked, TrackedSubject};
use netlink::interfaces::Interfaces;

impl Unit {
    /// Gives every member the priority and the fault that follow from what is
    /// tracked and from its sockets, which are opened if they can be. Returns true
    /// if a fault of a member is not decided yet.
    pub(crate) fn evaluate(
        &mut self,
        now: Instant,
        watched: &Watched,
        interfaces: &Interfaces,
        packets: &mut PacketQueue,
    ) -> bool {
        let mut undecided = false;
        for member in 0..self.members.len() {
            let evaluation = self.evaluate_member(member, watched, interfaces);
            undecided |= evaluation.undecided;
            self.apply_evaluation(now, member, evaluation, interfaces, packets);
        }
        for (index, member) in self.members.iter_mut().enumerate() {
            if let Some(reason) = self.group.fault_of(index) {
                member.renew_fault(reason);
            }
        }
        undecided
    }

    /// The way to start now; `None` if it has started, or must wait. `handed_over`
    /// are the virtual routers that were master in an earlier run.
    pub(crate) fn start_mode(
        &self,
        handed_over: &[String],
        may_start: bool,
        interfaces: &Interfaces,
    ) -> Option<StartMode> {
        let has_addresses = |member: &Instance| member.has_all_addresses(interfaces);
        let was_master = |member: &Instance| {
            handed_over.contains(&member.settings.name)
                && member.local_address().is_some()
                && has_addresses(member)
        };
        if !self.is_waiting() {
            None
        } else if self.members.iter().all(was_master) {
            // It waits for nothing: what is tracked is looked at later, as it is
            // with any master.
            Some(StartMode::Resume)
        } else {
            may_start.then(|| StartMode::Fresh {
                has_leftovers: self.members.iter().all(has_addresses),
            })
        }
    }

    fn evaluate_member(
        &self,
        member: usize,
        watched: &Watched,
        interfaces: &Interfaces,
    ) -> Evaluation {
        let settings = &self.members[member].settings;
        let mut tracked: Vec<Tracked> = settings.tracked.clone();
        if let Some(group) = &self.settings {
            // Within a group, members' own weights do not count, lest their
            // priorities contradict each other: keepalived 2.2.7 leaves out
            // scripts and files with a weight, and takes that of an interface
            // for 0. A quorum counts for all members alike.
            tracked.retain(|own| own.weight == 0 || !own.subject.has_own_weight());
            for own in &mut tracked {
                if own.subject != TrackedSubject::Quorum {
                    own.weight = 0;
                }
            }
            tracked.extend(group.tracked.iter().cloned());
        }
        tracking::evaluate(settings.priority, &tracked, |subject| {
            let held = self.members.iter().flat_map(|it| &it.settings.addresses);
            watched.health_of(subject, interfaces, held.map(|held| &held.address))
        })
    }

    fn apply_evaluation(
        &mut self,
        now: Instant,
        member: usize,
        evaluation: Evaluation,
        interfaces: &Interfaces,
        packets: &mut PacketQueue,
    ) {
        let instance = &mut self.members[member];
        let missing = instance.connect(interfaces, packets);
        let fault = evaluation.fault.or(missing);
        let machine = self.group.machine_mut(member);
        machine.set_local(instance.local_address());
        instance.follow_interfaces(interfaces, machine.state() == State::Master);
        let mut actions = Vec::new();
        if machine.priority() != evaluation.priority {
            let name = &instance.settings.name;
            log::info!("{name}: its priority is {} now", evaluation.priority);
            let input = Input::Priority(evaluation.priority);
            actions = self.group.handle(now, member, input);
        }
        actions.extend(self.group.set_fault(now, member, fault));
        self.apply(actions);
    }
}
