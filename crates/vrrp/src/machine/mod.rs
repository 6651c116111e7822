//! One virtual router as a state machine: no sockets, no clock.
//!
//! RFC 3768 §6.4 and RFC 5798 §6.4, where keepalived follows them; keepalived
//! where it differs (it answers a lower priority at once, and announces the
//! addresses again). What is ours alone is said where it is done.

#[cfg(test)]
mod tests;
mod timer;
mod types;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::packet::{Advert, PRIORITY_LEAVING, PRIORITY_OWNER, Version};
use timer::{Timer, TimerTable};

pub(crate) use types::{Action, AnnouncementPolicy, Input, Policy};
pub use types::{Cause, Preemption, State};

/// One virtual router.
///
/// The caller
/// - gives every event to [`handle`](Self::handle), with the present time, and
///   carries out the [`Action`]s that it returns, in their order and before the
///   next event;
/// - after each event asks [`deadline`](Self::deadline) for the time of the next
///   timer, and gives [`Input::Tick`] then (earlier or later does no harm: an
///   early tick does nothing, a late one makes up for it);
/// - gives only adverts that [`Format::check_signed`](super::packet::Format::check_signed)
///   has accepted;
/// - passes the address that adverts are sent from to [`set_local`](Self::set_local),
///   and changed settings to [`set_policy`](Self::set_policy).
///
/// Times that are given never go back. An input that means nothing in the present
/// state is ignored. A member of a sync group ([`Policy::grouped`]) does not become
/// master by itself: [`Group`](super::group::Group) gives it
/// [`Input::BecomeMaster`].
///
/// ```text
///              Start                     MasterDown expires, not grouped;
///   Init ────────────────▶ Backup ──────────────BecomeMaster──────────────▶ Master
///                          ▲ │ ▲ ◀── higher priority, BecomeBackup ───────────┘
///                          │ │ └──── advert that is accepted ────┐            ▲
///                          │ └───── MasterDown expires, grouped ─▶ Candidate ─┘
///                          │                                       BecomeMaster
///                       Recovered
///                          │
///   any state ──Fault──▶ Fault             any state ──Stop──▶ Init
///   Init ──Resume, or Start as the owner of the addresses──▶ Master
/// ```
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    policy: Policy,
    priority: u8,
    /// The address that our adverts come from: the higher one wins a tie.
    local: Option<IpAddr>,
    phase: Phase,
    timers: TimerTable,
    /// The interval of the master's adverts. In version 3 it is in the adverts (RFC 5798
    /// §6.1, `Master_Adver_Interval`); until one comes, and in version 2, it is ours.
    master_interval: Duration,
    /// Time of the last advert that counted, or of the beginning as backup.
    silent_since: Option<Instant>,
    /// The reason to take over from a master that is not silent.
    takeover_cause: Option<Cause>,
    /// The last advert of the router that counts as master.
    master: Option<Advert>,
    /// Time from which a master of lower priority may be replaced.
    preempt_at: Option<Instant>,
    /// The addresses of an earlier run are still on the interface: true until we
    /// become master, or another advertises.
    has_leftovers: bool,
}

/// The state, with two kinds of backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Init,
    /// Waits for [`Timer::MasterDown`].
    Backup,
    /// A backup that would be master, and waits for its sync group.
    Candidate,
    Master,
    Fault,
}

impl From<Phase> for State {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Init => Self::Init,
            Phase::Backup | Phase::Candidate => Self::Backup,
            Phase::Master => Self::Master,
            Phase::Fault => Self::Fault,
        }
    }
}

impl Machine {
    /// A virtual router that has not started.
    pub(crate) fn new(policy: Policy, priority: u8) -> Self {
        Self {
            policy,
            priority,
            local: None,
            phase: Phase::Init,
            timers: TimerTable::default(),
            master_interval: policy.interval,
            silent_since: None,
            takeover_cause: None,
            master: None,
            preempt_at: None,
            has_leftovers: false,
        }
    }

    /// Its state.
    pub(crate) fn state(&self) -> State {
        self.phase.into()
    }

    /// Its priority at the moment.
    pub(crate) fn priority(&self) -> u8 {
        self.priority
    }

    /// Returns true for a backup that would be master, but for its sync group.
    pub(crate) fn is_candidate(&self) -> bool {
        self.phase == Phase::Candidate
    }

    /// The last advert of the router that it counts as master.
    pub(crate) fn master(&self) -> Option<Advert> {
        self.master
    }

    /// Tells which address its adverts come from.
    pub(crate) fn set_local(&mut self, address: Option<IpAddr>) {
        self.local = address;
    }

    /// Replaces the policy; the state stays.
    pub(crate) fn set_policy(&mut self, now: Instant, policy: Policy) {
        let before = std::mem::replace(&mut self.policy, policy);
        if before == policy {
            return;
        }
        match self.phase {
            Phase::Backup => {
                self.master_interval = policy.interval;
                self.wait_for_silence(now);
            }
            Phase::Candidate if !policy.grouped => {
                self.phase = Phase::Backup;
                self.timers.set(Timer::MasterDown, now);
            }
            Phase::Master => {
                if let Some(due) = self.timers.get(Timer::Advert) {
                    let soonest = now + policy.interval;
                    self.timers.set(Timer::Advert, due.min(soonest));
                }
                self.timers
                    .set_after(Timer::Refresh, now, policy.announcing.refresh);
            }
            Phase::Init | Phase::Candidate | Phase::Fault => {}
        }
    }

    /// Time at which to call [`handle`](Self::handle) with [`Input::Tick`].
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timers.next_expiry()
    }

    /// Takes an input at `now`, and returns what to do.
    pub(crate) fn handle(&mut self, now: Instant, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        match (input, self.state()) {
            (Input::Start { has_leftovers }, State::Init) => {
                self.has_leftovers = has_leftovers;
                self.start(now, Cause::Started, &mut actions);
            }
            (Input::Resume, State::Init) => self.resume(now, &mut actions),
            (Input::Recovered, State::Fault) => self.start(now, Cause::Recovered, &mut actions),
            (Input::Tick, State::Backup) => self.tick_backup(now, &mut actions),
            (Input::Tick, State::Master) => self.tick_master(now, &mut actions),
            (Input::Advert(advert), State::Backup) => {
                self.advert_in_backup(now, advert, &mut actions)
            }
            (Input::Advert(advert), State::Master) => {
                self.advert_in_master(now, advert, &mut actions)
            }
            (Input::Priority(priority), _) => self.change_priority(now, priority),
            (Input::Fault(_), State::Fault) => {}
            (Input::Fault(reason), _) => {
                // An earlier run may have left the addresses.
                self.has_leftovers |= self.phase == Phase::Init;
                self.stop_as(Phase::Fault, Cause::Fault(reason), &mut actions);
            }
            (Input::BecomeMaster, State::Backup) => {
                self.become_master(now, Cause::Group, &mut actions)
            }
            (Input::BecomeBackup(reason), State::Master) => {
                self.stop_as(Phase::Backup, Cause::GroupYields(reason), &mut actions);
                self.master_interval = self.policy.interval;
                self.wait_for_silence(now);
            }
            (Input::Stop, State::Backup | State::Master | State::Fault) => {
                self.stop_as(Phase::Init, Cause::Stopped, &mut actions);
            }
            (
                Input::Start { .. }
                | Input::Resume
                | Input::Recovered
                | Input::Tick
                | Input::Advert(_)
                | Input::BecomeMaster
                | Input::BecomeBackup(_)
                | Input::Stop,
                _,
            ) => {}
        }
        actions
    }

    /// RFC 3768 §6.4.1, from `Init`; also from `Fault`.
    fn start(&mut self, now: Instant, cause: Cause, actions: &mut Vec<Action>) {
        self.master_interval = self.policy.interval;
        if self.policy.owner && self.priority == PRIORITY_OWNER {
            if !self.policy.grouped {
                return self.become_master(now, Cause::Owner, actions);
            }
            self.phase = Phase::Candidate;
        } else {
            self.wait_for_silence(now);
            if self.has_leftovers {
                // Ours alone: the router that held the addresses a moment ago, in
                // an earlier run, becomes master again before the others miss it.
                // Another router that has taken over advertises within one interval.
                let expiry = now + self.master_interval + self.skew();
                self.timers.set(Timer::MasterDown, expiry);
            }
        }
        actions.push(Action::Entered(State::Backup, cause));
    }

    /// Is backup until the master falls silent.
    fn wait_for_silence(&mut self, now: Instant) {
        self.phase = Phase::Backup;
        self.silent_since = Some(now);
        self.takeover_cause = None;
        self.timers
            .set(Timer::MasterDown, now + self.master_down_interval());
    }

    /// RFC 3768 §6.1, `Master_Down_Interval`.
    fn master_down_interval(&self) -> Duration {
        self.policy.down_timer_adverts * self.master_interval + self.skew()
    }

    /// RFC 3768 §6.1, RFC 5798 §6.1, `Skew_Time`.
    fn skew(&self) -> Duration {
        let unit = match self.policy.version {
            Version::V2 => Duration::from_secs(1),
            Version::V3 => self.master_interval,
        };
        unit * (256 - u32::from(self.priority)) / 256
    }

    fn tick_backup(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.timers.take_expired(Timer::MasterDown, now).is_none() {
            return;
        }
        if self.policy.grouped {
            self.phase = Phase::Candidate;
            return;
        }
        let silence = now - self.silent_since.unwrap_or(now);
        let cause = self
            .takeover_cause
            .take()
            .unwrap_or(Cause::Silence(silence));
        self.become_master(now, cause, actions);
    }

    /// RFC 3768 §6.4.2: the master-down timer has expired.
    fn become_master(&mut self, now: Instant, cause: Cause, actions: &mut Vec<Action>) {
        let announcing = self.policy.announcing;
        self.phase = Phase::Master;
        self.master = None;
        self.preempt_at = None;
        self.has_leftovers = false;
        self.timers.stop_all();
        self.timers
            .set_after(Timer::SecondSet, now, announcing.delay);
        self.timers
            .set_after(Timer::Refresh, now, announcing.refresh);
        self.advertise(now, actions);
        actions.push(Action::AddAddresses);
        announce(announcing.repeat, actions);
        actions.push(Action::Entered(State::Master, cause));
    }

    /// Ours alone: the network has noticed nothing, so there is nothing to add
    /// or to announce; the advert restarts the backups' master-down timers.
    fn resume(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.phase = Phase::Master;
        self.timers.stop_all();
        self.timers
            .set_after(Timer::Refresh, now, self.policy.announcing.refresh);
        self.advertise(now, actions);
        actions.push(Action::Entered(State::Master, Cause::HandedOver));
    }

    fn tick_master(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let announcing = self.policy.announcing;
        if let Some(due) = self.timers.take_expired(Timer::Advert, now) {
            self.advertise(now, actions);
            // From when it was due, so that adverts do not drift; from now, if that
            // is over already.
            let next = due + self.policy.interval;
            if next > now {
                self.timers.set(Timer::Advert, next);
            }
        }
        if self.timers.take_expired(Timer::SecondSet, now).is_some() {
            announce(announcing.repeat, actions);
        }
        let second = Timer::SecondLowerPrioritySet;
        if self.timers.take_expired(second, now).is_some() {
            announce(announcing.lower_priority_repeat, actions);
        }
        if self.timers.take_expired(Timer::Refresh, now).is_some() {
            announce(announcing.refresh_repeat, actions);
            self.timers
                .set_after(Timer::Refresh, now, announcing.refresh);
        }
    }

    /// RFC 3768 §6.4.2.
    fn advert_in_backup(&mut self, now: Instant, advert: Advert, actions: &mut Vec<Action>) {
        if advert.priority == PRIORITY_LEAVING {
            if self.phase != Phase::Candidate {
                self.timers.set(Timer::MasterDown, now + self.skew());
            }
            self.takeover_cause = Some(Cause::MasterLeft(advert.source));
            self.master = None;
            return;
        }
        // Another holds the addresses: those of an earlier run would be twice on the
        // network.
        if std::mem::take(&mut self.has_leftovers) {
            actions.push(Action::RemoveAddresses);
        }
        self.master = Some(advert);
        if self.accepts_master(now, advert.priority) {
            if self.policy.version == Version::V3 {
                self.master_interval = advert.interval;
            }
            self.wait_for_silence(now);
        } else {
            self.takeover_cause = Some(Cause::LowerPriority(advert.source, advert.priority));
        }
    }

    /// Returns true if a master of this priority is not to be replaced now.
    fn accepts_master(&mut self, now: Instant, priority: u8) -> bool {
        if priority >= self.priority {
            self.preempt_at = None;
            return true;
        }
        match self.policy.preemption {
            Preemption::Never => true,
            Preemption::AtOnce => false,
            Preemption::After(delay) => *self.preempt_at.get_or_insert(now + delay) > now,
        }
    }

    /// RFC 3768 §6.4.3.
    fn advert_in_master(&mut self, now: Instant, advert: Advert, actions: &mut Vec<Action>) {
        let ours = self.priority;
        let Advert {
            source, priority, ..
        } = advert;
        if priority == PRIORITY_LEAVING {
            self.advertise(now, actions);
        } else if priority > ours {
            let cause = Cause::HigherPriority(source, priority);
            self.become_backup(now, advert, cause, actions);
        } else if priority < ours {
            self.answer_lower_priority(now, actions);
        } else if let Some(local) = self.local {
            // An advert from our own address is our own, come round again.
            if source > local {
                self.become_backup(now, advert, Cause::HigherAddress(source), actions);
            } else if source < local {
                self.answer_lower_priority(now, actions);
            }
        }
    }

    /// Sends an advert now, and the next one an interval later.
    fn advertise(&mut self, now: Instant, actions: &mut Vec<Action>) {
        actions.push(Action::Advertise {
            priority: self.priority,
        });
        self.timers.set(Timer::Advert, now + self.policy.interval);
    }

    fn become_backup(
        &mut self,
        now: Instant,
        advert: Advert,
        cause: Cause,
        actions: &mut Vec<Action>,
    ) {
        if self.policy.answer_higher_priority {
            actions.push(Action::Advertise {
                priority: self.priority,
            });
        }
        self.timers.stop_all();
        self.master = Some(advert);
        self.master_interval = match self.policy.version {
            Version::V2 => self.policy.interval,
            Version::V3 => advert.interval,
        };
        self.wait_for_silence(now);
        actions.push(Action::RemoveAddresses);
        actions.push(Action::Entered(State::Backup, cause));
    }

    /// Another router advertises as master. An advert makes it backup; announcements
    /// correct the MAC address that the network may have learnt from it.
    fn answer_lower_priority(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let announcing = self.policy.announcing;
        if self.policy.answer_lower_priority {
            self.advertise(now, actions);
        }
        if announcing.lower_priority_repeat > 0 {
            announce(announcing.lower_priority_repeat, actions);
            self.timers.set_after(
                Timer::SecondLowerPrioritySet,
                now,
                announcing.lower_priority_delay,
            );
        }
    }

    /// Changes the priority, and with it the skew of a running master-down timer.
    fn change_priority(&mut self, now: Instant, priority: u8) {
        let before = self.skew();
        self.priority = priority;
        let after = self.skew();
        if let Some(due) = self.timers.get(Timer::MasterDown) {
            let due = (due + after).checked_sub(before);
            let expiry = due.map_or(now, |due| due.max(now));
            self.timers.set(Timer::MasterDown, expiry);
        }
    }

    /// Enters a phase in which nothing is sent and no timer runs. A master sends an advert
    /// with priority 0 first, so that its successor need not wait for its silence.
    fn stop_as(&mut self, phase: Phase, cause: Cause, actions: &mut Vec<Action>) {
        let was_master = self.phase == Phase::Master;
        if was_master {
            actions.push(Action::Advertise {
                priority: PRIORITY_LEAVING,
            });
        }
        if std::mem::take(&mut self.has_leftovers) || was_master {
            actions.push(Action::RemoveAddresses);
        }
        self.phase = phase;
        self.timers.stop_all();
        self.master = None;
        self.preempt_at = None;
        actions.push(Action::Entered(phase.into(), cause));
    }
}

fn announce(repeat: u32, actions: &mut Vec<Action>) {
    if repeat > 0 {
        actions.push(Action::Announce { repeat });
    }
}
