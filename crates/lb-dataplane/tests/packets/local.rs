//! A director that is its own real server: what its stack gets, and what is remembered.

use lb_model::{DesiredState, Protocol};

use crate::{case, check, packet};
use packet_bed::frames::*;
use packet_bed::{Bed, DIRECTOR, Step, Verdict, local_server, persistent, server, service, state};

/// A service of the director alone, over TCP and UDP, IPv4 and IPv6.
fn alone() -> DesiredState {
    with_servers(|servers, port| servers.push(local_server(port)))
}

/// A service of the director and an edge, in turn.
fn shared() -> DesiredState {
    with_servers(|servers, port| servers.extend([local_server(port), server("edge 2", port)]))
}

fn with_servers(add: impl Fn(&mut Vec<lb_model::RealServer>, u16)) -> DesiredState {
    let mut datagrams = service("172.16.1.200:1935", &[]);
    datagrams.protocol = Protocol::Udp;
    let mut state = state([
        service("172.16.1.200:1935", &[]),
        persistent(service("[2001:db8::c8]:1935", &[]), 50, 128),
        datagrams,
    ]);
    for service in &mut state.services {
        add(&mut service.servers, service.address.port());
    }
    state
}

fn connects(port: u16) -> [Step; 2] {
    [packet(tcp(ALICE, port, S)), packet(tcp(ALICE, port, A))]
}

#[test]
#[ignore = "needs root"]
fn the_stack_gets_what_a_local_server_is_given() {
    check([
        case("a SYN", alone())
            .packet(tcp(ALICE, 5000, S))
            .passes("local"),
        case("the rest of the handshake", alone())
            .after([packet(tcp(ALICE, 5000, S))])
            .packet(tcp(ALICE, 5000, A))
            .passes("local"),
        case("what follows, on the fast path", alone())
            .after(connects(5000))
            .packet(tcp(ALICE, 5000, A))
            .passes("local"),
        case("in a VLAN, with its tag", alone())
            .after(connects(5000))
            .packet(tagged(tcp(ALICE, 5000, A), &[(0x8100, 7)]))
            .passes("local"),
        case("with options", alone())
            .after(connects(5000))
            .packet(with_option(tcp(ALICE, 5000, A)))
            .passes("local"),
        case("IPv6, with persistence", alone())
            .after([packet(tcp6(DAVE, 5000, S)), packet(tcp6(DAVE, 5000, A))])
            .packet(tcp6(DAVE, 5000, A))
            .passes("local"),
        case("a datagram", alone())
            .packet(udp(ALICE, 5000))
            .passes("local"),
        case("a large one, too, which no interface has to take", alone())
            .after(connects(5000))
            .packet(tcp_of(ALICE, 5000, 9000))
            .passes("local"),
        case("an ICMP error about its connection", alone())
            .after(connects(5000))
            .packet(icmp(3, 4, &from_service(ALICE, 5000), 28))
            .passes("local"),
        case("a first fragment", alone())
            .packet(patched(udp(ALICE, 5000), 20, &[0x20, 0]))
            .passes("local"),
        case("and a later one", alone())
            .after([packet(patched(udp(ALICE, 5000), 20, &[0x20, 0]))])
            .packet(patched(udp(ALICE, 5000), 20, &[0x00, 1]))
            .passes("local"),
        case("not a frame for another host", alone())
            .packet(patched(tcp(ALICE, 5000, S), 0, &[2, 9, 9, 9, 9, 9]))
            .passes("other-host"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn a_local_server_takes_its_turn_and_keeps_its_connections() {
    check([
        case("the first is the director's", shared())
            .packet(tcp(ALICE, 5000, S))
            .passes("local"),
        case("the second is not", shared())
            .after(connects(5000))
            .packet(tcp(ALICE, 5001, S))
            .goes_to("edge 2"),
        case("nor what follows", shared())
            .after(connects(5000))
            .after(connects(5001))
            .packet(tcp(ALICE, 5001, A))
            .goes_to("edge 2"),
        case("a connection stays at weight 0", shared())
            .after(connects(5000))
            .after([Step::Change(|state| {
                state.services[0].servers[0].weight = 0
            })])
            .packet(tcp(ALICE, 5000, A))
            .passes("local"),
        case("where there are no new ones", shared())
            .after([Step::Change(|state| {
                state.services[0].servers[0].weight = 0
            })])
            .packet(tcp(ALICE, 5000, S))
            .goes_to("edge 2"),
        case("persistence ties to it", shared())
            .after([packet(tcp6(DAVE, 5000, S)), packet(tcp6(DAVE, 5000, A))])
            .packet(tcp6(DAVE, 5001, S))
            .passes("local"),
        case("its connection is reset when it dies", shared())
            .after(connects(5000))
            .after([Step::Change(|state| {
                state.services[0].servers[0].alive = false;
            })])
            .packet(tcp(ALICE, 5000, A))
            .gets_reset_at(5000),
        case("the client's own reset then reaches the stack", shared())
            .after(connects(5000))
            .after([Step::Change(|state| {
                state.services[0].servers[0].alive = false;
            })])
            .packet(tcp(ALICE, 5000, R))
            .passes("server-gone"),
        case("a connection of before reaches the stack", shared())
            .packet(tcp(ALICE, 5000, A))
            .passes("no-connection"),
        case(
            "what the other director has sent us is not balanced again",
            shared(),
        )
        .packet(patched(tcp(ALICE, 5000, S), 6, &[2, 0, 0, 1, 0, 1]))
        .passes("balanced-before"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn a_connection_that_no_server_can_take_is_refused_before_the_own_stack_accepts_it() {
    let Some(mut bed) = Bed::shared(alone()) else {
        return;
    };
    for change in [
        (|state| state.services[0].servers[0].weight = 0) as fn(&mut DesiredState),
        |state| state.services[0].servers[0].alive = false,
    ] {
        bed.reset(alone());
        bed.step(&Step::Change(change));
        assert_eq!(bed.send(&tcp(ALICE, 5000, S)), Verdict::Refused);
        let for_another = patched(tcp(ALICE, 5000, S), 0, &[2, 9, 9, 9, 9, 9]);
        assert_eq!(bed.send(&for_another), Verdict::Stack("no-server"));
    }
    // Where the stack has no such port, it refuses the connection itself.
    let mut remote = state([service("172.16.1.200:1935", &["edge 1"])]);
    remote.services[0].servers[0].weight = 0;
    bed.reset(remote);
    assert_eq!(bed.send(&tcp(ALICE, 5000, S)), Verdict::Stack("no-server"));
}

#[test]
#[ignore = "needs root"]
fn a_local_servers_traffic_is_counted_as_another_ones() {
    let Some(mut bed) = Bed::shared(alone()) else {
        return;
    };
    for flags in [S, A, A] {
        bed.send(&tcp(ALICE, 5000, flags));
    }
    let statistics = bed.statistics();
    let server = &statistics.services[0].servers[0];
    assert_eq!(server.traffic.connections, 1);
    assert_eq!(server.traffic.packets_in, 3);
    assert_eq!(server.active_connections, 1);
    assert_eq!(&tcp(ALICE, 5000, A)[..6], &DIRECTOR);
}
