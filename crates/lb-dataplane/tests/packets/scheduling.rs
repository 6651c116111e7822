//! Schedulers: the servers of new connections.

use std::collections::HashMap;

use lb_model::DesiredState;
use lb_model::Scheduler;

use packet_bed::frames::*;
use packet_bed::{Bed, Step, Verdict, service, state};

/// Servers of the next `count` connections of ever new clients.
fn turns(bed: &mut Bed, count: u16) -> Vec<&'static str> {
    (0..count)
        .map(
            |turn| match bed.send(&tcp([10, 1, (turn >> 8) as u8, turn as u8], 4000, S)) {
                Verdict::To(server) => server,
                other => panic!("expected a server, got {other:?}"),
            },
        )
        .collect()
}

fn three() -> DesiredState {
    state([service(
        "172.16.1.200:1935",
        &["edge 1", "edge 2", "edge 3"],
    )])
}

#[test]
#[ignore = "needs root"]
fn round_robin_takes_servers_in_turn() {
    let Some(mut bed) = Bed::shared(three()) else {
        return;
    };
    let expected = [
        "edge 1", "edge 2", "edge 3", "edge 1", "edge 2", "edge 3", "edge 1",
    ];
    assert_eq!(turns(&mut bed, 7), expected);
}

#[test]
#[ignore = "needs root"]
fn round_robin_skips_who_cannot_take_a_connection() {
    type Impediment = (&'static str, fn(&mut DesiredState));
    let impediments: [Impediment; 3] = [
        ("dead", |state| state.services[0].servers[1].alive = false),
        ("at weight 0", |state| {
            state.services[0].servers[1].weight = 0
        }),
        ("without a next hop", |state| {
            state.services[0].servers[1].next_hop = None
        }),
    ];
    for (impediment, change) in impediments {
        let mut desired = three();
        change(&mut desired);
        let Some(mut bed) = Bed::shared(desired) else {
            return;
        };
        let expected = ["edge 1", "edge 3", "edge 1", "edge 3"];
        assert_eq!(turns(&mut bed, 4), expected, "edge 2 is {impediment}");
    }
}

#[test]
#[ignore = "needs root"]
fn round_robin_advances_only_for_new_connections() {
    let Some(mut bed) = Bed::shared(three()) else {
        return;
    };
    assert_eq!(turns(&mut bed, 1), ["edge 1"]);
    bed.send(&tcp([10, 1, 0, 0], 4000, S));
    bed.send(&tcp([10, 1, 0, 0], 4000, A));
    bed.send(&tcp([10, 1, 0, 0], 4000, "P."));
    bed.send(&tcp(BOB, 4000, A));
    assert_eq!(bed.send(&tcp(CAROL, 4000, S)), Verdict::To("edge 2"));
}

#[test]
#[ignore = "needs root"]
fn every_service_has_turns_of_its_own() {
    let Some(mut bed) = Bed::shared(state([
        service("172.16.1.200:1935", &["edge 1", "edge 2"]),
        service("172.16.1.200:1936", &["edge 1", "edge 2"]),
    ])) else {
        return;
    };
    for (port, expected) in [
        (1935, "edge 1"),
        (1936, "edge 1"),
        (1936, "edge 2"),
        (1935, "edge 2"),
        (1935, "edge 1"),
    ] {
        let syn = tcp_to(ALICE, 4000 + port, VIP, port, S);
        let reused = bed.send(&syn);
        assert_eq!(reused, Verdict::To(expected), "port {port}");
        // The same client port again is a new connection after a reset.
        bed.send(&tcp_to(ALICE, 4000 + port, VIP, port, A));
        bed.send(&tcp_to(ALICE, 4000 + port, VIP, port, R));
    }
}

/// The three servers under another scheduler, with these weights.
fn scheduled(scheduler: Scheduler, weights: [u32; 3]) -> DesiredState {
    let mut state = three();
    state.services[0].scheduler = scheduler;
    for (server, weight) in state.services[0].servers.iter_mut().zip(weights) {
        server.weight = weight;
    }
    state
}

fn shares(turns: &[&'static str]) -> HashMap<&'static str, usize> {
    turns.iter().fold(HashMap::new(), |mut shares, server| {
        *shares.entry(*server).or_default() += 1;
        shares
    })
}

#[test]
#[ignore = "needs root"]
fn weighted_round_robin_spreads_the_heavy_servers_turns() {
    let Some(mut bed) = Bed::shared(scheduled(Scheduler::Wrr, [2, 1, 1])) else {
        return;
    };
    let expected = ["edge 1", "edge 2", "edge 3", "edge 1"];
    assert_eq!(turns(&mut bed, 4), expected);
    assert_eq!(turns(&mut bed, 0).len(), 0);
}

#[test]
#[ignore = "needs root"]
fn least_connections_fills_the_emptiest_server() {
    let Some(mut bed) = Bed::shared(scheduled(Scheduler::Lc, [1, 1, 1])) else {
        return;
    };
    assert_eq!(turns(&mut bed, 3), ["edge 1", "edge 2", "edge 3"]);
    // Two viewers of edge 2 go, and one of edge 3 completes its handshake.
    bed.send(&tcp([10, 1, 0, 2], 4000, A));
    assert_eq!(
        bed.send(&tcp(ALICE, 4000, S)),
        Verdict::To("edge 1"),
        "0: 1, 1: 1, 2: 256"
    );
    assert_eq!(bed.send(&tcp(BOB, 4000, S)), Verdict::To("edge 2"));
}

#[test]
#[ignore = "needs root"]
fn least_connections_takes_no_notice_of_weights() {
    let Some(mut bed) = Bed::shared(scheduled(Scheduler::Lc, [3, 1, 2])) else {
        return;
    };
    let shares = shares(&turns(&mut bed, 60));
    assert_eq!(
        (shares["edge 1"], shares["edge 2"], shares["edge 3"]),
        (20, 20, 20)
    );
}

#[test]
#[ignore = "needs root"]
fn a_sweep_tells_least_connections_of_viewers_that_fell_silent() {
    let Some(mut bed) = Bed::shared(scheduled(Scheduler::Lc, [1, 1, 1])) else {
        return;
    };
    assert_eq!(turns(&mut bed, 1), ["edge 1"]);
    bed.step(&packet_bed::seconds(61));
    assert_eq!(
        bed.send(&tcp(ALICE, 4000, S)),
        Verdict::To("edge 2"),
        "edge 1 seems taken"
    );
    bed.step(&Step::Sweep);
    assert_eq!(bed.send(&tcp(BOB, 4000, S)), Verdict::To("edge 1"));
}

#[test]
#[ignore = "needs root"]
fn weighted_least_connections_respects_weights() {
    let Some(mut bed) = Bed::shared(scheduled(Scheduler::Wlc, [3, 1, 2])) else {
        return;
    };
    let shares = shares(&turns(&mut bed, 60));
    assert_eq!(
        (shares["edge 1"], shares["edge 2"], shares["edge 3"]),
        (30, 10, 20)
    );
}

#[test]
#[ignore = "needs root"]
fn a_burst_of_connections_is_spread_before_any_of_them_is_complete() {
    for scheduler in [Scheduler::Lc, Scheduler::Wlc, Scheduler::Sed, Scheduler::Nq] {
        let Some(mut bed) = Bed::shared(scheduled(scheduler, [1, 1, 1])) else {
            return;
        };
        // Edge 1 has one established connection, which counts as much as one whose
        // handshake is not complete.
        turns(&mut bed, 1);
        bed.send(&tcp([10, 1, 0, 0], 4000, A));
        let shares = shares(&turns(&mut bed, 60)[1..]);
        for server in ["edge 1", "edge 2", "edge 3"] {
            assert!(
                (19..=21).contains(&shares[server]),
                "{scheduler:?}: {shares:?}"
            );
        }
    }
}

#[test]
#[ignore = "needs root"]
fn the_shortest_expected_delay_counts_the_connection_to_come() {
    let Some(mut bed) = Bed::shared(scheduled(Scheduler::Sed, [3, 1, 2])) else {
        return;
    };
    // (active + 1) / weight; a tie is the first one's.
    let expected = [
        "edge 1", "edge 3", "edge 1", "edge 1", "edge 2", "edge 3", "edge 1",
    ];
    assert_eq!(turns(&mut bed, 7), expected);
    // Closed connections do not count.
    for client in [0, 2, 3, 6] {
        bed.send(&tcp([10, 1, 0, client], 4000, R));
    }
    assert_eq!(bed.send(&tcp(ALICE, 4000, S)), Verdict::To("edge 1"));
}

#[test]
#[ignore = "needs root"]
fn never_queue_prefers_an_idle_server_to_a_fast_one() {
    let Some(mut bed) = Bed::shared(scheduled(Scheduler::Nq, [9, 1, 2])) else {
        return;
    };
    let expected = ["edge 1", "edge 2", "edge 3", "edge 1", "edge 1"];
    assert_eq!(turns(&mut bed, 5), expected);
    bed.send(&tcp([10, 1, 0, 1], 4000, R));
    assert_eq!(bed.send(&tcp(ALICE, 4000, S)), Verdict::To("edge 2"));
}

#[test]
#[ignore = "needs root"]
fn failover_gives_all_connections_to_the_heaviest_that_lives() {
    let Some(mut bed) = Bed::shared(scheduled(Scheduler::Fo, [1, 3, 3])) else {
        return;
    };
    assert_eq!(turns(&mut bed, 5), ["edge 2"; 5]);
    bed.step(&Step::Change(|state| {
        state.services[0].servers[1].alive = false;
    }));
    assert_eq!(turns(&mut bed, 3), ["edge 3"; 3]);
    bed.step(&Step::Change(|state| {
        state.services[0].servers[2].weight = 0;
    }));
    assert_eq!(bed.send(&tcp(ALICE, 4000, S)), Verdict::To("edge 1"));
}

#[test]
#[ignore = "needs root"]
fn overflow_fills_the_heaviest_before_the_next() {
    let Some(mut bed) = Bed::shared(scheduled(Scheduler::Ovf, [1, 3, 2])) else {
        return;
    };
    // As long as there are no more active ones than it weighs.
    let expected = [
        "edge 2", "edge 2", "edge 2", "edge 2", "edge 3", "edge 3", "edge 3", "edge 1", "edge 1",
    ];
    assert_eq!(turns(&mut bed, 9), expected);
    let syn = tcp(ALICE, 4000, S);
    assert_eq!(bed.send(&syn), Verdict::Stack("no-server"));
    bed.send(&tcp([10, 1, 0, 4], 4000, A));
    bed.send(&tcp([10, 1, 0, 4], 4000, F));
    assert_eq!(bed.send(&syn), Verdict::To("edge 3"), "one is over");
}

#[test]
#[ignore = "needs root"]
fn destination_hashing_gives_all_connections_to_one_address_to_one_server() {
    let Some(mut bed) = Bed::shared(scheduled(Scheduler::Dh, [1, 2, 3])) else {
        return;
    };
    let all = turns(&mut bed, 30);
    assert_eq!(all, [all[0]; 30]);
    // Another address has another server.
    let services = (1..=16).map(|last| {
        let mut service = three().services.remove(0);
        service.scheduler = Scheduler::Dh;
        service.address = ([172, 16, 1, last], 1935).into();
        service
    });
    bed.reset(state(services));
    let of_addresses: Vec<_> = (1..=16)
        .map(
            |last| match bed.send(&tcp_to(ALICE, 4000, [172, 16, 1, last], 1935, S)) {
                Verdict::To(server) => server,
                other => panic!("{other:?}"),
            },
        )
        .collect();
    assert_eq!(shares(&of_addresses).len(), 3, "{of_addresses:?}");
}

#[test]
#[ignore = "needs root"]
fn hashing_gives_a_client_the_same_server_whenever_it_comes() {
    for scheduler in [Scheduler::Sh, Scheduler::Mh] {
        let Some(mut bed) = Bed::shared(scheduled(scheduler, [1, 1, 1])) else {
            return;
        };
        let before = turns(&mut bed, 300);
        let shares = shares(&before);
        for server in ["edge 1", "edge 2", "edge 3"] {
            assert!(
                (60..140).contains(&shares[server]),
                "{scheduler:?}: {shares:?}"
            );
        }
        // Another port is another connection.
        for (client, server) in before.iter().enumerate() {
            let syn = tcp([10, 1, (client >> 8) as u8, client as u8], 4001, S);
            assert_eq!(
                bed.send(&syn),
                Verdict::To(server),
                "{scheduler:?}, client {client}"
            );
        }
    }
}

#[test]
#[ignore = "needs root"]
fn hashing_may_take_the_port_into_account() {
    let mut desired = scheduled(Scheduler::Mh, [1, 1, 1]);
    desired.services[0].hash_port = true;
    let Some(mut bed) = Bed::shared(desired) else {
        return;
    };
    let servers: Vec<_> = (4000..4030)
        .map(|port| bed.send(&tcp(ALICE, port, S)))
        .collect();
    assert!(
        servers.iter().any(|server| *server != servers[0]),
        "{servers:?}"
    );
}

#[test]
#[ignore = "needs root"]
fn maglev_leaves_other_servers_clients_where_they_are() {
    let Some(mut bed) = Bed::shared(scheduled(Scheduler::Mh, [1, 1, 1])) else {
        return;
    };
    let before = turns(&mut bed, 400);
    bed.step(&Step::Change(|state| {
        state.services[0].servers[1].alive = false
    }));
    let mut moved = 0;
    for (client, server) in before.iter().enumerate() {
        let syn = tcp([10, 1, (client >> 8) as u8, client as u8], 4001, S);
        match bed.send(&syn) {
            Verdict::To("edge 2") => panic!("edge 2 is dead"),
            Verdict::To(other) if *server != "edge 2" && other != *server => moved += 1,
            _ => {}
        }
    }
    assert!(
        moved < 400 / 10,
        "{moved} of 400 clients moved without need"
    );
}

#[test]
#[ignore = "needs root"]
fn a_sloppy_service_takes_connections_over_from_another_director() {
    let mut desired = scheduled(Scheduler::Mh, [1, 1, 1]);
    desired.services[0].sloppy = true;
    let Some(mut first) = Bed::shared(desired.clone()) else {
        return;
    };
    let Some(mut second) = Bed::shared(desired) else {
        return;
    };
    for port in 4000..4050 {
        let server = first.send(&tcp(ALICE, port, S));
        assert_eq!(second.send(&tcp(ALICE, port, A)), server, "port {port}");
    }
    let reset = second.send(&tcp(ALICE, 4999, R));
    assert_eq!(
        reset,
        Verdict::Stack("no-connection"),
        "a reset opens nothing"
    );
}

#[test]
#[ignore = "needs root"]
fn a_sloppy_service_goes_on_with_connections_of_servers_that_are_back() {
    let mut desired = scheduled(Scheduler::Mh, [1, 1, 1]);
    desired.services[0].sloppy = true;
    let Some(mut bed) = Bed::shared(desired.clone()) else {
        return;
    };
    let before = bed.send(&tcp(ALICE, 4000, S));
    bed.send(&tcp(ALICE, 4000, A));
    // As seen by a director that has been cut off from its servers.
    for alive in [false, true] {
        for server in &mut desired.services[0].servers {
            server.alive = alive;
        }
        bed.step(&Step::Apply(desired.clone()));
    }
    assert_eq!(bed.send(&tcp(ALICE, 4000, A)), before);
    let reset = bed.send(&tcp(ALICE, 4000, R));
    assert_eq!(reset, before, "and it is known again");
}

#[test]
#[ignore = "needs root"]
fn the_end_of_a_handshake_that_fell_silent_is_counted_once() {
    let Some(mut bed) = Bed::shared(scheduled(Scheduler::Lc, [1, 1, 1])) else {
        return;
    };
    assert_eq!(turns(&mut bed, 2), ["edge 1", "edge 2"]);
    bed.step(&packet_bed::seconds(61));
    for _ in 0..3 {
        let late = bed.send(&tcp([10, 1, 0, 0], 4000, A));
        assert_eq!(late, Verdict::Stack("no-connection"));
    }
    let mut loads = bed.loads();
    loads.sort_unstable();
    assert_eq!(loads, [(0, 0), (0, 0), (1, 0)]);
}
