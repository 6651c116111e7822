use super::*;

const SECOND: Duration = Duration::from_secs(1);
/// (256 − 100)/256 s.
const SKEW_AT_100: Duration = Duration::from_nanos(609_375_000);

fn policy() -> Policy {
    Policy {
        version: Version::V2,
        interval: SECOND,
        owner: false,
        preemption: Preemption::AtOnce,
        down_timer_adverts: 3,
        announcing: AnnouncementPolicy::default(),
        answer_lower_priority: true,
        answer_higher_priority: false,
        grouped: false,
    }
}

/// A machine in made-up time, with the address 10.0.0.5.
struct Run {
    machine: Machine,
    start: Instant,
    now: Instant,
}

impl Run {
    fn new(policy: Policy, priority: u8) -> Self {
        let start = Instant::now();
        let mut machine = Machine::new(policy, priority);
        machine.set_local(Some([10, 0, 0, 5].into()));
        Self {
            machine,
            start,
            now: start,
        }
    }

    fn backup(policy: Policy, priority: u8) -> Self {
        let mut run = Self::new(policy, priority);
        run.give(Input::Start {
            has_leftovers: false,
        });
        run
    }

    fn master(policy: Policy, priority: u8) -> Self {
        let mut run = Self::backup(policy, priority);
        run.until_something();
        assert_eq!(run.machine.state(), State::Master);
        run
    }

    fn give(&mut self, input: Input) -> Vec<Action> {
        self.machine.handle(self.now, input)
    }

    fn wait(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self
    }

    /// Waits for the next deadline; returns the seconds since the start.
    fn until_something(&mut self) -> (f64, Vec<Action>) {
        let due = self.machine.deadline().expect("something is planned");
        let early = self
            .machine
            .clone()
            .handle(due - Duration::from_nanos(1), Input::Tick);
        assert_eq!(early, [], "before its time");
        self.now = due;
        ((due - self.start).as_secs_f64(), self.give(Input::Tick))
    }

    fn hear(&mut self, last_byte: u8, priority: u8) -> Vec<Action> {
        self.hear_every(last_byte, priority, SECOND)
    }

    fn hear_every(&mut self, last_byte: u8, priority: u8, interval: Duration) -> Vec<Action> {
        let source = peer(last_byte);
        self.give(Input::Advert(Advert {
            source,
            priority,
            interval,
        }))
    }

    /// Time until the master counts as gone.
    fn master_down(&self) -> Duration {
        self.machine.deadline().expect("a backup waits") - self.now
    }
}

fn peer(last_byte: u8) -> IpAddr {
    [10, 0, 0, last_byte].into()
}

fn advertise(priority: u8) -> Action {
    Action::Advertise { priority }
}

const VOLLEY: Action = Action::Announce { repeat: 5 };

#[test]
fn a_router_waits_three_intervals_and_its_skew_before_it_leads() {
    let mut run = Run::new(policy(), 100);
    let started = run.give(Input::Start {
        has_leftovers: false,
    });
    assert_eq!(started, [Action::Entered(State::Backup, Cause::Started)]);
    let (at, actions) = run.until_something();
    assert_eq!(at, 3.609_375);
    let silence = Cause::Silence(3 * SECOND + SKEW_AT_100);
    let entered = Action::Entered(State::Master, silence);
    assert_eq!(
        actions,
        [advertise(100), Action::AddAddresses, VOLLEY, entered]
    );
}

#[test]
fn only_the_owner_of_the_addresses_leads_at_once() {
    let owner = Policy {
        owner: true,
        ..policy()
    };
    let mut run = Run::new(owner, 255);
    let actions = run.give(Input::Start {
        has_leftovers: false,
    });
    assert_eq!(
        actions.last(),
        Some(&Action::Entered(State::Master, Cause::Owner))
    );
    let mut run = Run::new(owner, 254);
    let actions = run.give(Input::Start {
        has_leftovers: false,
    });
    assert_eq!(
        actions,
        [Action::Entered(State::Backup, Cause::Started)],
        "state MASTER waits too"
    );
}

#[test]
fn a_master_advertises_every_interval_and_announces_once_more_after_five_seconds() {
    let mut run = Run::master(policy(), 100);
    let mut seen = Vec::new();
    for _ in 0..7 {
        seen.extend(run.until_something().1);
    }
    let expected = [1, 2, 3, 4, 5, 6, 7].map(|_| advertise(100));
    assert_eq!(
        seen.iter()
            .filter(|action| **action == advertise(100))
            .count(),
        expected.len()
    );
    assert_eq!(
        seen[4..6],
        [advertise(100), VOLLEY],
        "with the fifth advert"
    );
    assert_eq!(seen.len(), 8);
}

#[test]
fn a_late_tick_delays_one_advert_and_not_the_next() {
    let mut run = Run::master(policy(), 100);
    run.wait(SECOND + SECOND / 4);
    assert_eq!(run.give(Input::Tick), [advertise(100)]);
    assert_eq!(run.master_down(), SECOND * 3 / 4, "adverts do not drift");
    run.wait(SECOND * 10);
    let late = run.give(Input::Tick);
    assert_eq!(
        late.iter()
            .filter(|action| **action == advertise(100))
            .count(),
        1,
        "no burst"
    );
    assert_eq!(run.master_down(), SECOND);
}

#[test]
fn announcements_are_as_configured() {
    let announcing = AnnouncementPolicy {
        repeat: 2,
        delay: Duration::ZERO,
        refresh: 3 * SECOND,
        refresh_repeat: 7,
        ..AnnouncementPolicy::default()
    };
    let mut run = Run::backup(
        Policy {
            announcing,
            ..policy()
        },
        100,
    );
    assert_eq!(run.until_something().1[2], Action::Announce { repeat: 2 });
    let seen: Vec<Action> = (0..6).flat_map(|_| run.until_something().1).collect();
    let again = Action::Announce { repeat: 7 };
    let advert = || advertise(100);
    assert_eq!(
        seen,
        [
            advert(),
            advert(),
            advert(),
            again.clone(),
            advert(),
            advert(),
            advert(),
            again
        ]
    );
}

#[test]
fn a_backup_that_hears_a_higher_or_equal_priority_waits_anew() {
    for priority in [100, 101, 255] {
        let mut run = Run::backup(policy(), 100);
        run.wait(3 * SECOND);
        assert_eq!(run.hear(9, priority), []);
        assert_eq!(
            run.master_down(),
            3 * SECOND + SKEW_AT_100,
            "having heard {priority}"
        );
        assert_eq!(
            run.machine.master().map(|advert| advert.source),
            Some(peer(9))
        );
    }
}

#[test]
fn a_backup_lets_its_timer_run_while_it_hears_a_lower_priority() {
    let mut run = Run::backup(policy(), 100);
    run.wait(3 * SECOND);
    assert_eq!(run.hear(9, 99), []);
    let (at, actions) = run.until_something();
    assert_eq!(at, 3.609_375);
    let cause = Cause::LowerPriority(peer(9), 99);
    assert_eq!(actions.last(), Some(&Action::Entered(State::Master, cause)));
}

#[test]
fn without_preemption_any_living_master_is_let_be_and_a_silent_one_replaced() {
    let mut run = Run::backup(
        Policy {
            preemption: Preemption::Never,
            ..policy()
        },
        100,
    );
    for _ in 0..10 {
        run.wait(3 * SECOND);
        assert_eq!(run.hear(9, 1), []);
        assert_eq!(run.master_down(), 3 * SECOND + SKEW_AT_100);
    }
    let (_, actions) = run.until_something();
    let cause = Cause::Silence(3 * SECOND + SKEW_AT_100);
    assert_eq!(actions.last(), Some(&Action::Entered(State::Master, cause)));
}

#[test]
fn preempt_delay_counts_from_the_first_advert_of_a_lower_priority() {
    let preemption = Preemption::After(10 * SECOND);
    let mut run = Run::backup(
        Policy {
            preemption,
            ..policy()
        },
        100,
    );
    for second in 1..=10 {
        run.wait(SECOND);
        run.hear(9, 50);
        assert_eq!(
            run.master_down(),
            3 * SECOND + SKEW_AT_100,
            "second {second}"
        );
    }
    run.wait(SECOND);
    run.hear(9, 50);
    assert_eq!(
        run.master_down(),
        2 * SECOND + SKEW_AT_100,
        "the delay is over"
    );
    run.hear(8, 200);
    run.wait(SECOND);
    run.hear(9, 50);
    assert_eq!(
        run.master_down(),
        3 * SECOND + SKEW_AT_100,
        "a higher one starts it anew"
    );
}

#[test]
fn preempt_delay_delays_nothing_when_there_is_no_master() {
    let preemption = Preemption::After(10 * SECOND);
    let mut run = Run::backup(
        Policy {
            preemption,
            ..policy()
        },
        100,
    );
    assert_eq!(run.until_something().0, 3.609_375);
}

#[test]
fn a_master_that_leaves_is_replaced_after_the_skew_alone() {
    let mut run = Run::backup(policy(), 100);
    run.hear(9, 200);
    run.hear(9, PRIORITY_LEAVING);
    assert_eq!(run.master_down(), SKEW_AT_100);
    let (_, actions) = run.until_something();
    let cause = Cause::MasterLeft(peer(9));
    assert_eq!(actions.last(), Some(&Action::Entered(State::Master, cause)));
}

#[test]
fn a_master_answers_one_that_leaves() {
    let mut run = Run::master(policy(), 100);
    run.wait(SECOND / 2);
    assert_eq!(run.hear(9, PRIORITY_LEAVING), [advertise(100)]);
    assert_eq!(run.machine.state(), State::Master);
}

#[test]
fn a_master_insists_against_a_lower_priority_or_address() {
    for (address, priority) in [(9, 99), (4, 100)] {
        let mut run = Run::master(policy(), 100);
        assert_eq!(run.hear(address, priority), [advertise(100), VOLLEY]);
        let repeated: Vec<Action> = (0..5).flat_map(|_| run.until_something().1).collect();
        assert_eq!(
            repeated.iter().filter(|action| **action == VOLLEY).count(),
            2,
            "after 5 s too"
        );
    }
}

#[test]
fn a_master_can_be_told_to_ignore_lower_priorities() {
    let announcing = AnnouncementPolicy {
        lower_priority_repeat: 0,
        ..AnnouncementPolicy::default()
    };
    let quiet = Policy {
        answer_lower_priority: false,
        announcing,
        ..policy()
    };
    assert_eq!(Run::master(quiet, 100).hear(9, 99), []);
}

#[test]
fn a_master_gives_way_to_a_higher_priority_or_address() {
    let higher = Cause::HigherPriority(peer(4), 101);
    let address = Cause::HigherAddress(peer(9));
    for (last_byte, priority, cause) in [(4, 101, higher), (9, 100, address)] {
        let mut run = Run::master(policy(), 100);
        let actions = run.hear(last_byte, priority);
        let entered = Action::Entered(State::Backup, cause);
        assert_eq!(actions, [Action::RemoveAddresses, entered]);
        assert_eq!(run.master_down(), 3 * SECOND + SKEW_AT_100);
        assert_eq!(
            run.machine.master().map(|advert| advert.source),
            Some(peer(last_byte))
        );
    }
}

#[test]
fn a_master_can_be_told_to_advertise_before_it_gives_way() {
    let polite = Policy {
        answer_higher_priority: true,
        ..policy()
    };
    let actions = Run::master(polite, 100).hear(4, 101);
    assert_eq!(actions[..2], [advertise(100), Action::RemoveAddresses]);
}

#[test]
fn a_master_that_hears_itself_does_nothing() {
    assert_eq!(Run::master(policy(), 100).hear(5, 100), []);
}

#[test]
fn version_3_waits_by_the_masters_interval_and_a_part_of_it() {
    let v3 = Policy {
        version: Version::V3,
        interval: SECOND / 10,
        ..policy()
    };
    let mut run = Run::backup(v3, 192);
    assert_eq!(run.master_down(), SECOND * 3 / 10 + SECOND / 10 / 4);
    run.hear_every(9, 200, 2 * SECOND);
    assert_eq!(run.master_down(), 6 * SECOND + SECOND / 2);
    run.hear_every(9, PRIORITY_LEAVING, 2 * SECOND);
    assert_eq!(run.master_down(), SECOND / 2);
}

#[test]
fn a_fault_takes_a_master_down_with_a_last_advert() {
    let mut run = Run::master(policy(), 100);
    let reason = || "eth0 is down".to_owned();
    let entered = Action::Entered(State::Fault, Cause::Fault(reason()));
    let actions = run.give(Input::Fault(reason()));
    assert_eq!(actions, [advertise(0), Action::RemoveAddresses, entered]);
    assert_eq!(run.machine.deadline(), None);
    assert_eq!(run.hear(9, 1), [], "nothing is heard in fault");
    assert_eq!(run.give(Input::Fault("another".to_owned())), []);
    let recovered = run.give(Input::Recovered);
    assert_eq!(
        recovered,
        [Action::Entered(State::Backup, Cause::Recovered)]
    );
    assert_eq!(run.master_down(), 3 * SECOND + SKEW_AT_100);
}

#[test]
fn a_router_that_starts_in_fault_clears_what_an_earlier_run_left() {
    let mut run = Run::new(policy(), 100);
    let actions = run.give(Input::Fault("no interface".to_owned()));
    assert_eq!(actions[0], Action::RemoveAddresses);
    assert_eq!(run.machine.state(), State::Fault);
}

#[test]
fn a_stopped_master_says_so_before_its_addresses_go() {
    let mut run = Run::master(policy(), 100);
    let entered = Action::Entered(State::Init, Cause::Stopped);
    assert_eq!(
        run.give(Input::Stop),
        [advertise(0), Action::RemoveAddresses, entered]
    );
    assert_eq!(run.machine.deadline(), None);
    assert_eq!(run.give(Input::Stop), []);
}

#[test]
fn a_stopped_backup_says_nothing_to_the_network() {
    let mut run = Run::backup(policy(), 100);
    assert_eq!(
        run.give(Input::Stop),
        [Action::Entered(State::Init, Cause::Stopped)]
    );
}

#[test]
fn addresses_of_an_earlier_run_shorten_the_wait_to_one_interval() {
    let mut run = Run::new(policy(), 100);
    run.give(Input::Start {
        has_leftovers: true,
    });
    assert_eq!(run.master_down(), SECOND + SKEW_AT_100);
    let (_, actions) = run.until_something();
    assert_eq!(actions[1], Action::AddAddresses);
}

#[test]
fn addresses_of_an_earlier_run_go_when_another_master_is_heard() {
    for priority in [50, 150] {
        let mut run = Run::new(policy(), 100);
        run.give(Input::Start {
            has_leftovers: true,
        });
        assert_eq!(run.hear(9, priority), [Action::RemoveAddresses]);
        assert_eq!(run.hear(9, priority), [], "once");
    }
}

#[test]
fn a_new_priority_counts_in_the_next_advert_and_in_the_skew() {
    let mut run = Run::master(policy(), 100);
    run.give(Input::Priority(90));
    assert_eq!(run.until_something().1, [advertise(90)]);
    let mut run = Run::backup(policy(), 100);
    run.give(Input::Priority(228));
    assert_eq!(run.master_down(), 3 * SECOND + SKEW_AT_100 - SECOND / 2);
    run.give(Input::Priority(100));
    assert_eq!(run.master_down(), 3 * SECOND + SKEW_AT_100);
}

#[test]
fn a_new_policy_keeps_the_state() {
    let faster = Policy {
        interval: SECOND,
        down_timer_adverts: 2,
        ..policy()
    };
    let mut run = Run::master(
        Policy {
            interval: 5 * SECOND,
            ..policy()
        },
        100,
    );
    run.machine.set_policy(run.now, faster);
    assert_eq!(run.machine.state(), State::Master);
    assert_eq!(
        run.master_down(),
        SECOND,
        "the next advert comes at the new interval"
    );
    let mut run = Run::backup(policy(), 100);
    run.wait(SECOND);
    run.machine.set_policy(run.now, policy());
    assert_eq!(
        run.master_down(),
        2 * SECOND + SKEW_AT_100,
        "nothing has changed"
    );
    run.machine.set_policy(run.now, faster);
    assert_eq!(
        run.master_down(),
        2 * SECOND + SKEW_AT_100,
        "two intervals from now"
    );
}

#[test]
fn a_router_that_is_handed_over_leads_on_and_neither_adds_nor_announces() {
    let mut run = Run::new(policy(), 100);
    assert_eq!(
        run.machine.handle(run.now, Input::Resume),
        [
            Action::Advertise { priority: 100 },
            Action::Entered(State::Master, Cause::HandedOver)
        ]
    );
    let next = run.machine.deadline().expect("it advertises on");
    assert_eq!(next - run.now, SECOND);
    assert_eq!(
        run.machine.handle(next, Input::Tick),
        [Action::Advertise { priority: 100 }]
    );
    let later = next + Duration::from_secs(20);
    assert_eq!(
        run.machine.handle(later, Input::Tick),
        [Action::Advertise { priority: 100 }],
        "no second volley of announcements either"
    );
    assert_eq!(
        run.machine.handle(later, Input::Resume),
        [],
        "only what has not started can lead on"
    );
}
