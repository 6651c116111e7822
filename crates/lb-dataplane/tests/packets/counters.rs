//! Counters of verdicts, servers and services.

use packet_bed::frames::*;
use packet_bed::{Bed, Step, persistent, seconds, service, state};

#[test]
#[ignore = "needs root"]
fn traffic_is_counted_per_service_and_server() {
    let Some(mut bed) = Bed::shared(state([service("172.16.1.200:1935", &["edge 1", "edge 2"])]))
    else {
        return;
    };
    for flags in [S, A, "P."] {
        bed.send(&tcp(ALICE, 5000, flags));
    }
    bed.send(&tcp(BOB, 5000, S));
    bed.send(&tcp(CAROL, 5000, A));

    let statistics = bed.statistics();
    let service = &statistics.services[0];
    let (edge_1, edge_2) = (&service.servers[0], &service.servers[1]);
    // IPv4 and TCP headers of 20 bytes each, and a payload of 4 in one.
    assert_eq!(edge_1.traffic.connections, 1);
    assert_eq!(edge_1.traffic.packets_in, 3);
    assert_eq!(edge_1.traffic.bytes_in, 124);
    assert_eq!(edge_2.traffic.connections, 1);
    assert_eq!(edge_2.traffic.packets_in, 1);
    assert_eq!(edge_2.traffic.bytes_in, 40);
    assert_eq!(service.traffic.connections, 2);
    assert_eq!(service.traffic.packets_in, 4);
    assert_eq!(service.traffic.bytes_in, 164);
}

#[test]
#[ignore = "needs root"]
fn bytes_are_those_of_the_ip_packet_without_the_frames_padding() {
    let Some(mut bed) = Bed::shared(state([service("172.16.1.200:1935", &["edge 1"])])) else {
        return;
    };
    let mut padded = tcp(ALICE, 5000, S);
    padded.resize(60, 0);
    bed.send(&padded);
    assert_eq!(bed.statistics().services[0].traffic.bytes_in, 40);
}

#[test]
#[ignore = "needs root"]
fn a_server_that_has_left_still_counts_for_its_service() {
    let Some(mut bed) = Bed::shared(state([service("172.16.1.200:1935", &["edge 1", "edge 2"])]))
    else {
        return;
    };
    bed.send(&tcp(ALICE, 5000, S));
    bed.step(&Step::Change(|state| {
        state.services[0].servers.remove(0);
    }));
    bed.step(&Step::Change(|state| {
        state.services[0]
            .servers
            .push(packet_bed::server("edge 3", 1935));
    }));
    let statistics = bed.statistics();
    let service = &statistics.services[0];
    assert_eq!(service.traffic.connections, 1);
    assert_eq!(
        service.servers[1].traffic.connections, 0,
        "edge 3 has taken edge 1's slot"
    );
}

#[test]
#[ignore = "needs root"]
fn live_connections_and_templates_are_counted() {
    let service = persistent(service("172.16.1.200:1935", &["edge 1", "edge 2"]), 50, 32);
    let Some(mut bed) = Bed::shared(state([service])) else {
        return;
    };
    for port in [5000, 5001, 5002, 5003] {
        bed.send(&tcp(ALICE, port, S));
    }
    for port in [5000, 5001] {
        bed.send(&tcp(ALICE, port, A));
    }
    bed.send(&tcp(ALICE, 5001, F));
    bed.send(&tcp(BOB, 5000, S));

    let edge_1 = bed.statistics().services[0].servers[0].clone();
    assert_eq!(
        (edge_1.active_connections, edge_1.inactive_connections),
        (1, 3)
    );
    assert_eq!(edge_1.templates, 1);
    assert_eq!(
        bed.statistics().services[0].servers[1].templates,
        1,
        "Bob's, not yet lasting"
    );

    bed.step(&seconds(121));
    let edge_1 = bed.statistics().services[0].servers[0].clone();
    assert_eq!(
        (edge_1.active_connections, edge_1.inactive_connections),
        (1, 0)
    );
    assert_eq!(edge_1.templates, 0);
}

#[test]
#[ignore = "needs root"]
fn a_sweep_removes_what_is_over() {
    let service = persistent(service("172.16.1.200:1935", &["edge 1"]), 50, 32);
    let Some(mut bed) = Bed::shared(state([service])) else {
        return;
    };
    bed.send(&tcp(ALICE, 5000, S));
    bed.send(&tcp(ALICE, 5000, A));
    bed.send(&tcp(BOB, 5000, S));
    bed.step(&seconds(61));
    let swept = bed.sweep();
    assert_eq!(swept.connections_expired, 1, "Bob's, half open for 61 s");
    assert_eq!(
        swept.templates_expired, 2,
        "Alice's and Bob's, which nothing has kept"
    );
    bed.step(&seconds(901));
    let swept = bed.sweep();
    assert_eq!(swept.connections_expired, 1, "Alice's");
}

#[test]
#[ignore = "needs root"]
fn applying_the_same_state_writes_nothing() {
    let desired = state([service("172.16.1.200:1935", &["edge 1", "edge 2"])]);
    let Some(mut bed) = Bed::shared(desired.clone()) else {
        return;
    };
    let changes = bed.dataplane.apply(&desired).expect("applies");
    assert_eq!(changes, lb_dataplane::Changes::default());
}
