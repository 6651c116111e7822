//! Packets from addresses that no client can have.

use lb_model::DesiredState;
use lb_model::Protocol;

use crate::{Case, case, check};
use packet_bed::frames::*;
use packet_bed::{service, state};

fn deployment() -> DesiredState {
    let mut datagrams = service("172.16.1.200:1935", &["edge 1"]);
    datagrams.protocol = Protocol::Udp;
    state([
        service("172.16.1.200:1935", &["edge 1"]),
        service("[2001:db8::c8]:1935", &["edge 1"]),
        datagrams,
    ])
}

fn v6(text: &str) -> [u8; 16] {
    let address: std::net::Ipv6Addr = text.parse().expect("an address");
    address.octets()
}

#[test]
#[ignore = "needs root"]
fn a_source_that_cannot_be_opens_no_connection() {
    let refused = |says: &'static str, frame: Vec<u8>| -> Case {
        case(says, deployment())
            .packet(frame)
            .passes("martian-source")
    };
    check([
        refused("loopback", tcp([127, 0, 0, 1], 5000, S)),
        refused("all of it", tcp([127, 255, 255, 254], 5000, S)),
        refused("multicast", tcp([224, 0, 0, 18], 5000, S)),
        refused("to its end", tcp([239, 255, 255, 255], 5000, S)),
        refused("broadcast", tcp([255, 255, 255, 255], 5000, S)),
        refused("none", tcp([0, 0, 0, 0], 5000, S)),
        refused("this network", tcp([0, 1, 2, 3], 5000, S)),
        refused("the service itself", tcp(VIP, 5000, S)),
        refused("a datagram", udp([127, 0, 0, 1], 5000)),
        refused("IPv6 loopback", tcp6(v6("::1"), 5000, S)),
        refused("IPv6 none", tcp6(v6("::"), 5000, S)),
        refused("IPv6 multicast", tcp6(v6("ff02::1"), 5000, S)),
        refused(
            "IPv4 in IPv6's clothes",
            tcp6(v6("::ffff:10.0.0.1"), 5000, S),
        ),
        refused("the IPv6 service itself", tcp6(VIP6, 5000, S)),
    ]);
}

#[test]
#[ignore = "needs root"]
fn sources_next_to_those_are_clients() {
    let served = |says: &'static str, frame: Vec<u8>| -> Case {
        case(says, deployment()).packet(frame).goes_to("edge 1")
    };
    check([
        served("the first unicast network", tcp([1, 0, 0, 1], 5000, S)),
        served("below loopback", tcp([126, 255, 255, 255], 5000, S)),
        served("above loopback", tcp([128, 0, 0, 1], 5000, S)),
        served("below multicast", tcp([223, 255, 255, 255], 5000, S)),
        served("reserved, as Linux takes it", tcp([240, 0, 0, 1], 5000, S)),
        served("next to the service", tcp([172, 16, 1, 201], 5000, S)),
        served("IPv6, compatible", tcp6(v6("::2"), 5000, S)),
        served("IPv6, link-local", tcp6(v6("fe80::1"), 5000, S)),
    ]);
}
