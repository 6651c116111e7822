//! Who gets a new connection.

use lb_user::dataplane::DesiredState;

use crate::bed::frames::*;
use crate::bed::{Bed, Verdict, service, state};

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
fn round_robin_takes_servers_in_turn() {
    let Some(mut bed) = Bed::new(three()) else {
        return;
    };
    let expected = [
        "edge 1", "edge 2", "edge 3", "edge 1", "edge 2", "edge 3", "edge 1",
    ];
    assert_eq!(turns(&mut bed, 7), expected);
}

#[test]
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
        let Some(mut bed) = Bed::new(desired) else {
            return;
        };
        let expected = ["edge 1", "edge 3", "edge 1", "edge 3"];
        assert_eq!(turns(&mut bed, 4), expected, "edge 2 is {impediment}");
    }
}

#[test]
fn round_robin_advances_only_for_new_connections() {
    let Some(mut bed) = Bed::new(three()) else {
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
fn every_service_has_turns_of_its_own() {
    let Some(mut bed) = Bed::new(state([
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
