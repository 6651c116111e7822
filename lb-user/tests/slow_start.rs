//! The share of a server that comes back, from the check that succeeds to the
//! packets that it gets.

use std::collections::HashMap;
use std::fs;
use std::time::Instant;

use lb_user::agent::plan::Plan;
use lb_user::agent::state::State;
use lb_user::checker::{CheckEvent, CheckResult};
use lb_user::neighbor::{Hop, Hops};

use packet_bed::frames::*;
use packet_bed::{Bed, Step, Verdict, server};

const CONFIGURATION: &str = "
virtual_server 172.16.1.200 1935 {
    lb_algo rr
    slow_start 18
    real_server 172.16.1.210 1935 { TCP_CHECK { } }
    real_server 172.16.1.211 1935 { TCP_CHECK { } }
}";

/// The state that the agent makes of the configuration, both servers in reach.
fn agent() -> State {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("keepalived.conf");
    fs::write(&file, CONFIGURATION).expect("written");
    let loaded = lb_config::load(&file).expect("the configuration is accepted");
    let mut state = State::default();
    state.replace_plan(Plan::new(&loaded.config).expect("a plan"), Instant::now());
    let hops = ["edge 1", "edge 2"].map(|name| {
        let server = server(name, 1935);
        let next_hop = server.next_hop.expect("it has one");
        let interface = "eth2".to_owned();
        (
            server.address.ip(),
            Hop::Ready {
                next_hop,
                interface,
                path: None,
            },
        )
    });
    state.hops_changed(Hops::from(hops), Instant::now());
    state
}

/// Number of 110 new connections that each server gets in round `round`.
fn shares(bed: &mut Bed, round: u8) -> (usize, usize) {
    let mut shares: HashMap<&str, usize> = HashMap::new();
    for client in 0..110 {
        match bed.send(&tcp([10, 1, round, client], 4000, S)) {
            Verdict::To(server) => *shares.entry(server).or_default() += 1,
            other => panic!("expected a server, got {other:?}"),
        }
    }
    let of = |name| shares.get(name).copied().unwrap_or_default();
    (of("edge 1"), of("edge 2"))
}

#[test]
#[ignore = "needs root"]
fn a_server_that_comes_back_gets_more_connections_step_by_step() {
    let mut state = agent();
    let Some(mut bed) = Bed::new(state.desired()) else {
        return;
    };
    assert_eq!(shares(&mut bed, 0), (55, 55));
    let spec = state.plan().services[0].servers[0].checks[0].clone();
    let start = Instant::now();
    for result in [
        CheckResult::Down("refused".to_owned()),
        CheckResult::Up(None),
    ] {
        let spec = spec.clone();
        state.check_changed(CheckEvent { spec, result }, start);
    }
    bed.step(&Step::Apply(state.desired()));
    // A tenth of the other's weight: 110 × 1 / 11.
    assert_eq!(shares(&mut bed, 1), (10, 100));
    let mut before = 10;
    let mut steps = 1;
    while let Some(deadline) = state.deadline() {
        state.tick(deadline).expect("a step");
        bed.step(&Step::Apply(state.desired()));
        steps += 1;
        let (share, _) = shares(&mut bed, steps);
        assert!(share > before, "step {steps}: {share} after {before}");
        before = share;
    }
    assert_eq!((before, steps), (55, 10), "an equal share at the end");
}
