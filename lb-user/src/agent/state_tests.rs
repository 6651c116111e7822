//! What follows from what: checks, quorums, orders, hops.

use std::time::Duration;

use super::*;
use crate::config;
use crate::dataplane::state::Vlan;

fn plan(text: &str) -> Plan {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("keepalived.conf");
    std::fs::write(&file, text).expect("the file is written");
    Plan::new(&config::load(&file).expect("the file is accepted").config).expect("a plan")
}

/// One service with two servers of weights 1 and 2, and `inside`.
fn two_servers(inside: &str) -> Plan {
    plan(&format!(
        "virtual_server 10.0.0.1 80 {{
            delay_loop 6
            {inside}
            real_server 10.0.0.2 80 {{
                TCP_CHECK {{
                }}
                notify_down \"/bin/down two\"
            }}
            real_server 10.0.0.3 80 {{
                weight 2
                TCP_CHECK {{
                }}
            }}
        }}"
    ))
}

fn state(plan: Plan) -> State {
    let mut state = State::default();
    state.replace_plan(plan);
    state
}

fn event(state: &State, server: usize, failure: Option<&str>) -> CheckEvent {
    let result = match failure {
        Some(reason) => CheckResult::Down(reason.to_owned()),
        None => CheckResult::Up(None),
    };
    let spec = state.plan().services[0].servers[server].checks[0].clone();
    CheckEvent { spec, result }
}

fn fail(state: &mut State, server: usize) -> Vec<Change> {
    let event = event(state, server, Some("refused"));
    state.check_changed(event, Instant::now())
}

fn succeed(state: &mut State, server: usize) -> Vec<Change> {
    let event = event(state, server, None);
    state.check_changed(event, Instant::now())
}

fn said(changes: &[Change]) -> Vec<String> {
    changes.iter().map(ToString::to_string).collect()
}

/// Address, weight and life of each server that the data plane is to have.
fn servers(state: &State) -> Vec<(String, u32, bool)> {
    let service = state.desired().services.remove(0);
    service
        .servers
        .iter()
        .map(|s| (s.address.to_string(), s.weight, s.alive))
        .collect()
}

fn server(address: &str, weight: u32, alive: bool) -> (String, u32, bool) {
    (format!("{address}:80"), weight, alive)
}

#[test]
fn a_failing_server_is_taken_out_and_comes_back() {
    let mut state = state(two_servers(""));
    assert_eq!(
        servers(&state),
        [server("10.0.0.2", 1, true), server("10.0.0.3", 2, true)]
    );
    let changes = fail(&mut state, 0);
    assert_eq!(
        said(&changes),
        ["TCP 10.0.0.1:80: server 10.0.0.2:80 is down: refused"]
    );
    let script = changes[0].script().expect("notify_down");
    assert_eq!(script.command, ["/bin/down", "two"]);
    assert_eq!(
        servers(&state),
        [server("10.0.0.2", 0, false), server("10.0.0.3", 2, true)]
    );
    assert_eq!(
        said(&succeed(&mut state, 0)),
        ["TCP 10.0.0.1:80: server 10.0.0.2:80 is up: its checks succeed"]
    );
    assert_eq!(
        servers(&state),
        [server("10.0.0.2", 1, true), server("10.0.0.3", 2, true)]
    );
}

#[test]
fn inhibit_on_failure_keeps_a_failing_server_at_weight_0() {
    let mut state = state(two_servers("inhibit_on_failure"));
    fail(&mut state, 1);
    assert_eq!(
        servers(&state),
        [server("10.0.0.2", 1, true), server("10.0.0.3", 0, true)]
    );
}

#[test]
fn the_sorry_server_serves_while_the_quorum_is_lost() {
    let mut state = state(two_servers("quorum 2\nsorry_server 10.0.0.9 80"));
    assert!(fail(&mut state, 0).len() == 1, "weight 2 is a quorum");
    assert_eq!(
        said(&fail(&mut state, 1)),
        [
            "TCP 10.0.0.1:80: server 10.0.0.3:80 is down: refused",
            "TCP 10.0.0.1:80: quorum lost: weight 0 is up, 2 needed"
        ]
    );
    succeed(&mut state, 0);
    assert_eq!(
        servers(&state),
        [
            server("10.0.0.2", 1, false),
            server("10.0.0.3", 0, false),
            server("10.0.0.9", 1, true)
        ],
        "one server of weight 1 is no quorum of 2"
    );
    assert_eq!(
        said(&succeed(&mut state, 1))[1],
        "TCP 10.0.0.1:80: quorum gained: weight 3 is up, 2 needed"
    );
    assert_eq!(
        servers(&state),
        [server("10.0.0.2", 1, true), server("10.0.0.3", 2, true)]
    );
}

#[test]
fn hysteresis_widens_the_gap_between_losing_and_gaining() {
    let mut state = state(two_servers("quorum 2\nhysteresis 1"));
    let key = state.plan().services[0].key;
    assert!(
        state.has_quorum(key),
        "at the start the quorum itself counts"
    );
    fail(&mut state, 1);
    assert!(state.has_quorum(key), "1 is not below 2 - 1");
    fail(&mut state, 0);
    assert!(!state.has_quorum(key));
    succeed(&mut state, 1);
    assert!(!state.has_quorum(key), "2 does not reach 2 + 1");
    succeed(&mut state, 0);
    assert!(state.has_quorum(key));
}

#[test]
fn alpha_servers_are_out_until_they_are_checked() {
    let state = state(two_servers("alpha"));
    assert_eq!(
        servers(&state),
        [server("10.0.0.2", 0, false), server("10.0.0.3", 0, false)]
    );
    assert!(!state.has_quorum(state.plan().services[0].key));
}

#[test]
fn orders_of_the_operator_outlive_checks_and_reloads_until_they_are_taken_back() {
    let mut state = state(two_servers(""));
    let name: Endpoint = "10.0.0.3".parse().expect("a name");
    let order = |state: &mut State, order| said(&state.order_changed(name, order).1);
    assert_eq!(
        order(&mut state, Some(Order::Drained)),
        ["TCP 10.0.0.1:80: server 10.0.0.3:80 drained by the operator"]
    );
    fail(&mut state, 1);
    succeed(&mut state, 1);
    state.replace_plan(two_servers("delay_before_retry 2"));
    assert_eq!(
        servers(&state)[1],
        server("10.0.0.3", 0, true),
        "still drained"
    );
    let keeps_templates = |state: &State| state.desired().services[0].servers[1].keeps_templates;
    assert!(keeps_templates(&state), "as with IPVS");
    order(&mut state, Some(Order::DrainedOfTemplates));
    assert_eq!(servers(&state)[1], server("10.0.0.3", 0, true));
    assert!(!keeps_templates(&state));
    order(&mut state, Some(Order::Disabled));
    assert_eq!(servers(&state)[1], server("10.0.0.3", 0, false));
    order(&mut state, Some(Order::Weight(9)));
    assert_eq!(servers(&state)[1], server("10.0.0.3", 9, true));
    order(&mut state, None);
    assert_eq!(servers(&state)[1], server("10.0.0.3", 2, true));
    let stranger: Endpoint = "10.0.0.99:80".parse().expect("a name");
    assert_eq!(
        state.order_changed(stranger, Some(Order::Drained)),
        (vec![], vec![])
    );
}

#[test]
fn a_check_may_set_the_weight() {
    let mut state = state(two_servers(""));
    let spec = event(&state, 0, None).spec;
    let event = CheckEvent {
        spec,
        result: CheckResult::Up(Some(5)),
    };
    let changes = state.check_changed(event, Instant::now());
    assert_eq!(
        said(&changes),
        ["TCP 10.0.0.1:80: server 10.0.0.2:80 now has weight 5"]
    );
    assert_eq!(servers(&state)[0], server("10.0.0.2", 5, true));
}

#[test]
fn a_new_plan_keeps_what_is_known_of_the_servers_that_stay() {
    let mut state = state(two_servers(""));
    fail(&mut state, 0);
    let changes = state.replace_plan(two_servers("delay_before_retry 2"));
    assert_eq!(said(&changes), Vec::<String>::new());
    assert_eq!(
        servers(&state),
        [server("10.0.0.2", 0, false), server("10.0.0.3", 2, true)]
    );
}

#[test]
fn the_result_of_a_check_that_the_plan_no_longer_has_is_ignored() {
    let mut state = state(two_servers(""));
    let late = event(&state, 0, Some("refused"));
    state.replace_plan(plan("virtual_server 10.0.0.1 80 {\n}"));
    assert_eq!(state.check_changed(late, Instant::now()), []);
}

#[test]
fn omega_runs_the_down_scripts_of_what_is_up_at_the_end() {
    let mut quiet = state(two_servers("quorum_down /bin/lost"));
    assert_eq!(quiet.scripts_on_stop(), []);
    quiet.replace_plan(two_servers("omega\nquorum_down /bin/lost"));
    let programs = |state: &State| {
        let scripts = state.scripts_on_stop();
        scripts
            .iter()
            .map(|(_, script)| script.command.join(" "))
            .collect::<Vec<_>>()
    };
    assert_eq!(programs(&quiet), ["/bin/down two", "/bin/lost"]);
    fail(&mut quiet, 0);
    assert_eq!(
        programs(&quiet),
        ["/bin/lost"],
        "what is down already is not told again"
    );
}

#[test]
fn a_hop_reaches_the_data_plane_and_the_log() {
    let mut state = state(two_servers(""));
    let next_hop = NextHop {
        interface_index: 2,
        source: [2, 0, 0, 0, 0, 1],
        destination: [2, 0, 0, 0, 0, 2],
        vlan: Vlan::Untagged,
    };
    let ready = Hop::Ready {
        next_hop,
        interface: "eth2".to_owned(),
        path: None,
    };
    let address: IpAddr = "10.0.0.2".parse().expect("an address");
    let hops = Hops::from([(address, ready)]);
    assert_eq!(
        said(&state.hops_changed(hops.clone())),
        ["10.0.0.2: reached at 02:00:00:00:00:02 on eth2"]
    );
    assert_eq!(state.hops_changed(hops), [], "once");
    let service = state.desired().services.remove(0);
    assert_eq!(service.servers[0].next_hop, Some(next_hop));
    assert_eq!(service.servers[1].next_hop, None);
}

#[test]
fn a_tunnel_has_our_address_and_the_paths_mtu_once_the_way_is_known() {
    let mut state = state(plan(
        "virtual_server 10.0.0.1 80 {
            lb_kind TUN
            real_server 10.1.0.2 80 { }
            real_server 10.0.0.3 80 { lb_kind DR }
        }",
    ));
    let forwarding = |state: &State| {
        let service = state.desired().services.remove(0);
        let servers = service.servers.iter();
        servers
            .map(|server| (server.forwarding, server.next_hop.is_some()))
            .collect::<Vec<_>>()
    };
    let unknown = (Forwarding::Direct, false);
    assert_eq!(forwarding(&state), [unknown, unknown]);

    let source = "10.0.0.8".parse().expect("an address");
    let ready = |path| {
        let hop = Hop::Ready {
            next_hop: NextHop {
                interface_index: 2,
                source: [2, 0, 0, 0, 0, 1],
                destination: [2, 0, 0, 0, 0, 2],
                vlan: Vlan::Untagged,
            },
            interface: "eth2".to_owned(),
            path,
        };
        let hops = ["10.1.0.2", "10.0.0.3"];
        Hops::from(hops.map(|address| (address.parse().expect("an address"), hop.clone())))
    };
    // A hop that served direct routing is not enough.
    state.hops_changed(ready(None));
    assert_eq!(forwarding(&state), [unknown, (Forwarding::Direct, true)]);
    state.hops_changed(ready(Some(Path { source, mtu: 1400 })));
    let tunnel = Forwarding::Tunnel { source, mtu: 1400 };
    assert_eq!(
        forwarding(&state),
        [(tunnel, true), (Forwarding::Direct, true)]
    );
}

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
    state.order_changed(name, Some(Order::Drained));
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
            "TCP 10.0.0.1:80: server 10.0.0.2:80 stays out: held out for 30 s: its checks changed \
          their mind more than 2 times in 60 s"
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
    let mut state = state(two_servers("flap_limit 2"));
    for _ in 0..2 {
        check(&mut state, 0, Some("refused"), start);
        check(&mut state, 0, None, start);
    }
    assert_eq!(shares(&state).1, [2], "held out");
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

#[test]
fn an_address_without_servers_is_known_and_so_is_when_all_have_been_looked_at() {
    let mut state = state(two_servers(""));
    assert_eq!(state.addresses_without_quorum(), BTreeSet::new());
    fail(&mut state, 0);
    assert_eq!(state.addresses_without_quorum(), BTreeSet::new());
    fail(&mut state, 1);
    let lacking = BTreeSet::from([IpAddr::from([10, 0, 0, 1])]);
    assert_eq!(state.addresses_without_quorum(), lacking);
    assert_eq!(state.longest_round(), Duration::from_secs(12));
}

#[test]
fn a_later_agent_knows_what_was_found_and_ordered() {
    let mut former = state(two_servers("quorum 2\nhysteresis 1"));
    fail(&mut former, 1);
    let name: Endpoint = "10.0.0.2".parse().expect("a name");
    former.order_changed(name, Some(Order::Weight(7)));
    let text = serde_json::to_string(&former.to_save()).expect("it is saved");

    let mut later = State::default();
    later.inherit(&serde_json::from_str(&text).expect("it is read"));
    let changes = later.replace_plan(two_servers("quorum 2\nhysteresis 1"));
    assert_eq!(said(&changes), Vec::<String>::new(), "nothing is new");
    assert_eq!(servers(&later), servers(&former));
    assert_eq!(
        servers(&later),
        [server("10.0.0.2", 7, true), server("10.0.0.3", 0, false)]
    );
    let failing = event(&later, 1, None).spec;
    assert!(later.is_inherited(&failing));
    assert_eq!(later.to_save(), former.to_save());
    assert_eq!(
        said(&succeed(&mut later, 1)),
        ["TCP 10.0.0.1:80: server 10.0.0.3:80 is up: its checks succeed"]
    );

    // What the new file no longer has is forgotten.
    let mut other = State::default();
    other.inherit(&former.to_save());
    other.replace_plan(plan("virtual_server 10.0.0.1 80 {\n}"));
    assert_eq!(other.to_save().orders, []);
    assert_eq!(other.to_save().checks, []);
}
