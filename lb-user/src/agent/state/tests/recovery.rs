//! Servers that come back: slow start and flap control.

use std::time::{Duration, Instant};

use super::*;

/// The scheduler, and the weight of each server that takes connections.
fn shares(state: &State) -> (Scheduler, Vec<u32>) {
    let service = state.desired().services.remove(0);
    let alive = service.servers.iter().filter(|server| server.alive);
    (
        service.scheduler,
        alive.map(|server| server.weight).collect(),
    )
}

/// Lets a check of a server end at `now`.
fn check(state: &mut State, server: usize, failure: Option<&str>, now: Instant) -> Vec<String> {
    let event = event(state, server, failure);
    said(&state.check_changed(event, now))
}

#[test]
fn a_server_that_returns_gets_its_share_step_by_step() {
    let start = Instant::now();
    for (scheduler, whole, meanwhile, other) in [
        ("rr", Scheduler::Rr, Scheduler::Wrr, 10),
        ("lc", Scheduler::Lc, Scheduler::Wlc, 10),
        ("wrr", Scheduler::Wrr, Scheduler::Wrr, 20),
        ("mh", Scheduler::Mh, Scheduler::Mh, 20),
    ] {
        let inside = format!("lb_algo {scheduler}\nslow_start 18");
        let mut state = state(two_servers(&inside));
        assert_eq!(
            shares(&state),
            (whole, vec![1, 2]),
            "{scheduler}: at the start"
        );
        check(&mut state, 0, Some("refused"), start);
        assert_eq!(shares(&state), (whole, vec![2]), "{scheduler}");
        assert_eq!(
            check(&mut state, 0, None, start),
            [
                "TCP 10.0.0.1:80: server 10.0.0.2:80 is up: its checks succeed",
                "TCP 10.0.0.1:80: server 10.0.0.2:80: its share grows for 18 s (slow_start)",
            ]
        );
        for step in 1..=9 {
            assert_eq!(
                shares(&state),
                (meanwhile, vec![step, other]),
                "{scheduler}"
            );
            let deadline = state.deadline().expect("there is more to come");
            assert_eq!(
                deadline - start,
                Duration::from_secs(2) * step,
                "{scheduler}"
            );
            assert_eq!(
                state.tick(deadline - Duration::from_nanos(1)),
                None,
                "early"
            );
            let changes = state.tick(deadline).expect("the data plane is told");
            let done = "TCP 10.0.0.1:80: server 10.0.0.2:80 has its whole share again";
            let expected = if step == 9 { vec![done] } else { vec![] };
            assert_eq!(said(&changes), expected, "{scheduler}, step {step}");
        }
        assert_eq!(
            shares(&state),
            (whole, vec![1, 2]),
            "{scheduler}: at the end"
        );
        assert_eq!(
            (
                state.deadline(),
                state.tick(start + Duration::from_secs(99))
            ),
            (None, None)
        );
    }
}

#[test]
fn a_growing_share_does_not_count_for_the_quorum_and_obeys_the_operator() {
    let start = Instant::now();
    let mut state = state(two_servers("slow_start 20\nquorum 3"));
    check(&mut state, 0, Some("refused"), start);
    assert!(!state.has_quorum(state.plan().services[0].key));
    check(&mut state, 0, None, start);
    assert!(state.has_quorum(state.plan().services[0].key));
    let name: Endpoint = "10.0.0.2".parse().expect("a name");
    state.order_changed(name, Some(Order::Drained), Instant::now());
    assert_eq!(shares(&state), (Scheduler::Wrr, vec![0, 10]));
}

#[test]
fn a_server_that_flaps_stays_out_and_comes_back_by_itself() {
    let start = Instant::now();
    let at = |second: u64| start + Duration::from_secs(second);
    let mut state = state(two_servers(
        "flap_limit 2\nflap_window 60\nflap_hold_down 30",
    ));
    check(&mut state, 0, Some("refused"), at(0));
    check(&mut state, 0, None, at(1));
    assert_eq!(shares(&state).1, [1, 2]);
    check(&mut state, 0, Some("refused"), at(2));
    assert_eq!(
        check(&mut state, 0, None, at(3)),
        [
            "TCP 10.0.0.1:80: server 10.0.0.2:80 stays out: held out for 30 s: its checks went up \
          and down more than 2 times in 60 s"
        ]
    );
    assert_eq!(
        shares(&state).1,
        [2],
        "its checks succeed, but it is held out"
    );
    let service = state.plan().services[0].clone();
    let reason = state
        .failure(service.key, &service.servers[0])
        .expect("a reason");
    assert!(reason.starts_with("held out for 30 s"), "{reason}");
    assert_eq!(state.deadline(), Some(at(32)));
    // At 32 the three changes at 1, 2 and 3 still count: twice as long.
    assert_eq!(state.tick(at(32)), Some(vec![]));
    assert_eq!(state.deadline(), Some(at(92)));
    let changes = state.tick(at(92)).expect("it comes back");
    assert_eq!(
        said(&changes),
        ["TCP 10.0.0.1:80: server 10.0.0.2:80 is up: its checks succeed"]
    );
    assert_eq!(shares(&state).1, [1, 2]);
}

#[test]
fn a_server_that_flaps_is_not_held_out_where_no_other_serves() {
    let start = Instant::now();
    let mut state = one_held_out(start);
    let changes = check(&mut state, 1, Some("refused"), start);
    assert_eq!(
        changes,
        [
            "TCP 10.0.0.1:80: server 10.0.0.3:80 is down: refused",
            "TCP 10.0.0.1:80: server 10.0.0.2:80 is up: its checks succeed",
        ]
    );
    assert_eq!(shares(&state).1, [1]);
}

#[test]
fn without_flap_limit_nothing_is_ever_held_out() {
    let start = Instant::now();
    let mut state = state(two_servers(""));
    for _ in 0..1000 {
        check(&mut state, 0, Some("refused"), start);
        check(&mut state, 0, None, start);
    }
    assert_eq!(shares(&state), (Scheduler::Rr, vec![1, 2]));
}

/// Two servers, of which the first is held out for flapping.
fn one_held_out(start: Instant) -> State {
    let mut state = state(two_servers("flap_limit 2"));
    for _ in 0..2 {
        check(&mut state, 0, Some("refused"), start);
        check(&mut state, 0, None, start);
    }
    assert_eq!(shares(&state).1, [2], "held out");
    state
}

fn endpoint(name: &str) -> Endpoint {
    name.parse().expect("a name")
}

#[test]
fn a_held_server_is_released_when_the_operator_takes_the_last_other_one_away() {
    let start = Instant::now();
    let orders = [
        (Order::Drained, "drained"),
        (Order::DrainedOfTemplates, "drained of templates"),
        (Order::Disabled, "disabled"),
        (Order::Weight(0), "of weight 0"),
    ];
    for (order, what) in orders {
        let mut state = one_held_out(start);
        let (_, changes) = state.order_changed(endpoint("10.0.0.3"), Some(order), start);
        assert_eq!(
            said(&changes)[1..],
            ["TCP 10.0.0.1:80: server 10.0.0.2:80 is up: its checks succeed"],
            "the other is {what}"
        );
        assert_eq!(shares(&state).1[0], 1, "the other is {what}");
        assert!(state.has_quorum(state.plan().services[0].key), "{what}");
    }
}

#[test]
fn a_held_server_stays_held_while_another_still_gets_connections() {
    let start = Instant::now();
    let mut state = one_held_out(start);
    let order = Some(Order::Weight(7));
    let (_, changes) = state.order_changed(endpoint("10.0.0.3"), order, start);
    assert_eq!(changes.len(), 1, "the order alone: {changes:?}");
    assert_eq!(shares(&state).1, [7]);
}

#[test]
fn a_held_server_that_the_operator_has_disabled_himself_is_not_brought_back() {
    let start = Instant::now();
    let mut state = one_held_out(start);
    state.order_changed(endpoint("10.0.0.2"), Some(Order::Disabled), start);
    check(&mut state, 1, Some("refused"), start);
    assert!(shares(&state).1.is_empty());
    let (_, changes) = state.order_changed(endpoint("10.0.0.2"), None, start);
    assert_eq!(
        said(&changes)[1..],
        [
            "TCP 10.0.0.1:80: server 10.0.0.2:80 is up: its checks succeed",
            "TCP 10.0.0.1:80: quorum gained: weight 1 is up, 1 needed",
        ],
        "with the order taken back it is the last one"
    );
    assert_eq!(shares(&state).1, [1]);
}

#[test]
fn a_server_that_starts_to_flap_while_the_others_are_drained_is_not_held_out() {
    let start = Instant::now();
    let mut state = state(two_servers("flap_limit 2"));
    state.order_changed(endpoint("10.0.0.3"), Some(Order::Drained), start);
    for _ in 0..5 {
        check(&mut state, 0, Some("refused"), start);
        check(&mut state, 0, None, start);
    }
    assert_eq!(shares(&state).1, [1, 0]);
}

#[test]
fn a_held_server_is_released_when_a_reload_removes_the_last_other_one() {
    let start = Instant::now();
    let mut state = one_held_out(start);
    let alone = plan(
        "virtual_server 10.0.0.1 80 {
            delay_loop 6
            flap_limit 2
            real_server 10.0.0.2 80 {
                TCP_CHECK { }
            }
        }",
    );
    let changes = state.replace_plan(alone, start);
    assert_eq!(
        said(&changes),
        ["TCP 10.0.0.1:80: server 10.0.0.2:80 is up: its checks succeed"]
    );
    assert_eq!(shares(&state).1, [1]);
}
