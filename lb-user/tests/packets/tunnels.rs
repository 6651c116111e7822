//! Servers behind a router: the packet inside another one.

use std::net::IpAddr;

use etherparse::PacketBuilder;
use lb_user::dataplane::DesiredState;
use lb_user::dataplane::state::{Forwarding, Vlan};

use crate::bed::frames::*;
use crate::bed::{DIRECTOR, ROUTER, Step, service, state};
use crate::{case, check, packet};

const OURS: [u8; 4] = [172, 16, 1, 208];
const OURS6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8];
const EDGE6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// Both services through tunnels over IPv4, to 172.16.1.210.
fn deployment() -> DesiredState {
    let mut services = [
        service("172.16.1.200:1935", &["edge 1"]),
        service("[2001:db8::c8]:1935", &["edge 1"]),
    ];
    for service in &mut services {
        service.servers[0].forwarding = Forwarding::Tunnel {
            source: IpAddr::from(OURS),
            mtu: 1500,
        };
    }
    state(services)
}

/// As [`deployment`], over IPv6.
fn over_ipv6() -> DesiredState {
    let mut state = deployment();
    for service in &mut state.services {
        let server = &mut service.servers[0];
        server.address.set_ip(IpAddr::from(EDGE6));
        server.forwarding = Forwarding::Tunnel {
            source: IpAddr::from(OURS6),
            mtu: 1500,
        };
    }
    state
}

/// What stands behind the MAC addresses of a frame that carries the packet of
/// `frame` in a packet to the server.
fn inside(frame: &[u8], protocol: u8, over_ipv6: bool) -> Vec<u8> {
    let step = PacketBuilder::ethernet2(ROUTER, DIRECTOR);
    let step = if over_ipv6 {
        step.ipv6(OURS6, EDGE6, 64)
    } else {
        step.ipv4(OURS, [172, 16, 1, 210], 64)
    };
    let mut outer = Vec::new();
    step.write(&mut outer, protocol.into(), &frame[14..])
        .expect("a vector takes it");
    outer[12..].to_vec()
}

const IPV4: u8 = 4;
const IPV6: u8 = 41;

#[test]
fn packets_travel_inside_others() {
    check([
        case("IPv4 in IPv4", deployment())
            .packet(tcp(ALICE, 5000, S))
            .goes_changed_to("edge 1", &inside(&tcp(ALICE, 5000, S), IPV4, false)),
        case("the rest of the connection, too", deployment())
            .after([packet(tcp(ALICE, 5000, S))])
            .packet(tcp(ALICE, 5000, "P."))
            .goes_changed_to("edge 1", &inside(&tcp(ALICE, 5000, "P."), IPV4, false)),
        case("also once the route is not known any more", deployment())
            .after([
                packet(tcp(ALICE, 5000, S)),
                Step::Change(|state| {
                    let server = &mut state.services[0].servers[0];
                    (server.forwarding, server.next_hop) = (Forwarding::Direct, None);
                }),
            ])
            .packet(tcp(ALICE, 5000, A))
            .goes_changed_to("edge 1", &inside(&tcp(ALICE, 5000, A), IPV4, false)),
        case("IPv6 in IPv4", deployment())
            .packet(tcp6(DAVE, 5000, S))
            .goes_changed_to("edge 1", &inside(&tcp6(DAVE, 5000, S), IPV6, false)),
        case("IPv4 in IPv6", over_ipv6())
            .packet(tcp(ALICE, 5000, S))
            .goes_changed_to("edge 1", &inside(&tcp(ALICE, 5000, S), IPV4, true)),
        case("IPv6 in IPv6", over_ipv6())
            .packet(tcp6(DAVE, 5000, S))
            .goes_changed_to("edge 1", &inside(&tcp6(DAVE, 5000, S), IPV6, true)),
        case("out of one VLAN into another", {
            let mut state = deployment();
            let hop = state.services[0].servers[0]
                .next_hop
                .as_mut()
                .expect("a next hop");
            hop.vlan = Vlan::Tagged(20);
            state
        })
        .packet(tagged(tcp(ALICE, 5000, S), &[(0x88A8, 1), (0x8100, 2)]))
        .goes_changed_to(
            "edge 1",
            &tagged(
                [&[0; 12][..], &inside(&tcp(ALICE, 5000, S), IPV4, false)].concat(),
                &[(0x8100, 20)],
            )[12..],
        ),
    ]);
}

#[test]
fn a_client_is_told_when_its_packet_does_not_fit() {
    let long = |bytes: usize| {
        let step = PacketBuilder::ethernet2(ROUTER, DIRECTOR)
            .ipv4(ALICE, VIP, 64)
            .tcp(5000, RTMP, 1000, 65_535)
            .ack(5000);
        let mut frame = Vec::new();
        step.write(&mut frame, &vec![7; bytes - 40])
            .expect("a vector takes it");
        frame
    };
    let long6 = |bytes: usize| {
        let step = PacketBuilder::ethernet2(ROUTER, DIRECTOR)
            .ipv6(DAVE, VIP6, 64)
            .tcp(5000, RTMP, 1000, 65_535)
            .ack(5000);
        let mut frame = Vec::new();
        step.write(&mut frame, &vec![7; bytes - 60])
            .expect("a vector takes it");
        frame
    };
    let connected = [packet(tcp(ALICE, 5000, S)), packet(tcp6(DAVE, 5000, S))];
    check([
        case("the longest that fits", deployment())
            .after(connected.clone())
            .packet(long(1480))
            .goes_changed_to("edge 1", &inside(&long(1480), IPV4, false)),
        case("a byte more", deployment())
            .after(connected.clone())
            .packet(long(1481))
            .gets_told_the_mtu(1480),
        case("a byte more, in a VLAN", deployment())
            .after(connected.clone())
            .packet(tagged(long(1481), &[(0x88A8, 1), (0x8100, 2)]))
            .gets_told_the_mtu(1480),
        case("over IPv6 there is less room", over_ipv6())
            .after(connected.clone())
            .packet(long(1461))
            .gets_told_the_mtu(1460),
        case("an IPv6 packet", deployment())
            .after(connected)
            .packet(long6(1481))
            .gets_told_the_mtu(1480),
    ]);
}
