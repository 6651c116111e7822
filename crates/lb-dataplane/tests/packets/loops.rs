//! The loop guard: frames that a director has balanced already.

use lb_abi::{Mac, PeerFilter};
use lb_model::DesiredState;
use lb_model::{Forwarding, Protocol};

use crate::{case, check, packet};
use packet_bed::frames::*;
use packet_bed::{Bed, DIRECTOR, Step, Verdict, persistent, service, state};

const EDGE_1: [u8; 6] = [2, 0, 0, 1, 0, 0];
const EDGE_2: [u8; 6] = [2, 0, 0, 1, 0, 1];
/// Its address.
const EDGE_1_IP: [u8; 4] = [172, 16, 1, 210];

fn deployment() -> DesiredState {
    let mut datagrams = service("172.16.1.200:1935", &["edge 1"]);
    datagrams.protocol = Protocol::Udp;
    state([
        service("172.16.1.200:1935", &["edge 1"]),
        persistent(service("[2001:db8::c8]:1935", &["edge 1"]), 50, 128),
        persistent(datagrams, 50, 32),
        service("172.16.1.200:1936", &["edge 2"]),
    ])
}

/// `frame` as it comes from the host with this MAC address.
fn from(mac: [u8; 6], frame: Vec<u8>) -> Vec<u8> {
    patched(frame, 6, &mac)
}

fn alice_connects() -> [Step; 2] {
    [packet(tcp(ALICE, 5000, S)), packet(tcp(ALICE, 5000, A))]
}

/// As [`deployment`], with other first servers.
fn changed(change: impl Fn(&mut lb_model::RealServer)) -> DesiredState {
    let mut state = deployment();
    for service in &mut state.services {
        change(&mut service.servers[0]);
    }
    state
}

#[test]
#[ignore = "needs root"]
fn what_comes_from_a_server_of_the_service_is_the_stacks() {
    let first = patched(udp(ALICE, 5000), 20, &[0x20, 0]);
    let later = patched(udp(ALICE, 5000), 20, &[0x00, 1]);
    check([
        case("a SYN", deployment())
            .packet(from(EDGE_1, tcp(ALICE, 5000, S)))
            .passes("balanced-before"),
        case("in a VLAN, too", deployment())
            .packet(tagged(from(EDGE_1, tcp(ALICE, 5000, S)), &[(0x8100, 7)]))
            .passes("balanced-before"),
        case("IPv6, too", deployment())
            .packet(from(EDGE_1, tcp6(DAVE, 5000, S)))
            .passes("balanced-before"),
        case("a datagram", deployment())
            .packet(from(EDGE_1, udp(ALICE, 5000)))
            .passes("balanced-before"),
        case("a segment of a connection that we know", deployment())
            .after(alice_connects())
            .packet(from(EDGE_1, tcp(ALICE, 5000, A)))
            .passes("balanced-before"),
        case("a SYN in its place", deployment())
            .after(alice_connects())
            .packet(from(EDGE_1, tcp(ALICE, 5000, S)))
            .passes("balanced-before"),
        case("an ICMP error about it", deployment())
            .after(alice_connects())
            .packet(from(EDGE_1, icmp(3, 4, &from_service(ALICE, 5000), 28)))
            .passes("balanced-before"),
        case("a fragment whose client sticks to a server", deployment())
            .after([packet(udp(ALICE, 5000)), packet(udp(ALICE, 5000))])
            .packet(from(EDGE_1, later))
            .passes("balanced-before"),
        case("a first fragment", deployment())
            .packet(from(EDGE_1, first))
            .passes("balanced-before"),
        case(
            "while the server is dead",
            changed(|server| server.alive = false),
        )
        .packet(from(EDGE_1, tcp(ALICE, 5000, S)))
        .passes("balanced-before"),
        case("from a server that has just joined", state([]))
            .after([Step::Apply(deployment())])
            .packet(from(EDGE_1, tcp(ALICE, 5000, S)))
            .passes("balanced-before"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn what_a_server_sends_as_a_client_or_as_a_router_is_balanced() {
    let own = || from(EDGE_1, tcp(EDGE_1_IP, 5000, S));
    check([
        case("a connection of its own", deployment())
            .packet(own())
            .goes_to("edge 1"),
        case("and what follows", deployment())
            .after([packet(own())])
            .packet(from(EDGE_1, tcp(EDGE_1_IP, 5000, A)))
            .goes_to("edge 1"),
        case("not one that bears another's address", deployment())
            .packet(from(EDGE_1, tcp([172, 16, 1, 211], 5000, S)))
            .passes("balanced-before"),
        case("to another service, as whoever", deployment())
            .packet(from(EDGE_1, tcp_to(ALICE, 5000, VIP, 1936, S)))
            .goes_to("edge 2"),
        case("of which that is no server", deployment())
            .packet(from(EDGE_2, tcp(ALICE, 5000, S)))
            .goes_to("edge 1"),
        case(
            "a server that is a router as well",
            changed(|server| server.next_hop.as_mut().expect("a hop").is_router = true),
        )
        .packet(from(EDGE_1, tcp(ALICE, 5000, S)))
        .goes_to("edge 1"),
        case("one that has left", deployment())
            .after([Step::Change(|state| {
                let service = &mut state.services[0];
                service.servers = packet_bed::service("172.16.1.200:1935", &["edge 2"]).servers;
            })])
            .packet(from(EDGE_1, tcp(ALICE, 5000, S)))
            .goes_to("edge 2"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn a_router_before_servers_behind_tunnels_brings_clients_packets() {
    let tunnelled = changed(|server| {
        server.forwarding = Forwarding::Tunnel {
            source: [172, 16, 1, 208].into(),
            mtu: 1500,
        };
    });
    let Some(mut bed) = Bed::shared(tunnelled) else {
        return;
    };
    for flags in [S, A, A] {
        let verdict = bed.send(&from(EDGE_1, tcp(ALICE, 5000, flags)));
        assert!(
            matches!(verdict, Verdict::Changed("edge 1", _)),
            "{verdict:?}"
        );
    }
}

/// A MAC address with the same bit in the program's filter as `mac`.
fn look_alike(mac: [u8; 6]) -> [u8; 6] {
    let mut filter = PeerFilter::EMPTY;
    filter.insert(mac.into());
    (0..u32::MAX)
        .map(|number| {
            let [a, b, c, d] = number.to_be_bytes();
            [2, 7, a, b, c, d]
        })
        .find(|other| filter.may_hold(Mac::from(*other)))
        .expect("one in 65,536 is")
}

#[test]
#[ignore = "needs root"]
fn a_router_that_resembles_a_server_is_not_taken_for_one() {
    let router = look_alike(EDGE_1);
    check([
        case("it opens connections", deployment())
            .packet(from(router, tcp(ALICE, 5000, S)))
            .goes_to("edge 1"),
        case("and goes on with them", deployment())
            .after(alice_connects())
            .packet(from(router, tcp(ALICE, 5000, A)))
            .goes_to("edge 1"),
    ]);
}

/// Offset of the time to live in a frame of Ethernet and IPv4.
const TIME_TO_LIVE: usize = 22;
/// Offset of the hop limit in one of Ethernet and IPv6.
const HOP_LIMIT: usize = 21;

#[test]
#[ignore = "needs root"]
fn a_packet_without_hops_left_is_the_stacks() {
    let at = |hops: u8, frame| patched(frame, TIME_TO_LIVE, &[hops]);
    let at6 = |hops: u8, frame| patched(frame, HOP_LIMIT, &[hops]);
    check([
        case("a SYN", deployment())
            .packet(at(1, tcp(ALICE, 5000, S)))
            .passes("hops-exceeded"),
        case("which opens no connection", deployment())
            .after([packet(at(1, tcp(ALICE, 5000, S)))])
            .packet(tcp(ALICE, 5000, A))
            .passes("no-connection"),
        case("one that has a hop left goes on", deployment())
            .packet(at(2, tcp(ALICE, 5000, S)))
            .goes_to("edge 1"),
        case("of a connection", deployment())
            .after(alice_connects())
            .packet(at(1, tcp(ALICE, 5000, A)))
            .passes("hops-exceeded"),
        case("and of one, with a hop left", deployment())
            .after(alice_connects())
            .packet(at(2, tcp(ALICE, 5000, A)))
            .goes_to("edge 1"),
        case("one that ought not to be on its way at all", deployment())
            .after(alice_connects())
            .packet(at(0, tcp(ALICE, 5000, A)))
            .passes("hops-exceeded"),
        case("IPv6", deployment())
            .packet(at6(1, tcp6(DAVE, 5000, S)))
            .passes("hops-exceeded"),
        case("an ICMP error", deployment())
            .after(alice_connects())
            .packet(at(1, icmp(3, 4, &from_service(ALICE, 5000), 28)))
            .passes("hops-exceeded"),
        case("for nobody, as ever", deployment())
            .packet(at(1, tcp_to(ALICE, 5000, VIP, 1, S)))
            .passes("not-a-service"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn a_circle_of_strangers_ends() {
    const STRANGER: [u8; 6] = [2, 0, 0, 9, 9, 9];
    let Some(mut bed) = Bed::shared(deployment()) else {
        return;
    };
    for frame in [
        tcp(ALICE, 5000, S),
        tcp(ALICE, 5000, A),
        tcp(ALICE, 5000, A),
        tcp6(DAVE, 5000, S),
        tagged(tcp(BOB, 5000, S), &[(0x8100, 7)]),
    ] {
        let mut frame = frame;
        let mut turns = 0;
        while bed.send(&frame) != Verdict::Stack("hops-exceeded") {
            frame = bed.dataplane.test_run(&frame, 1).expect("it runs").frame;
            frame = from(STRANGER, patched(frame, 0, &DIRECTOR));
            turns += 1;
            assert!(turns < 64, "a packet starts with 64 hops");
        }
        assert_eq!(turns, 63);
    }
}
