//! Virtual routers that are master together or not at all (`vrrp_sync_group`).
//!
//! The group becomes master once every member can; when one must become backup, or
//! has a fault, all of them do. (keepalived prefers "backup" in the same way, and
//! so do we where priorities of the members contradict each other.)

use std::time::Instant;

use super::machine::{Action, Input, Machine, State};

/// Virtual routers that are in one state. A router on its own is a group of one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Group {
    members: Vec<Member>,
}

#[derive(Debug, Clone)]
struct Member {
    machine: Machine,
    /// The member's own fault.
    fault: Option<String>,
}

/// An action that a member asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberAction {
    /// Its place in the group.
    pub member: usize,
    /// The action.
    pub action: Action,
}

impl Group {
    /// A group of these, in whatever state they are; see
    /// [`reconcile`](Self::reconcile). The machines' policies are `grouped` exactly if they
    /// are a sync group, of however many members.
    pub(crate) fn new(machines: impl IntoIterator<Item = (Machine, Option<String>)>) -> Self {
        Self {
            members: machines
                .into_iter()
                .map(|(machine, fault)| Member { machine, fault })
                .collect(),
        }
    }

    /// Takes the group apart: each member with its own fault.
    pub(crate) fn into_machines(self) -> impl Iterator<Item = (Machine, Option<String>)> {
        self.members
            .into_iter()
            .map(|member| (member.machine, member.fault))
    }

    /// A member.
    pub(crate) fn machine(&self, member: usize) -> &Machine {
        &self.members[member].machine
    }

    /// A member, for changes that are no [`Input`].
    pub(crate) fn machine_mut(&mut self, member: usize) -> &mut Machine {
        &mut self.members[member].machine
    }

    /// The state that all members are in; `None` while they differ.
    pub(crate) fn state(&self) -> Option<State> {
        let mut states = self.members.iter().map(|member| member.machine.state());
        let first = states.next()?;
        states.all(|state| state == first).then_some(first)
    }

    /// Time at which to call [`tick`](Self::tick).
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.members
            .iter()
            .filter_map(|member| member.machine.deadline())
            .min()
    }

    /// Lets time pass for all members.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<MemberAction> {
        self.all(now, |_| Input::Tick)
    }

    /// Starts all members; `has_leftovers` as in [`Input::Start`].
    pub(crate) fn start(&mut self, now: Instant, has_leftovers: bool) -> Vec<MemberAction> {
        match self.fault() {
            Some(fault) => self.all(now, |member| Input::Fault(fault.reason_for(member))),
            None => self.all(now, |_| Input::Start { has_leftovers }),
        }
    }

    /// Starts all members as the masters that they were a moment ago; see
    /// [`Input::Resume`].
    pub(crate) fn resume(&mut self, now: Instant) -> Vec<MemberAction> {
        self.all(now, |_| Input::Resume)
    }

    /// Stops all members.
    pub(crate) fn stop(&mut self, now: Instant) -> Vec<MemberAction> {
        self.all(now, |_| Input::Stop)
    }

    /// Stops one member that the others are to go on without; then
    /// [`remove`](Self::remove) it.
    pub(crate) fn stop_member(&mut self, now: Instant, member: usize) -> Vec<MemberAction> {
        let mut actions = Vec::new();
        self.handle_one(now, member, Input::Stop, &mut actions);
        actions
    }

    /// Removes a member.
    pub(crate) fn remove(&mut self, member: usize) {
        self.members.remove(member);
    }

    /// Gives an input to one member; not for faults and recoveries, which
    /// [`set_fault`](Self::set_fault) takes.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        member: usize,
        input: Input,
    ) -> Vec<MemberAction> {
        let mut actions = Vec::new();
        self.handle_one(now, member, input, &mut actions);
        self.follow(now, &mut actions);
        actions
    }

    /// Sets or clears the fault of a member.
    pub(crate) fn set_fault(
        &mut self,
        now: Instant,
        member: usize,
        fault: Option<String>,
    ) -> Vec<MemberAction> {
        self.members[member].fault = fault;
        self.reconcile(now)
    }

    /// Brings members to one state after the group, or a fault, has changed.
    pub(crate) fn reconcile(&mut self, now: Instant) -> Vec<MemberAction> {
        let started = |member: &Member| member.machine.state() != State::Init;
        if !self.members.iter().any(started) {
            return Vec::new();
        }
        match self.fault() {
            Some(fault) => self.all(now, |member| Input::Fault(fault.reason_for(member))),
            None => {
                let mut actions = self.all(now, |_| Input::Recovered);
                let joined = self.all(now, |_| Input::Start {
                    has_leftovers: false,
                });
                actions.extend(joined);
                actions
            }
        }
    }

    /// The reason that keeps a member in `fault`, its own or another member's;
    /// `None` if nothing does.
    pub(crate) fn fault_of(&self, member: usize) -> Option<String> {
        Some(self.fault()?.reason_for(member))
    }

    fn fault(&self) -> Option<MemberFault> {
        let alone = self.members.len() == 1;
        self.members.iter().enumerate().find_map(|(index, member)| {
            let reason = member.fault.clone()?;
            Some(MemberFault {
                member: index,
                reason,
                alone,
            })
        })
    }

    fn all(&mut self, now: Instant, input: impl Fn(usize) -> Input) -> Vec<MemberAction> {
        let mut actions = Vec::new();
        for member in 0..self.members.len() {
            self.handle_one(now, member, input(member), &mut actions);
        }
        self.follow(now, &mut actions);
        actions
    }

    fn handle_one(
        &mut self,
        now: Instant,
        member: usize,
        input: Input,
        out: &mut Vec<MemberAction>,
    ) {
        let actions = self.members[member].machine.handle(now, input);
        out.extend(
            actions
                .into_iter()
                .map(|action| MemberAction { member, action }),
        );
    }

    /// Makes all members follow the one that has changed.
    fn follow(&mut self, now: Instant, out: &mut Vec<MemberAction>) {
        let is_master = |member: &Member| member.machine.state() == State::Master;
        let can_be_master = |member: &Member| is_master(member) || member.machine.is_candidate();
        if self.members.iter().all(can_be_master) {
            for member in 0..self.members.len() {
                self.handle_one(now, member, Input::BecomeMaster, out);
            }
        } else if self.members.iter().any(is_master) {
            let reason = self.reason_to_yield(out);
            for member in 0..self.members.len() {
                self.handle_one(now, member, Input::BecomeBackup(reason.clone()), out);
            }
        }
    }

    /// The cause for which a member has stopped being master just now.
    fn reason_to_yield(&self, actions: &[MemberAction]) -> String {
        let cause = actions
            .iter()
            .rev()
            .find_map(|MemberAction { action, .. }| match action {
                Action::Entered(State::Backup, cause) => Some(cause.to_string()),
                _ => None,
            });
        cause.unwrap_or_else(|| "another member cannot be master".to_owned())
    }
}

struct MemberFault {
    member: usize,
    reason: String,
    alone: bool,
}

impl MemberFault {
    fn reason_for(&self, member: usize) -> String {
        if self.alone || member == self.member {
            self.reason.clone()
        } else {
            format!("its sync group: {}", self.reason)
        }
    }
}

#[cfg(test)]
mod tests;
