//! Servers that take no new connections when they have many: `uthreshold` and
//! `lthreshold`.

use lb_model::DesiredState;
use lb_model::{Scheduler, Thresholds};

use packet_bed::frames::*;
use packet_bed::{Bed, Step, Verdict, persistent, service, state};

/// Three servers, of which the first has thresholds.
fn limited(scheduler: Scheduler, upper: u32, lower: u32) -> DesiredState {
    let servers = ["edge 1", "edge 2", "edge 3"];
    let mut desired = state([service("172.16.1.200:1935", &servers)]);
    desired.services[0].scheduler = scheduler;
    desired.services[0].servers[0].thresholds = Thresholds { upper, lower };
    desired
}

fn open(bed: &mut Bed, client: u8) -> Verdict {
    bed.send(&tcp([10, 2, 0, client], 4000, S))
}

/// Servers of connections of these clients.
fn opened(bed: &mut Bed, clients: std::ops::Range<u8>) -> Vec<Verdict> {
    clients.map(|client| open(bed, client)).collect()
}

fn to(names: &[&'static str]) -> Vec<Verdict> {
    names.iter().map(|name| Verdict::To(name)).collect()
}

/// The client ends its connection, and the agent sweeps it away.
fn close(bed: &mut Bed, clients: std::ops::Range<u8>) {
    for client in clients {
        bed.send(&tcp([10, 2, 0, client], 4000, R));
    }
    bed.step(&packet_bed::seconds(20));
    bed.step(&Step::Sweep);
}

fn is_full(bed: &Bed) -> bool {
    bed.statistics().services[0].servers[0].is_full
}

#[test]
#[ignore = "needs root"]
fn a_full_servers_turns_fall_to_the_next() {
    for (scheduler, weights, expected) in [
        (Scheduler::Rr, [1, 1, 1], [1, 2, 3, 1, 2, 3, 2, 3]),
        (Scheduler::Wrr, [4, 2, 1], [1, 2, 1, 3, 2, 2, 3, 2]),
        (Scheduler::Lc, [1, 1, 1], [1, 2, 3, 1, 2, 3, 2, 3]),
        (Scheduler::Sed, [1, 1, 1], [1, 2, 3, 1, 2, 3, 2, 3]),
        (Scheduler::Nq, [1, 1, 1], [1, 2, 3, 1, 2, 3, 2, 3]),
        (Scheduler::Fo, [3, 1, 2], [1, 1, 3, 3, 3, 3, 3, 3]),
        (Scheduler::Ovf, [5, 1, 2], [1, 1, 3, 3, 3, 2, 2, 0]),
    ] {
        let mut desired = limited(scheduler, 2, 0);
        for (server, weight) in desired.services[0].servers.iter_mut().zip(weights) {
            server.weight = weight;
        }
        let Some(mut bed) = Bed::shared(desired) else {
            return;
        };
        let names = ["", "edge 1", "edge 2", "edge 3"];
        let expected = expected.map(|number| match number {
            0 => Verdict::Stack("no-server"),
            number => Verdict::To(names[number]),
        });
        assert_eq!(opened(&mut bed, 0..8), expected, "{scheduler:?}");
        assert!(is_full(&bed), "{scheduler:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_server_that_was_full_has_room_below_three_quarters_or_the_lower_threshold() {
    // Below so many connections.
    for (upper, lower, below) in [(4, 0, 3), (8, 0, 6), (4, 1, 1), (4, 4, 4), (5, 2, 2)] {
        let Some(mut bed) = Bed::shared(limited(Scheduler::Fo, upper, lower)) else {
            return;
        };
        let upper = upper as u8;
        opened(&mut bed, 0..upper);
        for client in 0..upper {
            bed.send(&tcp([10, 2, 0, client], 4000, A));
        }
        for closed in 1..=upper {
            assert_eq!(
                open(&mut bed, 100 + closed),
                Verdict::To("edge 2"),
                "{upper}, {lower}: it has {}",
                upper + 1 - closed
            );
            assert!(is_full(&bed));
            close(&mut bed, closed - 1..closed);
            if upper - closed < below {
                break;
            }
        }
        assert!(!is_full(&bed), "{upper}, {lower}");
        assert_eq!(
            open(&mut bed, 99),
            Verdict::To("edge 1"),
            "{upper}, {lower}"
        );
    }
}

#[test]
#[ignore = "needs root"]
fn where_all_are_full_nobody_is_served() {
    for scheduler in [Scheduler::Rr, Scheduler::Wlc, Scheduler::Fo, Scheduler::Mh] {
        let mut desired = limited(scheduler, 2, 0);
        desired.services[0].hash_fallback = true;
        for server in &mut desired.services[0].servers {
            server.thresholds.upper = 2;
        }
        let Some(mut bed) = Bed::shared(desired) else {
            return;
        };
        let servers = opened(&mut bed, 0..6);
        for name in ["edge 1", "edge 2", "edge 3"] {
            let own = servers.iter().filter(|to| **to == Verdict::To(name));
            assert_eq!(own.count(), 2, "{scheduler:?}: {servers:?}");
        }
        assert_eq!(
            open(&mut bed, 7),
            Verdict::Stack("no-server"),
            "{scheduler:?}"
        );
        // Its connections go on.
        let first = bed.send(&tcp([10, 2, 0, 0], 4000, A));
        assert_eq!(first, servers[0], "{scheduler:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_client_that_sticks_to_a_full_server_comes_to_it_all_the_same() {
    let mut desired = limited(Scheduler::Rr, 1, 0);
    desired.services[0] = persistent(desired.services[0].clone(), 50, 32);
    let Some(mut bed) = Bed::shared(desired) else {
        return;
    };
    assert_eq!(
        opened(&mut bed, 0..4),
        to(&["edge 1", "edge 2", "edge 3", "edge 2"])
    );
    let again = bed.send(&tcp([10, 2, 0, 0], 4001, S));
    assert_eq!(again, Verdict::To("edge 1"));
}

#[test]
#[ignore = "needs root"]
fn room_that_clients_who_stick_have_filled_again_was_room() {
    let mut desired = limited(Scheduler::Fo, 3, 2);
    desired.services[0] = persistent(desired.services[0].clone(), 5000, 32);
    let Some(mut bed) = Bed::shared(desired) else {
        return;
    };
    assert_eq!(
        opened(&mut bed, 0..4),
        to(&["edge 1", "edge 1", "edge 1", "edge 2"])
    );
    close(&mut bed, 0..2);
    // No connection has been scheduled in between.
    let again = bed.send(&tcp([10, 2, 0, 0], 4001, S));
    assert_eq!(again, Verdict::To("edge 1"));
    assert_eq!(open(&mut bed, 9), Verdict::To("edge 1"), "it has two");
}

#[test]
#[ignore = "needs root"]
fn a_client_that_hashes_to_a_full_server_has_another_only_with_the_fallback() {
    for scheduler in [Scheduler::Sh, Scheduler::Mh] {
        for fallback in [false, true] {
            let mut desired = limited(scheduler, 0, 0);
            desired.services[0].hash_fallback = fallback;
            let Some(mut bed) = Bed::shared(desired.clone()) else {
                return;
            };
            let unlimited = opened(&mut bed, 0..60);
            desired.services[0].servers[0].thresholds.upper = 1;
            bed.reset(desired);
            let mut taken = false;
            for (client, before) in (0..60).zip(unlimited) {
                let now = open(&mut bed, client);
                if before != Verdict::To("edge 1") || !taken {
                    taken |= before == Verdict::To("edge 1");
                    assert_eq!(now, before, "{scheduler:?}, client {client}");
                } else if fallback {
                    let others = to(&["edge 2", "edge 3"]);
                    assert!(others.contains(&now), "{scheduler:?}: {now:?}");
                } else {
                    assert_eq!(now, Verdict::Stack("no-server"), "{scheduler:?}");
                }
            }
            assert!(taken, "some client hashes to edge 1");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn with_the_fallback_every_client_finds_the_only_server_with_room() {
    const SERVERS: u8 = 64;
    let mut desired = limited(Scheduler::Sh, 1, 0);
    desired.services[0].hash_fallback = true;
    let servers = &mut desired.services[0].servers;
    let only = servers[0].clone();
    servers.truncate(0);
    for number in 1..=SERVERS {
        let mut server = only.clone();
        server.address.set_ip([172, 16, 3, number].into());
        servers.push(server);
    }
    let last = servers.last_mut().expect("there are many");
    last.thresholds = Thresholds::default();
    let Some(mut bed) = Bed::shared(desired) else {
        return;
    };
    for client in 0..4000_u16 {
        let [high, low] = client.to_be_bytes();
        let verdict = bed.send(&tcp([10, 3, high, low], 4000, S));
        assert_eq!(verdict, Verdict::To("edge 1"), "client {client}");
    }
    let statistics = bed.statistics();
    let full = statistics.services[0].servers.iter();
    assert_eq!(full.filter(|server| server.is_full).count(), 63);
}

#[test]
#[ignore = "needs root"]
fn connections_count_whatever_their_state_and_silence_makes_room_when_it_is_swept() {
    let Some(mut bed) = Bed::shared(limited(Scheduler::Fo, 3, 2)) else {
        return;
    };
    // One half-open, one established, one that the client has closed.
    opened(&mut bed, 0..3);
    bed.send(&tcp([10, 2, 0, 1], 4000, A));
    bed.send(&tcp([10, 2, 0, 2], 4000, A));
    bed.send(&tcp([10, 2, 0, 2], 4000, F));
    assert_eq!(open(&mut bed, 3), Verdict::To("edge 2"));
    bed.step(&packet_bed::seconds(130));
    assert_eq!(open(&mut bed, 4), Verdict::To("edge 2"), "not swept yet");
    bed.step(&Step::Sweep);
    assert_eq!(open(&mut bed, 5), Verdict::To("edge 1"), "one is left");
}

#[test]
#[ignore = "needs root"]
fn a_raised_threshold_holds_at_once_and_a_lowered_one_with_the_next_connection() {
    let upper = |bed: &mut Bed, upper| {
        bed.desired.services[0].servers[0].thresholds.upper = upper;
        bed.step(&Step::Apply(bed.desired.clone()));
    };
    let Some(mut bed) = Bed::shared(limited(Scheduler::Fo, 2, 1)) else {
        return;
    };
    assert_eq!(opened(&mut bed, 0..3), to(&["edge 1", "edge 1", "edge 2"]));
    upper(&mut bed, 3);
    assert_eq!(opened(&mut bed, 3..5), to(&["edge 1", "edge 2"]));
    upper(&mut bed, 0);
    assert_eq!(opened(&mut bed, 5..8), to(&["edge 1"; 3]));
    upper(&mut bed, 2);
    assert_eq!(opened(&mut bed, 8..10), to(&["edge 1", "edge 2"]));
}
