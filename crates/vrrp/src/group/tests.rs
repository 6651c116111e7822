use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::machine::{AnnouncementPolicy, Cause, Policy, Preemption};
use crate::packet::{Advert, Version};

const SECOND: Duration = Duration::from_secs(1);

fn group(priorities: &[u8]) -> Group {
    let policy = Policy {
        version: Version::V2,
        interval: SECOND,
        owner: false,
        preemption: Preemption::AtOnce,
        down_timer_adverts: 3,
        announcing: AnnouncementPolicy::default(),
        answer_lower_priority: true,
        answer_higher_priority: false,
        grouped: priorities.len() > 1,
    };
    Group::new(
        priorities
            .iter()
            .map(|priority| (Machine::new(policy, *priority), None)),
    )
}

/// A group that has been started, in made-up time.
struct Run {
    group: Group,
    now: Instant,
}

impl Run {
    fn new(priorities: &[u8]) -> Self {
        let now = Instant::now();
        let mut group = group(priorities);
        group.start(now, false);
        Self { group, now }
    }

    fn master(priorities: &[u8]) -> Self {
        let mut run = Self::new(priorities);
        for _ in priorities {
            run.until_something();
        }
        assert_eq!(run.group.state(), Some(State::Master));
        run
    }

    fn until_something(&mut self) -> Vec<MemberAction> {
        self.now = self.group.deadline().expect("something is planned");
        self.group.tick(self.now)
    }

    fn hear(&mut self, member: usize, priority: u8) -> Vec<MemberAction> {
        let source: IpAddr = [10, 0, 0, 9].into();
        let advert = Advert {
            source,
            priority,
            interval: SECOND,
        };
        self.group.handle(self.now, member, Input::Advert(advert))
    }
}

fn entered(actions: &[MemberAction]) -> Vec<(usize, State, String)> {
    actions
        .iter()
        .filter_map(|MemberAction { member, action }| match action {
            Action::Entered(state, cause) => Some((*member, *state, cause.to_string())),
            _ => None,
        })
        .collect()
}

#[test]
fn a_group_leads_when_its_last_member_can() {
    let mut run = Run::new(&[200, 100]);
    assert_eq!(
        run.until_something(),
        [],
        "the first has waited enough, the other has not"
    );
    assert_eq!(run.group.state(), Some(State::Backup));
    let actions = run.until_something();
    let cause = Cause::Group.to_string();
    let expected = [(0, State::Master, cause.clone()), (1, State::Master, cause)];
    assert_eq!(entered(&actions), expected);
}

#[test]
fn a_group_does_not_lead_while_one_member_hears_a_higher_priority() {
    let mut run = Run::new(&[200, 100]);
    for _ in 0..20 {
        run.now += SECOND;
        run.hear(1, 150);
        run.hear(0, 150);
        run.group.tick(run.now);
        assert_eq!(run.group.state(), Some(State::Backup));
    }
}

#[test]
fn a_candidate_that_hears_a_higher_priority_is_none_any_more() {
    let mut run = Run::new(&[200, 100]);
    run.until_something();
    run.hear(0, 201);
    assert_eq!(
        run.until_something(),
        [],
        "the second can lead now, the first cannot"
    );
    assert_eq!(run.group.state(), Some(State::Backup));
}

#[test]
fn all_members_give_way_with_the_first_that_must_and_say_so_to_the_network() {
    let mut run = Run::master(&[100, 100]);
    let actions = run.hear(0, 101);
    let higher = "10.0.0.9 is master with the higher priority 101";
    let expected = [
        (0, State::Backup, higher.to_owned()),
        (
            1,
            State::Backup,
            format!("its sync group gave way: {higher}"),
        ),
    ];
    assert_eq!(entered(&actions), expected);
    let of_the_other: Vec<_> = actions
        .into_iter()
        .filter(|action| action.member == 1)
        .collect();
    let leaving = Action::Advertise { priority: 0 };
    assert_eq!(of_the_other[0].action, leaving);
    assert_eq!(of_the_other[1].action, Action::RemoveAddresses);
}

#[test]
fn what_one_member_misses_all_miss() {
    let mut run = Run::master(&[100, 100]);
    let actions = run
        .group
        .set_fault(run.now, 1, Some("eth1 is down".to_owned()));
    let expected = [
        (0, State::Fault, "its sync group: eth1 is down".to_owned()),
        (1, State::Fault, "eth1 is down".to_owned()),
    ];
    assert_eq!(entered(&actions), expected);
    run.group
        .set_fault(run.now, 0, Some("eth0 is down".to_owned()));
    run.group.set_fault(run.now, 1, None);
    assert_eq!(
        run.group.state(),
        Some(State::Fault),
        "the other is still missing"
    );
    run.group.set_fault(run.now, 0, None);
    assert_eq!(run.group.state(), Some(State::Backup));
}

#[test]
fn a_group_that_starts_with_something_missing_starts_in_fault() {
    let now = Instant::now();
    let mut group = group(&[100, 100]);
    assert_eq!(
        group.set_fault(now, 0, Some("no interface".to_owned())),
        [],
        "not started yet"
    );
    group.start(now, false);
    assert_eq!(group.state(), Some(State::Fault));
}

#[test]
fn a_new_member_of_a_leading_group_is_waited_for() {
    let run = Run::master(&[100, 100]);
    let policy_of_others = group(&[1, 1]);
    let newcomer = policy_of_others.into_machines().next().expect("a member");
    let mut grown = Group::new(run.group.into_machines().chain([newcomer]));
    grown.reconcile(run.now);
    assert_eq!(grown.state(), Some(State::Backup));
}

#[test]
fn a_router_on_its_own_needs_nobody() {
    let mut run = Run::new(&[100]);
    assert_eq!(entered(&run.until_something())[0].1, State::Master);
    let stopped = run.group.stop(run.now);
    assert_eq!(entered(&stopped)[0].1, State::Init);
}
