//! One virtual router as a state machine: no sockets, no clock.
//!
//! RFC 3768 §6.4 and RFC 5798 §6.4, where keepalived follows them; keepalived
//! where it differs (it answers a lower priority at once, and announces the
//! addresses again). What is ours alone is said where it is done.

#[cfg(test)]
mod tests;
mod types;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::packet::{Heard, PRIORITY_LEAVING, PRIORITY_OWNER, Version};

pub use types::{Action, Announcing, Cause, Input, Policy, Preemption, State};

/// One virtual router.
#[derive(Debug, Clone)]
pub struct Machine {
    policy: Policy,
    priority: u8,
    /// The address that our adverts come from: the higher one wins a tie.
    local: Option<IpAddr>,
    state: State,
    timers: Timers,
    /// The interval of the master's adverts; ours, until it tells in version 3.
    master_interval: Duration,
    /// When the last advert that counted came, or listening began.
    silent_since: Option<Instant>,
    /// Why to take over from a master that is not silent.
    dismissal: Option<Cause>,
    /// Who is master, as far as heard.
    master: Option<Heard>,
    /// When a master of lower priority may be replaced.
    preempt_at: Option<Instant>,
    /// Would lead, but for the sync group.
    candidate: bool,
    /// The addresses of an earlier run are still there.
    holding: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Timers {
    advert: Option<Instant>,
    master_down: Option<Instant>,
    second_volley: Option<Instant>,
    second_lower_priority_volley: Option<Instant>,
    refresh: Option<Instant>,
}

impl Machine {
    /// A virtual router that has not started.
    pub fn new(policy: Policy, priority: u8) -> Self {
        Self {
            policy,
            priority,
            local: None,
            state: State::Init,
            timers: Timers::default(),
            master_interval: policy.interval,
            silent_since: None,
            dismissal: None,
            master: None,
            preempt_at: None,
            candidate: false,
            holding: false,
        }
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Its priority at the moment.
    pub fn priority(&self) -> u8 {
        self.priority
    }

    /// Whether it would lead, but for its sync group.
    pub fn is_candidate(&self) -> bool {
        self.candidate
    }

    /// The last advert of the router that it takes for the master.
    pub fn master(&self) -> Option<Heard> {
        self.master
    }

    /// Tells which address its adverts come from.
    pub fn set_local(&mut self, address: Option<IpAddr>) {
        self.local = address;
    }

    /// Changes what it keeps to; its state stays.
    pub fn set_policy(&mut self, now: Instant, policy: Policy) {
        let before = std::mem::replace(&mut self.policy, policy);
        if before == policy {
            return;
        }
        match self.state {
            State::Backup if !self.candidate => {
                self.master_interval = policy.interval;
                self.listen(now);
            }
            State::Backup if !policy.grouped => {
                self.candidate = false;
                self.timers.master_down = Some(now);
            }
            State::Master => {
                let soonest = now + policy.interval;
                self.timers.advert = self.timers.advert.map(|due| due.min(soonest));
                self.timers.refresh = after(now, policy.announcing.refresh);
            }
            State::Init | State::Backup | State::Fault => {}
        }
    }

    /// When to call [`handle`](Self::handle) with [`Input::Tick`].
    pub fn deadline(&self) -> Option<Instant> {
        let timers = &self.timers;
        [
            timers.advert,
            timers.master_down,
            timers.second_volley,
            timers.second_lower_priority_volley,
            timers.refresh,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Takes an input at `now`, and says what to do.
    pub fn handle(&mut self, now: Instant, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        match (input, self.state) {
            (Input::Start { holding }, State::Init) => {
                self.holding = holding;
                self.begin(now, Cause::Started, &mut actions);
            }
            (Input::LeadOn, State::Init) => self.lead_on(now, &mut actions),
            (Input::Recovered, State::Fault) => self.begin(now, Cause::Recovered, &mut actions),
            (Input::Tick, State::Backup) => self.tick_backup(now, &mut actions),
            (Input::Tick, State::Master) => self.tick_master(now, &mut actions),
            (Input::Heard(heard), State::Backup) => self.hear_backup(now, heard, &mut actions),
            (Input::Heard(heard), State::Master) => self.hear_master(now, heard, &mut actions),
            (Input::Priority(priority), _) => self.change_priority(now, priority),
            (Input::Fault(_), State::Fault) => {}
            (Input::Fault(reason), _) => {
                // An earlier run may have left the addresses.
                self.holding |= self.state == State::Init;
                self.leave(State::Fault, Cause::Fault(reason), &mut actions);
            }
            (Input::Lead, State::Backup) => self.lead(now, Cause::Group, &mut actions),
            (Input::Yield(reason), State::Master) => {
                self.leave(State::Backup, Cause::GroupYields(reason), &mut actions);
                self.master_interval = self.policy.interval;
                self.listen(now);
            }
            (Input::Stop, State::Backup | State::Master | State::Fault) => {
                self.leave(State::Init, Cause::Stopped, &mut actions);
            }
            (
                Input::Start { .. }
                | Input::LeadOn
                | Input::Recovered
                | Input::Tick
                | Input::Heard(_)
                | Input::Lead
                | Input::Yield(_)
                | Input::Stop,
                _,
            ) => {}
        }
        actions
    }

    /// RFC 3768 §6.4.1, from `Init`; also from `Fault`.
    fn begin(&mut self, now: Instant, cause: Cause, actions: &mut Vec<Action>) {
        self.master_interval = self.policy.interval;
        self.state = State::Backup;
        if self.policy.owner && self.priority == PRIORITY_OWNER {
            if !self.policy.grouped {
                return self.lead(now, Cause::Owner, actions);
            }
            self.candidate = true;
        } else {
            self.listen(now);
            if self.holding {
                // Ours alone: whoever held the addresses a moment ago, in an
                // earlier run, goes on before the others miss it. One whole
                // interval of listening tells whether another has taken over.
                self.timers.master_down = Some(now + self.master_interval + self.skew());
            }
        }
        actions.push(Action::Entered(State::Backup, cause));
    }

    /// Waits for the master to fall silent.
    fn listen(&mut self, now: Instant) {
        self.silent_since = Some(now);
        self.dismissal = None;
        self.candidate = false;
        self.timers.master_down = Some(now + self.master_down());
    }

    /// RFC 3768 §6.1, `Master_Down_Interval`.
    fn master_down(&self) -> Duration {
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
        if !is_due(&mut self.timers.master_down, now) {
            return;
        }
        if self.policy.grouped {
            self.candidate = true;
            return;
        }
        let silence = now - self.silent_since.unwrap_or(now);
        let cause = self.dismissal.take().unwrap_or(Cause::Silence(silence));
        self.lead(now, cause, actions);
    }

    /// RFC 3768 §6.4.2: the master-down timer has fired.
    fn lead(&mut self, now: Instant, cause: Cause, actions: &mut Vec<Action>) {
        let announcing = self.policy.announcing;
        self.state = State::Master;
        self.master = None;
        self.preempt_at = None;
        self.candidate = false;
        self.holding = false;
        self.timers = Timers {
            advert: Some(now + self.policy.interval),
            second_volley: after(now, announcing.delay),
            refresh: after(now, announcing.refresh),
            ..Timers::default()
        };
        actions.push(Action::Advertise {
            priority: self.priority,
        });
        actions.push(Action::AddAddresses);
        announce(announcing.repeat, actions);
        actions.push(Action::Entered(State::Master, cause));
    }

    /// Ours alone: the network has noticed nothing, so there is nothing to add
    /// or to announce; the advert tells the others that all is as it was.
    fn lead_on(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.state = State::Master;
        self.timers = Timers {
            advert: Some(now + self.policy.interval),
            refresh: after(now, self.policy.announcing.refresh),
            ..Timers::default()
        };
        actions.push(Action::Advertise {
            priority: self.priority,
        });
        actions.push(Action::Entered(State::Master, Cause::HandedOver));
    }

    fn tick_master(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let announcing = self.policy.announcing;
        if let Some(due) = self.timers.advert.filter(|due| *due <= now) {
            actions.push(Action::Advertise {
                priority: self.priority,
            });
            // From when it was due, lest adverts drift; from now, if late.
            let next = due + self.policy.interval;
            self.timers.advert = Some(if next > now {
                next
            } else {
                now + self.policy.interval
            });
        }
        if is_due(&mut self.timers.second_volley, now) {
            announce(announcing.repeat, actions);
        }
        if is_due(&mut self.timers.second_lower_priority_volley, now) {
            announce(announcing.lower_priority_repeat, actions);
        }
        if is_due(&mut self.timers.refresh, now) {
            announce(announcing.refresh_repeat, actions);
            self.timers.refresh = after(now, announcing.refresh);
        }
    }

    /// RFC 3768 §6.4.2.
    fn hear_backup(&mut self, now: Instant, heard: Heard, actions: &mut Vec<Action>) {
        if heard.priority == PRIORITY_LEAVING {
            if !self.candidate {
                self.timers.master_down = Some(now + self.skew());
            }
            self.dismissal = Some(Cause::MasterLeft(heard.source));
            self.master = None;
            return;
        }
        // Another holds the addresses: those of an earlier run are in its way.
        if std::mem::take(&mut self.holding) {
            actions.push(Action::RemoveAddresses);
        }
        self.master = Some(heard);
        if self.respects(now, heard.priority) {
            if self.policy.version == Version::V3 {
                self.master_interval = heard.interval;
            }
            self.listen(now);
        } else {
            self.dismissal = Some(Cause::LowerPriority(heard.source, heard.priority));
        }
    }

    /// Whether a master of this priority is let be.
    fn respects(&mut self, now: Instant, priority: u8) -> bool {
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
    fn hear_master(&mut self, now: Instant, heard: Heard, actions: &mut Vec<Action>) {
        let ours = self.priority;
        if heard.priority == PRIORITY_LEAVING {
            self.advertise_again(now, actions);
        } else if heard.priority > ours {
            self.give_way(
                now,
                heard,
                Cause::HigherPriority(heard.source, heard.priority),
                actions,
            );
        } else if heard.priority < ours {
            self.insist(now, actions);
        } else if let Some(local) = self.local {
            // An advert from our own address is our own, come round again.
            if heard.source > local {
                self.give_way(now, heard, Cause::HigherAddress(heard.source), actions);
            } else if heard.source < local {
                self.insist(now, actions);
            }
        }
    }

    fn advertise_again(&mut self, now: Instant, actions: &mut Vec<Action>) {
        actions.push(Action::Advertise {
            priority: self.priority,
        });
        self.timers.advert = Some(now + self.policy.interval);
    }

    fn give_way(&mut self, now: Instant, heard: Heard, cause: Cause, actions: &mut Vec<Action>) {
        if self.policy.answer_higher_priority {
            actions.push(Action::Advertise {
                priority: self.priority,
            });
        }
        self.timers = Timers::default();
        self.state = State::Backup;
        self.master = Some(heard);
        self.master_interval = match self.policy.version {
            Version::V2 => self.policy.interval,
            Version::V3 => heard.interval,
        };
        self.listen(now);
        actions.push(Action::RemoveAddresses);
        actions.push(Action::Entered(State::Backup, cause));
    }

    /// Another took itself for the master: it, and the network, are told.
    fn insist(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let announcing = self.policy.announcing;
        if self.policy.answer_lower_priority {
            self.advertise_again(now, actions);
        }
        if announcing.lower_priority_repeat > 0 {
            announce(announcing.lower_priority_repeat, actions);
            self.timers.second_lower_priority_volley = after(now, announcing.lower_priority_delay);
        }
    }

    fn change_priority(&mut self, now: Instant, priority: u8) {
        let before = self.skew();
        self.priority = priority;
        let after = self.skew();
        self.timers.master_down = self.timers.master_down.map(|due| {
            let later = due + after;
            later.checked_sub(before).map_or(now, |due| due.max(now))
        });
    }

    /// Becomes what neither leads nor, by itself, will.
    fn leave(&mut self, state: State, cause: Cause, actions: &mut Vec<Action>) {
        let led = self.state == State::Master;
        if led {
            actions.push(Action::Advertise {
                priority: PRIORITY_LEAVING,
            });
        }
        if std::mem::take(&mut self.holding) || led {
            actions.push(Action::RemoveAddresses);
        }
        self.state = state;
        self.timers = Timers::default();
        self.master = None;
        self.preempt_at = None;
        self.candidate = false;
        actions.push(Action::Entered(state, cause));
    }
}

fn announce(repeat: u32, actions: &mut Vec<Action>) {
    if repeat > 0 {
        actions.push(Action::Announce { repeat });
    }
}

/// `now` and so much; never, if it is nothing.
fn after(now: Instant, delay: Duration) -> Option<Instant> {
    (!delay.is_zero()).then(|| now + delay)
}

/// Takes a timer that has run out.
fn is_due(timer: &mut Option<Instant>, now: Instant) -> bool {
    timer.take_if(|due| *due <= now).is_some()
}
