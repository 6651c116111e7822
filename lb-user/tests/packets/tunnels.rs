//! Servers behind a router: the packet inside another one.

use std::net::IpAddr;

use etherparse::{Ipv4Header, PacketBuilder};
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

/// As [`deployment`], along paths for jumbo frames.
fn wide() -> DesiredState {
    let mut state = deployment();
    for service in &mut state.services {
        service.servers[0].forwarding = Forwarding::Tunnel {
            source: IpAddr::from(OURS),
            mtu: 9000,
        };
    }
    state
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
    let inner = &frame[14..];
    let is_ipv4 = inner[0] >> 4 == 4;
    let class = if is_ipv4 {
        inner[1]
    } else {
        inner[0] << 4 | inner[1] >> 4
    };
    let mut outer = if over_ipv6 {
        let mut header = vec![0x60 | class >> 4, class << 4, 0, 0];
        header.extend((inner.len() as u16).to_be_bytes());
        header.extend([protocol, 64]);
        [vec![0x86, 0xdd], header, OURS6.to_vec(), EDGE6.to_vec()].concat()
    } else {
        let length = inner.len() as u16;
        let mut header = Ipv4Header::new(length, 64, protocol.into(), OURS, [172, 16, 1, 210])
            .expect("short enough");
        header.dscp = (class >> 2).try_into().expect("six bits");
        header.ecn = (class & 3).try_into().expect("two bits");
        header.dont_fragment = is_ipv4 && inner[6] & 0x40 != 0;
        header.header_checksum = header.calc_header_checksum();
        [&[0x08, 0x00], &header.to_bytes()[..]].concat()
    };
    outer.extend(inner);
    outer
}

/// Offsets in a frame of Ethernet and IPv4.
const CLASS: usize = 15;
const FLAGS_AND_OFFSET: usize = 20;
/// In a frame of Ethernet and IPv6: version, and half of the class.
const VERSION: usize = 14;

/// `frame` without "don't fragment".
fn fragmentable(frame: Vec<u8>) -> Vec<u8> {
    patched(frame, FLAGS_AND_OFFSET, &[0, 0])
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
        case("and once it is established", deployment())
            .after([packet(tcp(ALICE, 5000, S)), packet(tcp(ALICE, 5000, A))])
            .packet(tcp(ALICE, 5000, "P."))
            .goes_changed_to("edge 1", &inside(&tcp(ALICE, 5000, "P."), IPV4, false)),
        case("an ICMP error, too", deployment())
            .after([packet(tcp(ALICE, 5000, S))])
            .packet(icmp(3, 4, &from_service(ALICE, 5000), 28))
            .goes_changed_to(
                "edge 1",
                &inside(&icmp(3, 4, &from_service(ALICE, 5000), 28), IPV4, false),
            ),
        case("and one of IPv6", deployment())
            .after([packet(tcp6(DAVE, 5000, S))])
            .packet(icmp6(2, 0, &from_service6(DAVE, 5000), 48))
            .goes_changed_to(
                "edge 1",
                &inside(&icmp6(2, 0, &from_service6(DAVE, 5000), 48), IPV6, false),
            ),
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
        case("what may be fragmented may so in the tunnel", deployment())
            .packet(fragmentable(tcp(ALICE, 5000, S)))
            .goes_changed_to(
                "edge 1",
                &inside(&fragmentable(tcp(ALICE, 5000, S)), IPV4, false),
            ),
        case("the class of service shows outside", deployment())
            .packet(patched(tcp(ALICE, 5000, S), CLASS, &[0xb9]))
            .goes_changed_to(
                "edge 1",
                &inside(&patched(tcp(ALICE, 5000, S), CLASS, &[0xb9]), IPV4, false),
            ),
        case("also of IPv6", deployment())
            .packet(patched(tcp6(DAVE, 5000, S), VERSION, &[0x6b, 0x90]))
            .goes_changed_to(
                "edge 1",
                &inside(
                    &patched(tcp6(DAVE, 5000, S), VERSION, &[0x6b, 0x90]),
                    IPV6,
                    false,
                ),
            ),
        case("and over IPv6", over_ipv6())
            .packet(patched(tcp(ALICE, 5000, S), CLASS, &[0xb9]))
            .goes_changed_to(
                "edge 1",
                &inside(&patched(tcp(ALICE, 5000, S), CLASS, &[0xb9]), IPV4, true),
            ),
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
        case("of several buffers, one that fits", wide())
            .after(connected.clone())
            .packet(long(8980))
            .goes_changed_to("edge 1", &inside(&long(8980), IPV4, false)),
        case("and one that does not", wide())
            .after(connected.clone())
            .packet(long(8981))
            .gets_told_the_mtu(8980),
        case("over IPv6 there is less room", over_ipv6())
            .after(connected.clone())
            .packet(long(1461))
            .gets_told_the_mtu(1460),
        case("one that might be fragmented elsewhere", deployment())
            .after(connected.clone())
            .packet(fragmentable(long(1481)))
            .gets_told_the_mtu(1480),
        case("the first fragment of a longer one", deployment())
            .after(connected.clone())
            .packet(patched(long(1496), FLAGS_AND_OFFSET, &[0x20, 0]))
            .gets_told_the_mtu(1480),
        case("a later one must not be answered", deployment())
            .after(connected.clone())
            .after([packet(patched(
                tcp(ALICE, 5000, A),
                FLAGS_AND_OFFSET,
                &[0x20, 0],
            ))])
            .packet(patched(long(1481), FLAGS_AND_OFFSET, &[0, 3]))
            .passes("too-big-silently"),
        case("nor an ICMP error", over_ipv6())
            .after(connected.clone())
            .packet(icmp(3, 4, &from_service(ALICE, 5000), 1440))
            .passes("too-big-silently"),
        case("nor one of IPv6", over_ipv6())
            .after(connected.clone())
            .packet(icmp6(2, 0, &from_service6(DAVE, 5000), 1460))
            .passes("too-big-silently"),
        case("an IPv6 packet", deployment())
            .after(connected)
            .packet(long6(1481))
            .gets_told_the_mtu(1480),
    ]);
}
