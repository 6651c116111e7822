//! Tunnels: encapsulation for servers behind a router.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};

use etherparse::{Ipv4Header, NetSlice, PacketBuilder};
use lb_model::DesiredState;
use lb_model::{Forwarding, Vlan};
use net_types::Network;

use crate::{case, check, packet};
use packet_bed::frames::*;
use packet_bed::{Bed, DIRECTOR, ROUTER, Step, service, state};

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

/// The bytes after the MAC addresses of a frame that holds the packet of `frame`
/// encapsulated in a packet to the server.
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
#[ignore = "needs root"]
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
#[ignore = "needs root"]
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

/// Both services through tunnels whose outer packets come from these networks.
fn from_networks(mut state: DesiredState) -> DesiredState {
    let networks = ["172.16.0.0/12", "2001:db8:f00::/40"];
    state.tunnel_sources = networks
        .map(|network| network.parse().expect("a network"))
        .to_vec();
    state
}

/// Source and flow label of the outer header, once the packet of `frame` is forwarded.
fn outer(bed: &Bed, frame: &[u8]) -> (IpAddr, u32) {
    let run = bed.dataplane.test_run(frame, 1).expect("the program runs");
    let packet = etherparse::SlicedPacket::from_ethernet(&run.frame).expect("a whole packet");
    match packet.net.expect("a packet") {
        NetSlice::Ipv4(outer) => (outer.header().source_addr().into(), 0),
        NetSlice::Ipv6(outer) => (
            outer.header().source_addr().into(),
            outer.header().flow_label().value(),
        ),
        other => panic!("{other:?}"),
    }
}

/// Number of different outer headers of 64 connections; all packets of a connection have
/// the same one.
fn outer_of_flows(bed: &Bed) -> HashSet<(IpAddr, u32)> {
    let flows = (0..64).map(|flow| {
        // By client, and by port of one client.
        let client = [10, 0, 0, 1 + flow % 8];
        let frames = [S, A, "P."].map(|flags| tcp(client, 5000 + u16::from(flow / 8), flags));
        let outers = frames.map(|frame| outer(bed, &frame));
        assert_eq!(outers, [outers[0]; 3], "of a flow");
        outers[0]
    });
    flows.collect()
}

#[test]
#[ignore = "needs root"]
fn each_flow_has_an_outer_source_of_its_own_where_a_network_is_given() {
    let Some(mut bed) = Bed::shared(from_networks(deployment())) else {
        return;
    };
    let inside = |first: IpAddr, length| {
        let network = Network::new(first, length);
        move |outer: &(IpAddr, u32)| network.contains(outer.0)
    };
    let outers = outer_of_flows(&bed);
    assert!(outers.len() > 60, "{outers:?}");
    assert!(outers.iter().all(inside([172, 16, 0, 0].into(), 12)));
    // The slow path reaches the same verdict: an IP option leads there.
    let frame = tcp(ALICE, 5000, A);
    assert_eq!(
        outer(&bed, &frame),
        outer(&bed, &with_option(frame.clone()))
    );

    bed.reset(from_networks(over_ipv6()));
    let outers = outer_of_flows(&bed);
    assert!(outers.len() > 60, "{outers:?}");
    let network = [0x2001, 0xdb8, 0xf00, 0, 0, 0, 0, 0];
    assert!(
        outers
            .iter()
            .all(inside(Ipv6Addr::from(network).into(), 40))
    );
}

#[test]
#[ignore = "needs root"]
fn without_a_network_the_outer_source_is_ours_and_ipv6_has_a_label_for_each_flow() {
    let Some(mut bed) = Bed::shared(deployment()) else {
        return;
    };
    assert_eq!(outer_of_flows(&bed), HashSet::from([(OURS.into(), 0)]));
    bed.reset(over_ipv6());
    let outers = outer_of_flows(&bed);
    assert!(outers.len() > 60, "{outers:?}");
    assert!(outers.iter().all(|outer| outer.0 == IpAddr::from(OURS6)));
}
