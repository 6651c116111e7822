//! A sync group, or a virtual router without one, with its sockets and addresses.

mod evaluation;

use std::time::Instant;

use tokio::sync::mpsc;

use super::address_manager::AddressManager;
use super::event::{Event, Subject};
use super::group::{Group, MemberAction};
use super::instance::Instance;
use super::machine::{Input, Machine, Policy, State};
use super::packet::Advert;
use super::settings::{GroupSettings, InstanceSettings};
use super::socket::Received;
use super::status::InstanceStatus;
use netlink::interfaces::Interfaces;

/// A [`Group`], which decides, with the [`Instance`]s that carry out its actions.
#[derive(Debug)]
pub(crate) struct Unit {
    /// The sync group, if it is one.
    settings: Option<GroupSettings>,
    group: Group,
    /// In the group's order.
    members: Vec<Instance>,
    /// The state that was last reported of the sync group.
    reported: Option<State>,
    events: mpsc::UnboundedSender<Event>,
}

/// The way in which a unit that has not started begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartMode {
    /// As the master that an earlier run has handed over.
    Resume,
    /// By listening for a master.
    Fresh {
        /// All addresses of an earlier run are still on the interfaces.
        has_leftovers: bool,
    },
}

/// A virtual router of earlier settings, with its state.
#[derive(Debug)]
pub(crate) struct KeptRouter {
    instance: Instance,
    machine: Machine,
    fault: Option<String>,
    /// Its sync group, and the state that was last reported of that.
    reported: Option<(String, Option<State>)>,
}

impl Unit {
    /// Makes a unit of the routers among `kept` that are its members, and of new
    /// ones.
    pub(crate) fn new(
        now: Instant,
        settings: Option<GroupSettings>,
        members: Vec<InstanceSettings>,
        kept: &mut Vec<KeptRouter>,
        start_address_manager: impl Fn(&str) -> AddressManager,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        let mut machines = Vec::new();
        let mut instances = Vec::new();
        let mut reported = None;
        for wanted in members {
            let policy = Policy {
                grouped: settings.is_some(),
                ..wanted.policy
            };
            let same = |router: &KeptRouter| router.instance.is_same_router(&wanted);
            match kept.iter().position(same) {
                Some(index) => {
                    let mut router = kept.swap_remove(index);
                    router.machine.set_policy(now, policy);
                    let is_master = router.machine.state() == State::Master;
                    router.instance.replace_settings(wanted, is_master);
                    let name = settings.as_ref().map(|group| &group.name);
                    reported = reported.or(router.reported.filter(|(of, _)| Some(of) == name));
                    machines.push((router.machine, router.fault));
                    instances.push(router.instance);
                }
                None => {
                    machines.push((Machine::new(policy, wanted.priority), None));
                    let addresses = start_address_manager(&wanted.name);
                    instances.push(Instance::new(wanted, addresses));
                }
            }
        }
        let mut unit = Self {
            settings,
            group: Group::new(machines),
            members: instances,
            reported: reported.and_then(|(_, state)| state),
            events,
        };
        let actions = unit.group.reconcile(now);
        unit.apply(actions);
        unit
    }

    /// Its members, to be put into the units of other settings.
    pub(crate) fn into_kept_routers(self) -> Vec<KeptRouter> {
        let reported = self.settings.map(|group| (group.name, self.reported));
        let machines = self.group.into_machines();
        let all = self.members.into_iter().zip(machines);
        all.map(|(instance, (machine, fault))| KeptRouter {
            instance,
            machine,
            fault,
            reported: reported.clone(),
        })
        .collect()
    }

    /// Its members.
    pub(crate) fn members(&self) -> &[Instance] {
        &self.members
    }

    /// Returns true if it has not started yet.
    pub(crate) fn is_waiting(&self) -> bool {
        self.group.state() == Some(State::Init)
    }

    /// Its members at the moment.
    pub(crate) fn status(&self) -> Vec<InstanceStatus> {
        let group = self.settings.as_ref().map(|group| group.name.as_str());
        let members = self.members.iter().enumerate();
        members
            .map(|(index, member)| member.status(self.group.machine(index), group))
            .collect()
    }

    /// Indices of the members that are master.
    pub(crate) fn masters(&self) -> impl Iterator<Item = usize> {
        let is_master = move |member: &usize| self.group.machine(*member).state() == State::Master;
        (0..self.members.len()).filter(is_master)
    }

    /// Time at which to call [`on_timer`](Self::on_timer).
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.group.deadline()
    }

    /// Lets expired timers take effect.
    pub(crate) fn on_timer(&mut self, now: Instant) {
        let actions = self.group.tick(now);
        self.apply(actions);
    }

    /// Handles a packet of a member's socket.
    pub(crate) fn on_packet(&mut self, now: Instant, member: usize, received: &Received) {
        if let Some(advert) = self.check(member, received) {
            let actions = self.group.handle(now, member, Input::Advert(advert));
            self.apply(actions);
        }
    }

    /// Checks and counts a packet of a member's socket.
    pub(crate) fn check(&mut self, member: usize, received: &Received) -> Option<Advert> {
        self.members[member].check(received)
    }

    /// Closes the sockets of a member that can receive no more.
    pub(crate) fn on_receive_error(&mut self, member: usize, error: &std::io::Error) {
        self.members[member].disconnect(error);
    }

    /// Starts all members.
    pub(crate) fn start(&mut self, now: Instant, mode: StartMode, interfaces: &Interfaces) {
        let actions = match mode {
            StartMode::Resume => self.group.resume(now),
            StartMode::Fresh { has_leftovers } => {
                if !has_leftovers {
                    // Half of what an earlier run held is of no use.
                    for member in &self.members {
                        member.remove_leftovers(interfaces);
                    }
                }
                self.group.start(now, has_leftovers)
            }
        };
        self.apply(actions);
        if mode == StartMode::Resume {
            for member in &self.members {
                // A lost address is seen at its interface; routes are checked
                // periodically, for which the manager must know them.
                let routes = member.settings.routes.clone();
                member.address_manager.add(Vec::new(), routes);
            }
        }
    }

    /// Stops all members.
    pub(crate) fn stop(&mut self, now: Instant) {
        let actions = self.group.stop(now);
        self.apply(actions);
    }

    /// Stops the members that `is_wanted` rejects and takes them out; the others go
    /// on without them. Returns what still removes their addresses.
    pub(crate) fn stop_members(
        &mut self,
        now: Instant,
        is_wanted: impl Fn(&Instance) -> bool,
    ) -> Vec<AddressManager> {
        let mut stopping = Vec::new();
        for member in (0..self.members.len()).rev() {
            if is_wanted(&self.members[member]) {
                continue;
            }
            let actions = self.group.stop_member(now, member);
            self.apply(actions);
            self.group.remove(member);
            stopping.push(self.members.remove(member).address_manager);
        }
        stopping
    }

    /// Ends all members without a change to their addresses. Masters send a last
    /// advert, which gives the next program the longest time to send its own.
    /// Returns the masters' names, and what may still change addresses.
    pub(crate) fn hand_over(mut self) -> (Vec<String>, Vec<AddressManager>) {
        let masters: Vec<usize> = self.masters().collect();
        let names = masters.into_iter().map(|member| {
            let priority = self.group.machine(member).priority();
            let instance = &mut self.members[member];
            instance.advertise(priority);
            instance.settings.name.clone()
        });
        (names.collect(), self.into_address_managers())
    }

    /// Drops all but what still changes addresses.
    pub(crate) fn into_address_managers(self) -> Vec<AddressManager> {
        let members = self.members.into_iter();
        members.map(|member| member.address_manager).collect()
    }

    /// Carries out what the group has decided, and reports changes of state.
    fn apply(&mut self, actions: Vec<MemberAction>) {
        let mut last_cause = None;
        for MemberAction { member, action } in actions {
            let instance = &mut self.members[member];
            if let Some((state, cause)) = instance.apply(action) {
                last_cause = Some(cause.clone());
                let event = Event {
                    subject: Subject::Instance,
                    name: instance.settings.name.clone(),
                    state,
                    cause,
                    priority: self.group.machine(member).priority(),
                };
                self.report(event);
            }
        }
        if let (Some(settings), Some(cause), Some(state)) =
            (&self.settings, last_cause, self.group.state())
            && self.reported != Some(state)
        {
            let event = Event {
                subject: Subject::Group,
                name: settings.name.clone(),
                state,
                cause,
                priority: 0,
            };
            self.reported = Some(state);
            self.report(event);
        }
    }

    fn report(&self, event: Event) {
        let level = match event.state {
            State::Fault => log::Level::Warn,
            State::Init | State::Backup | State::Master => log::Level::Info,
        };
        log::log!(level, "{event}");
        // Nobody listens while the end is waited for.
        let _ = self.events.send(event);
    }
}

/// The members of each group that has any, and each other virtual router by
/// itself.
pub(crate) fn partition(
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
