//! Services whose packets are scheduled one by one: `ops`.

use lb_model::DesiredState;
use lb_model::Protocol;

use crate::{case, check, packet};
use packet_bed::frames::*;
use packet_bed::{Bed, Step, persistent, service, state};

/// Two servers that take datagrams in turn.
fn one_by_one() -> DesiredState {
    let mut desired = state([service("172.16.1.200:1935", &["edge 1", "edge 2"])]);
    desired.services[0].protocol = Protocol::Udp;
    desired.services[0].one_packet = true;
    desired
}

/// With persistence of an hour: where packets are slow, thousands of them take minutes.
fn sticky() -> DesiredState {
    let mut desired = one_by_one();
    desired.services[0] = persistent(desired.services[0].clone(), 3600, 32);
    desired
}

#[test]
#[ignore = "needs root"]
fn every_datagram_is_scheduled_by_itself() {
    let datagram = || packet(udp(ALICE, 5000));
    check([
        case("the first", one_by_one())
            .packet(udp(ALICE, 5000))
            .goes_to("edge 1"),
        case("the second of the same flow", one_by_one())
            .after([datagram()])
            .packet(udp(ALICE, 5000))
            .goes_to("edge 2"),
        case("the third", one_by_one())
            .after([datagram(), datagram()])
            .packet(udp(ALICE, 5000))
            .goes_to("edge 1"),
        case("a later fragment follows the first", one_by_one())
            .after([packet(patched(udp(ALICE, 5000), 20, &[0x20, 0]))])
            .packet(patched(udp(ALICE, 5000), 20, &[0, 3]))
            .goes_to("edge 1"),
        case("an error is about no connection", one_by_one())
            .after([datagram()])
            .packet(icmp(3, 3, &udp_from_service(ALICE, 5000), 28))
            .passes("icmp-unrelated"),
        case("persistence comes before all", sticky())
            .after([datagram(), packet(udp(BOB, 5000))])
            .packet(udp(ALICE, 5001))
            .goes_to("edge 1"),
        case("and is re-armed by each", sticky())
            .after([
                datagram(),
                packet(udp(BOB, 5000)),
                packet_bed::seconds(40),
                datagram(),
                packet_bed::seconds(40),
            ])
            .packet(udp(ALICE, 5000))
            .goes_to("edge 1"),
        case("a flow from before goes on", one_by_one())
            .after([
                Step::Change(|state| state.services[0].one_packet = false),
                datagram(),
                Step::Change(|state| state.services[0].one_packet = true),
            ])
            .packet(udp(ALICE, 5000))
            .goes_to("edge 1"),
        case("TCP knows connections all the same", one_by_one())
            .after([
                Step::Change(|state| state.services[0].protocol = Protocol::Tcp),
                packet(tcp(ALICE, 5000, S)),
            ])
            .packet(tcp(ALICE, 5000, A))
            .goes_to("edge 1"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn datagrams_leave_nothing_behind_but_their_count() {
    let Some(mut bed) = Bed::shared(one_by_one()) else {
        return;
    };
    for _ in 0..5 {
        bed.send(&udp(ALICE, 5000));
    }
    assert_eq!(bed.flows(), []);
    assert_eq!(bed.loads(), [(0, 0), (0, 0)]);
    let statistics = bed.statistics();
    let servers = statistics.services[0].servers.iter();
    let counted: Vec<_> = servers
        .map(|server| (server.traffic.connections, server.traffic.packets_in))
        .collect();
    assert_eq!(counted, [(3, 3), (2, 2)], "each is a connection");
}

#[test]
#[ignore = "needs root"]
fn a_client_of_many_datagrams_outlasts_a_flood_of_others() {
    let Some(mut bed) = Bed::shared(sticky()) else {
        return;
    };
    for _ in 0..2 {
        bed.send(&udp(ALICE, 5000));
    }
    // More than the table of new templates has room for.
    for client in 0..8192_u16 {
        let [high, low] = client.to_be_bytes();
        bed.send(&udp([10, 7, high, low], 5000));
    }
    let (clients, _) = bed
        .dataplane
        .conntrack_snapshot()
        .persistent_clients(lb_dataplane::Cursor::default(), 4096)
        .expect("readable");
    assert!(
        clients
            .iter()
            .any(|it| it.client == std::net::IpAddr::from(ALICE)),
        "{} others",
        clients.len()
    );
}
