//! Consequences of checks, quorums, orders and hops.

mod loads;
mod orders;
mod reach;
mod recovery;

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::checker::CheckEvent;
use crate::neighbor::Path;
use lb_model::{Forwarding, NextHop, Scheduler, Vlan};
use net_types::MacAddress;

fn plan(text: &str) -> Plan {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("keepalived.conf");
    std::fs::write(&file, text).expect("the file is written");
    Plan::new(&lb_config::load(&file).expect("the file is accepted").config).expect("a plan")
}

/// One service with two servers of weights 1 and 2, and `inside`.
fn two_servers(inside: &str) -> Plan {
    plan(&format!(
        "virtual_server 10.0.0.1 80 {{
            delay_loop 6
            lb_algo rr
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
    let mut state = unreached(plan);
    let hops = ready(state.addresses().into_keys(), None);
    state.hops_changed(hops, Instant::now());
    state
}

/// As [`state`], before anything is known of the ways to the servers.
fn unreached(plan: Plan) -> State {
    let mut state = State::default();
    state.replace_plan(plan, Instant::now());
    state
}

const NEXT_HOP: NextHop = NextHop {
    interface_index: 2,
    source: MacAddress([2, 0, 0, 0, 0, 1]),
    destination: MacAddress([2, 0, 0, 0, 0, 2]),
    vlan: Vlan::Untagged,
    is_router: false,
};

/// These addresses are reached.
fn ready(addresses: impl IntoIterator<Item = IpAddr>, path: Option<Path>) -> Hops {
    let hop = Hop::Ready {
        next_hop: NEXT_HOP,
        interface: "eth2".to_owned(),
        path,
    };
    let addresses = addresses.into_iter();
    addresses.map(|address| (address, hop.clone())).collect()
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
            server("10.0.0.2", 0, true),
            server("10.0.0.3", 0, false),
            server("10.0.0.9", 1, true)
        ],
        "one server of weight 1 is no quorum of 2, but keeps its viewers"
    );
    let keeps_templates = |state: &State| {
        let servers = state.desired().services.remove(0).servers;
        servers
            .iter()
            .map(|server| server.keeps_templates)
            .collect()
    };
    let kept: Vec<bool> = keeps_templates(&state);
    assert_eq!(
        kept,
        [false, false, true],
        "all new viewers are the sorry server's"
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
fn a_sorry_server_may_be_one_of_the_real_ones_and_is_there_once() {
    let mut state = state(two_servers("quorum 2\nsorry_server 10.0.0.2 80"));
    fail(&mut state, 1);
    let serving = [server("10.0.0.3", 0, false), server("10.0.0.2", 1, true)];
    assert_eq!(servers(&state), serving);
    fail(&mut state, 0);
    assert_eq!(servers(&state), serving, "whatever its checks say");
    succeed(&mut state, 1);
    assert_eq!(
        servers(&state),
        [server("10.0.0.2", 0, false), server("10.0.0.3", 2, true)]
    );
}

#[test]
fn numbers_of_files_and_of_scripts_are_added_to_the_weight() {
    let mut state = state(plan(
        "track_file F {\nfile /nonexistent\n}
        virtual_server 10.0.0.1 80 {
            real_server 10.0.0.2 80 {
                weight 10
                FILE_CHECK {\ntrack_file F\nweight 2\n}
                MISC_CHECK {\nmisc_path /bin/true\nmisc_dynamic\n}
                MISC_CHECK {\nmisc_path /bin/false\nmisc_dynamic\n}
            }
        }",
    ));
    let found = |state: &mut State, check: usize, share| {
        let spec = state.plan().services[0].servers[0].checks[check].clone();
        let result = CheckResult::Up(share);
        state.check_changed(CheckEvent { spec, result }, Instant::now());
        servers(state)[0].1
    };
    assert_eq!(found(&mut state, 0, Some(Share::Added(6))), 16);
    assert_eq!(found(&mut state, 1, Some(Share::Of(3))), 9, "7 less");
    assert_eq!(found(&mut state, 2, Some(Share::Of(20))), 19, "10 more");
    assert_eq!(found(&mut state, 1, None), 26);
    assert_eq!(found(&mut state, 0, Some(Share::Added(-1000))), 0);
    assert_eq!(found(&mut state, 0, Some(Share::Added(i32::MAX))), 65_535);
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
fn a_server_whose_check_cannot_be_made_says_so_and_stays_as_it_was() {
    let mut state = state(two_servers(""));
    let spec = event(&state, 0, None).spec;
    let before = servers(&state);
    let reason = || Some("cannot be run: there is no user nemo".to_owned());
    let changes = state.check_unavailable(spec.clone(), reason());
    assert_eq!(
        said(&changes),
        [
            "TCP 10.0.0.1:80: server 10.0.0.2:80 is not checked: cannot be run: there is no user \
             nemo"
        ]
    );
    assert_eq!(servers(&state), before);
    let server = |state: &State| state.plan().services[0].servers[0].clone();
    assert_eq!(state.not_checked(&server(&state)), reason().as_ref());
    let changes = state.check_unavailable(spec, None);
    assert_eq!(
        said(&changes),
        ["TCP 10.0.0.1:80: server 10.0.0.2:80 is checked again"]
    );
    assert_eq!(state.not_checked(&server(&state)), None);
}

#[test]
fn a_check_may_set_the_weight() {
    let mut state = state(two_servers(""));
    let spec = event(&state, 0, None).spec;
    let event = CheckEvent {
        spec,
        result: CheckResult::Up(Some(Share::Of(5))),
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
    let changes = state.replace_plan(two_servers("delay_before_retry 2"), Instant::now());
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
    state.replace_plan(plan("virtual_server 10.0.0.1 80 {\n}"), Instant::now());
    assert_eq!(state.check_changed(late, Instant::now()), []);
}

#[test]
fn omega_runs_the_down_scripts_of_what_is_up_at_the_end() {
    let mut quiet = state(two_servers("quorum_down /bin/lost"));
    assert_eq!(quiet.scripts_on_stop(), []);
    quiet.replace_plan(two_servers("omega\nquorum_down /bin/lost"), Instant::now());
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
    let mut state = unreached(two_servers(""));
    let address: IpAddr = "10.0.0.2".parse().expect("an address");
    let hops = ready([address], None);
    assert_eq!(
        said(&state.hops_changed(hops.clone(), Instant::now())),
        ["10.0.0.2: reached at 02:00:00:00:00:02 on eth2"]
    );
    assert_eq!(state.hops_changed(hops, Instant::now()), [], "once");
    let service = state.desired().services.remove(0);
    assert_eq!(service.servers[0].next_hop, Some(NEXT_HOP));
    assert_eq!(service.servers[1].next_hop, None);
}

#[test]
fn a_tunnel_has_our_address_and_the_paths_mtu_once_the_way_is_known() {
    let mut state = unreached(plan(
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
    let both = ["10.1.0.2", "10.0.0.3"].map(|address| address.parse().expect("an address"));
    // A hop that served direct routing is not enough.
    state.hops_changed(ready(both, None), Instant::now());
    assert_eq!(forwarding(&state), [unknown, (Forwarding::Direct, true)]);
    let path = Some(Path { source, mtu: 1400 });
    state.hops_changed(ready(both, path), Instant::now());
    let tunnel = Forwarding::Tunnel { source, mtu: 1400 };
    assert_eq!(
        forwarding(&state),
        [(tunnel, true), (Forwarding::Direct, true)]
    );
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
    former.order_changed(name, Some(Order::Weight(7)), Instant::now());
    let text = serde_json::to_string(&former.to_save()).expect("it is saved");

    let mut later = State::default();
    later.inherit(&serde_json::from_str(&text).expect("it is read"));
    let changes = later.replace_plan(two_servers("quorum 2\nhysteresis 1"), Instant::now());
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
    other.replace_plan(plan("virtual_server 10.0.0.1 80 {\n}"), Instant::now());
    assert_eq!(other.to_save().orders, []);
    assert_eq!(other.to_save().checks, []);
}
