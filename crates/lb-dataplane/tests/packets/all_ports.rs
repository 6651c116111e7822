//! Services that have all ports of their address: port 0.

use std::net::SocketAddr;

use lb_dataplane::Cursor;
use lb_model::DesiredState;
use lb_model::Protocol;

use crate::{case, check, packet};
use packet_bed::frames::*;
use packet_bed::{Bed, Step, persistent, server, service, state};

const HTTP: u16 = 80;
const HTTPS: u16 = 443;

/// Every port of the virtual address, with two servers and persistence.
fn all_ports() -> DesiredState {
    let all = service("172.16.1.200:0", &["edge 1", "edge 2"]);
    state([persistent(all, 50, 32)])
}

/// The same, and port 1935 with a server of its own.
fn and_rtmp() -> DesiredState {
    let mut desired = all_ports();
    desired
        .services
        .push(service("172.16.1.200:1935", &["edge 3"]));
    desired
}

fn over_udp(mut desired: DesiredState) -> DesiredState {
    for service in &mut desired.services {
        service.protocol = Protocol::Udp;
    }
    desired
}

fn over_ipv6() -> DesiredState {
    let all = service("[2001:db8::c8]:0", &["edge 1", "edge 2"]);
    let rtmp = service("[2001:db8::c8]:1936", &["edge 3"]);
    state([persistent(all, 50, 128), rtmp])
}

/// Of Alice, from this port to that one.
fn to(port: u16, service_port: u16, flags: &str) -> Vec<u8> {
    tcp_to(ALICE, port, VIP, service_port, flags)
}

/// A datagram to another port.
fn udp_to(client: [u8; 4], port: u16, service_port: u16) -> Vec<u8> {
    patched(udp(client, port), 36, &service_port.to_be_bytes())
}

#[test]
#[ignore = "needs root"]
fn every_port_is_served_and_a_client_has_one_server_for_all() {
    let bob = || packet(tcp_to(BOB, 5000, VIP, HTTP, S));
    check([
        case("a port", all_ports())
            .packet(to(5000, HTTP, S))
            .goes_to("edge 1"),
        case("another client gets the next server", all_ports())
            .after([bob()])
            .packet(to(5000, HTTP, S))
            .goes_to("edge 2"),
        case("another port, the same server", all_ports())
            .after([packet(to(5000, HTTP, S)), bob()])
            .packet(to(5001, HTTPS, S))
            .goes_to("edge 1"),
        case("a connection goes on", all_ports())
            .after([bob(), packet(to(5000, HTTPS, S))])
            .packet(to(5000, HTTPS, A))
            .goes_to("edge 2"),
        case(
            "a packet in the middle of an unknown one does not",
            all_ports(),
        )
        .after([packet(to(5000, HTTP, S)), packet(to(5000, HTTP, A))])
        .packet(to(5000, HTTPS, A))
        .passes("no-connection"),
        case("another address is none of its business", all_ports())
            .packet(tcp_to(ALICE, 5000, [172, 16, 1, 201], HTTP, S))
            .passes("not-a-service"),
        case("nor is another protocol", all_ports())
            .packet(udp(ALICE, 5000))
            .passes("not-a-service"),
        case("over UDP", over_udp(all_ports()))
            .after([packet(udp_to(BOB, 1, 53)), packet(udp_to(ALICE, 5000, 53))])
            .packet(udp_to(ALICE, 5001, 8000))
            .goes_to("edge 2"),
        case("over IPv6", over_ipv6())
            .after([packet(tcp6(ERIN, 5000, S)), packet(tcp6(DAVE, 5000, S))])
            .packet(patched(tcp6(DAVE, 5001, S), 56, &HTTPS.to_be_bytes()))
            .goes_to("edge 2"),
        case("a port of its own, over IPv6", over_ipv6())
            .packet(patched(tcp6(DAVE, 5000, S), 56, &1936_u16.to_be_bytes()))
            .goes_to("edge 3"),
        case(
            "a later fragment without a first follows its client",
            all_ports(),
        )
        .after([
            packet(tcp_to(BOB, 5000, VIP, HTTP, S)),
            packet(to(5000, HTTP, S)),
        ])
        .packet(patched(to(5000, HTTPS, A), 20, &[0, 3]))
        .goes_to("edge 2"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn a_service_of_the_port_comes_before_that_of_all_ports() {
    check([
        case("the port with a service", and_rtmp())
            .packet(to(5000, RTMP, S))
            .goes_to("edge 3"),
        case("another port", and_rtmp())
            .packet(to(5000, HTTP, S))
            .goes_to("edge 1"),
        case("whoever sticks to a server of the one", and_rtmp())
            .after([packet(to(5000, HTTP, S))])
            .packet(to(5001, RTMP, S))
            .goes_to("edge 3"),
        case("over UDP", over_udp(and_rtmp()))
            .packet(udp(ALICE, 5000))
            .goes_to("edge 3"),
        case("without a server it is not made up for", and_rtmp())
            .after([Step::Change(|state| state.services[1].servers.clear())])
            .packet(to(5000, RTMP, S))
            .passes("no-server"),
        case(
            "when it has left, all ports are those of the other",
            and_rtmp(),
        )
        .after([Step::Change(|state| state.services.truncate(1))])
        .packet(to(5000, RTMP, S))
        .goes_to("edge 1"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn connections_from_one_port_to_several_are_several() {
    let both = || {
        [HTTP, HTTPS]
            .into_iter()
            .flat_map(|port| [packet(to(5000, port, S)), packet(to(5000, port, A))])
    };
    check([
        case("the end of one is not the other's", all_ports())
            .after(both())
            .after([packet(to(5000, HTTP, R)), packet_bed::seconds(20)])
            .packet(to(5000, HTTPS, A))
            .goes_to("edge 1"),
        case("and is its own", all_ports())
            .after(both())
            .after([packet(to(5000, HTTP, R)), packet_bed::seconds(20)])
            .packet(to(5000, HTTP, A))
            .passes("no-connection"),
        case("an error is about one of them", all_ports())
            .after([packet(to(5000, HTTP, S))])
            .packet(icmp(3, 4, &from_service(ALICE, 5000), 28))
            .passes("icmp-unrelated"),
        case("and reaches its server", all_ports())
            .after([packet(to(5000, RTMP, S))])
            .packet(icmp(3, 4, &from_service(ALICE, 5000), 28))
            .goes_to("edge 1"),
        case(
            "the dead server of one is answered for at its port",
            all_ports(),
        )
        .after(both())
        .after([Step::Change(|state| {
            state.services[0].servers[0].alive = false;
        })])
        .packet(to(5000, HTTPS, A))
        .gets_reset_at(5000),
    ]);
}

#[test]
#[ignore = "needs root"]
fn connections_are_listed_and_given_up_with_the_port_that_the_client_chose() {
    let Some(mut bed) = Bed::shared(all_ports()) else {
        return;
    };
    let ports = [HTTP, HTTPS];
    for port in ports {
        for flags in [S, A] {
            bed.send(&to(5000, port, flags));
        }
    }
    let remembered = bed.dataplane.conntrack_snapshot();
    let (mut connections, _) = remembered
        .connections(Cursor::default(), 100)
        .expect("readable");
    connections.sort_by_key(|connection| connection.service);
    let services = ports.map(|port| SocketAddr::from((VIP, port)));
    let listed: Vec<_> = connections.iter().map(|it| it.service).collect();
    assert_eq!(listed, services);
    let (clients, _) = remembered
        .persistent_clients(Cursor::default(), 100)
        .expect("readable");
    let of: Vec<_> = clients.iter().map(|client| client.service).collect();
    assert_eq!(
        of,
        [SocketAddr::from((VIP, 0))],
        "one template for all ports"
    );

    let mut desired = all_ports();
    desired.services[0].servers[0] = server("edge 3", 0);
    let changes = bed.dataplane.apply(&desired).expect("applied");
    let mut orphans = Vec::new();
    remembered
        .for_each_orphan(&changes.removed_servers, |_, orphan| {
            orphans.push(orphan.service)
        })
        .expect("readable");
    orphans.sort();
    assert_eq!(orphans, services);
}
