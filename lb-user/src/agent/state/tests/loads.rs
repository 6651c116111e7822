//! Shares that follow what servers say of their load.

use super::*;
use lb_model::Scheduler;
use lb_wire::load::Load;

/// As [`two_servers`], with a check of the load beside the other.
fn fed(scheduler: &str) -> State {
    let real = |last: u8, weight: u32| {
        format!(
            "real_server 10.0.0.{last} 80 {{
                weight {weight}
                TCP_CHECK {{
                }}
                LOAD_CHECK {{
                }}
            }}"
        )
    };
    state(plan(&format!(
        "virtual_server 10.0.0.1 80 {{
            lb_algo {scheduler}
            quorum 3
            {}
            {}
        }}",
        real(2, 1),
        real(3, 2)
    )))
}

/// A server says that it sends nothing and may send `limit`, at `now`.
fn say(state: &mut State, server: usize, limit: u64, now: Instant) {
    let spec = state.plan().services[0].servers[server].checks[1].clone();
    let load = Load {
        capacity: Some(limit),
        ..Load::default()
    };
    let result = CheckResult::Up(Some(Share::Load(load)));
    let changes = state.check_changed(CheckEvent { spec, result }, now);
    assert_eq!(changes, [], "operators are not told each second");
}

/// Lets the time pass in which shares settle, while both servers say their load.
fn settle(state: &mut State, limits: [u64; 2], mut now: Instant) -> Instant {
    // More than the five minutes of a table's.
    for _ in 0..330 {
        for (server, limit) in limits.into_iter().enumerate() {
            say(state, server, limit, now);
        }
        while let Some(due) = state.deadline().filter(|due| *due <= now) {
            state.tick(due.max(now));
        }
        now += Duration::from_secs(1);
    }
    now
}

#[test]
fn the_data_plane_has_shares_by_load_and_the_quorum_does_not() {
    for scheduler in ["rr", "wrr", "mh"] {
        let mut state = fed(scheduler);
        let key = state.plan().services[0].key;
        let now = settle(&mut state, [300, 100], Instant::now());
        assert_eq!(
            servers(&state),
            [server("10.0.0.2", 750, true), server("10.0.0.3", 250, true)],
            "{scheduler}"
        );
        assert!(state.has_quorum(key));
        let used = state.desired().services.remove(0).scheduler;
        let expected = match scheduler {
            "mh" => Scheduler::Mh,
            _ => Scheduler::Wrr,
        };
        assert_eq!(used, expected, "`rr` looks at no weights");
        // Answers stop: as configured again, and the data plane is told.
        let due = state.deadline().expect("a step");
        let late = due.max(now) + Duration::from_secs(10);
        assert_eq!(state.tick(late), Some(Vec::new()));
        assert_eq!(
            servers(&state),
            [server("10.0.0.2", 1, true), server("10.0.0.3", 2, true)]
        );
        assert_eq!(state.deadline(), None);
    }
}

#[test]
fn a_server_that_goes_down_or_is_drained_has_no_share() {
    let mut state = fed("wrr");
    let now = settle(&mut state, [300, 100], Instant::now());
    fail(&mut state, 0);
    assert_eq!(
        servers(&state),
        [server("10.0.0.2", 0, false), server("10.0.0.3", 250, true)]
    );
    settle(&mut state, [300, 100], now);
    assert_eq!(
        servers(&state),
        [
            server("10.0.0.2", 0, false),
            server("10.0.0.3", 1_000, true)
        ]
    );
    succeed(&mut state, 0);
    let address = "10.0.0.3:80".parse().expect("an address");
    state.order_changed(Endpoint::Socket(address), Some(Order::Drained), now);
    assert_eq!(servers(&state)[1], server("10.0.0.3", 0, true));
}

#[test]
fn a_load_has_no_effect_where_weights_are_no_shares() {
    let mut state = fed("fo");
    settle(&mut state, [300, 100], Instant::now());
    assert_eq!(
        servers(&state),
        [server("10.0.0.2", 1, true), server("10.0.0.3", 2, true)]
    );
}

#[test]
fn the_shares_of_an_earlier_agent_hold_until_servers_have_answered() {
    let limits = [1_000_000, 3_000_000];
    let mut before = fed("wrr");
    let now = settle(&mut before, limits, Instant::now());
    let saved = before.to_save();
    let weights = |state: &State| -> Vec<Option<u32>> {
        let service = &state.plan().services[0];
        let servers = service.servers.iter();
        servers
            .map(|server| state.weight_by_load(service.key, server.address))
            .collect()
    };
    let expected = [Some(250), Some(750)];
    assert_eq!(weights(&before), expected);

    let restart = || {
        let mut state = State::default();
        state.inherit(&saved);
        state.replace_plan(before.plan().clone(), now);
        let hops = ready(state.addresses().into_keys(), None);
        state.hops_changed(hops, now);
        state
    };
    let mut after = restart();
    assert_eq!(weights(&after), expected, "before any answer");
    assert_eq!(after.to_save().load_weights, saved.load_weights);
    // One answers before the other.
    say(&mut after, 0, limits[0], now);
    let later = now + Duration::from_secs(2);
    after.tick(later);
    assert_eq!(weights(&after), expected, "one has not answered");
    settle(&mut after, limits, later);
    assert_eq!(weights(&after), expected, "they say the same");

    let mut silent = restart();
    let later = now + Duration::from_secs(60);
    silent.tick(later);
    assert_eq!(
        weights(&silent),
        [None, None],
        "nobody says a load any more"
    );
}
