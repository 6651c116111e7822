//! Virtual routers that lead together, or one on its own, with all they have.

use std::time::Instant;

use super::group::Group;
use super::holder::Holder;
use super::instance::Instance;
use super::machine::{Machine, Policy, State};
use super::settings::{GroupSettings, InstanceSettings};
use super::status::InstanceStatus;

/// A group with its members' sockets and addresses.
#[derive(Debug)]
pub struct Unit {
    /// The sync group, if it is one.
    pub settings: Option<GroupSettings>,
    /// What decides.
    pub group: Group,
    /// What carries out, in the group's order.
    pub members: Vec<Instance>,
    /// The state that was last told of the sync group.
    pub told: Option<State>,
}

/// A virtual router of earlier settings.
#[derive(Debug)]
pub struct Survivor {
    instance: Instance,
    machine: Machine,
    fault: Option<String>,
    /// Its sync group, and the state that was last told of it.
    told: Option<(String, Option<State>)>,
}

impl Unit {
    /// Puts a unit together, of survivors where there are any.
    pub fn new(
        now: Instant,
        settings: Option<GroupSettings>,
        members: Vec<InstanceSettings>,
        survivors: &mut Vec<Survivor>,
        start_holder: impl Fn(&str) -> Holder,
    ) -> Self {
        let mut machines = Vec::new();
        let mut instances = Vec::new();
        let mut told = None;
        for wanted in members {
            let policy = Policy {
                grouped: settings.is_some(),
                ..wanted.policy
            };
            let same = |survivor: &Survivor| survivor.instance.is_same_router(&wanted);
            match survivors.iter().position(same) {
                Some(index) => {
                    let mut survivor = survivors.swap_remove(index);
                    survivor.machine.set_policy(now, policy);
                    let is_master = survivor.machine.state() == State::Master;
                    survivor.instance.replace_settings(wanted, is_master);
                    let name = settings.as_ref().map(|group| &group.name);
                    told = told.or(survivor.told.filter(|(of, _)| Some(of) == name));
                    machines.push((survivor.machine, survivor.fault));
                    instances.push(survivor.instance);
                }
                None => {
                    machines.push((Machine::new(policy, wanted.priority), None));
                    let holder = start_holder(&wanted.name);
                    instances.push(Instance::new(wanted, holder));
                }
            }
        }
        Self {
            settings,
            group: Group::new(machines),
            members: instances,
            told: told.and_then(|(_, state)| state),
        }
    }

    /// Takes it apart.
    pub fn into_survivors(self) -> Vec<Survivor> {
        let told = self.settings.map(|group| (group.name, self.told));
        let machines = self.group.into_machines();
        let all = self.members.into_iter().zip(machines);
        all.map(|(instance, (machine, fault))| Survivor {
            instance,
            machine,
            fault,
            told: told.clone(),
        })
        .collect()
    }

    /// Whether it has not started yet.
    pub fn is_waiting(&self) -> bool {
        self.group.state() == Some(State::Init)
    }

    /// Its members at the moment.
    pub fn status(&self) -> Vec<InstanceStatus> {
        let group = self.settings.as_ref().map(|group| group.name.as_str());
        let members = self.members.iter().enumerate();
        members
            .map(|(index, member)| member.status(self.group.machine(index), group))
            .collect()
    }
}

/// The members of each group that has any, and each other virtual router by
/// itself.
pub fn partition(
    groups: Vec<GroupSettings>,
    mut instances: Vec<InstanceSettings>,
) -> Vec<(Option<GroupSettings>, Vec<InstanceSettings>)> {
    let mut units = Vec::new();
    for group in groups {
        let is_member = |instance: &mut InstanceSettings| group.members.contains(&instance.name);
        let members: Vec<_> = instances.extract_if(.., is_member).collect();
        // One of a single member has its own tracking and its own scripts, too.
        if !members.is_empty() {
            units.push((Some(group), members));
        }
    }
    units.extend(instances.into_iter().map(|instance| (None, vec![instance])));
    units
}
