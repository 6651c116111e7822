//! Frames of hostile or random bytes.

use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
use lb_dataplane::TestRun;
use lb_model::DesiredState;
use lb_model::{Forwarding, Protocol, Vlan};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use packet_bed::frames::*;
use packet_bed::{Bed, DIRECTOR, ROUTER, answers, persistent, service, state};

/// Services of both families and protocols; of their servers one is dead, one
/// in a VLAN, one behind a tunnel that is narrow.
fn deployment() -> DesiredState {
    let servers = ["edge 1", "edge 2", "edge 3", "far edge"];
    let mut services = [
        persistent(service("172.16.1.200:1935", &servers), 50, 24),
        persistent(service("[2001:db8::c8]:1935", &servers), 50, 64),
        service("172.16.1.200:1935", &servers),
    ];
    services[2].protocol = Protocol::Udp;
    for service in &mut services {
        let hop = service.servers[1].next_hop.as_mut().expect("a next hop");
        hop.vlan = Vlan::Stacked(5, 6);
        service.servers[2].forwarding = Forwarding::Tunnel {
            source: [172, 16, 1, 208].into(),
            mtu: 100,
        };
    }
    state(services)
}

fn frame(kind: usize, port: u16, flags: &str) -> Vec<u8> {
    const FRAGMENT: u8 = 44;
    const OPTIONS: u8 = 60;
    // A client for each port, of a network of its own: every server has some.
    let network = port as u8;
    let client = [10, 0, network, 1];
    let client6 = [[0x20, 1, 0xd, 0xb8, 0, 1, 0, network], [0; 8]].concat();
    let client6 = client6.try_into().expect("16 bytes");
    match kind {
        0 => tcp(client, port, flags),
        1 => tcp6(client6, port, flags),
        2 => udp(client, port),
        3 => tagged(tcp(client, port, flags), &[(0x88A8, 5), (0x8100, 6)]),
        4 => tcp6_with(
            port,
            flags,
            &[
                (OPTIONS, vec![0, 0, 1, 4, 0, 0, 0, 0]),
                (FRAGMENT, vec![0, 0, 0, 1, 0, 0, 0, 7]),
                (OPTIONS, vec![0, 0, 1, 4, 0, 0, 0, 0]),
            ],
        ),
        5 => tcp_of(client, port, 120),
        6 => icmp(3, 4, &from_service(client, port), 28),
        7 => icmp6(2, 0, &from_service6(client6, port), 80),
        _ => patched(tcp_of(client, port, 200), 20, &[0x20, 0]),
    }
}

/// Checks what must hold for every frame.
fn check(frame: &[u8], run: &TestRun) {
    const XDP_PASS: u32 = 2;
    const XDP_TX: u32 = 3;
    const XDP_REDIRECT: u32 = 4;
    let out = &run.frame;
    if run.action == XDP_PASS {
        assert_eq!(out, frame, "the stack gets frames untouched");
        return;
    }
    assert!(
        [XDP_TX, XDP_REDIRECT].contains(&run.action),
        "action {}",
        run.action
    );
    assert_eq!(out[6..12], DIRECTOR, "the director is the sender");
    if out[..6] == ROUTER {
        check_answer(out);
    } else {
        let tags = frame[12..]
            .chunks_exact(4)
            .take_while(|tag| [[0x81, 0], [0x88, 0xa8]].contains(&[tag[0], tag[1]]));
        let packet = &frame[14 + tags.count() * 4..];
        let is_in_tunnel = out.len() >= 14 + 20 + packet.len();
        let out = if is_in_tunnel {
            answers::tunnelled(out)
        } else {
            answers::before_the_hop(out)
        };
        assert!(out.ends_with(packet), "the packet is whole");
    }
}

/// Checks that the receiver of a reply accepts it.
fn check_answer(answer: &[u8]) {
    let got = PacketHeaders::from_ethernet_slice(answer).expect("a whole packet");
    let payload = got.payload.slice();
    match (&got.net, &got.transport) {
        (Some(NetHeaders::Ipv4(ip, _)), Some(transport)) => {
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            match transport {
                TransportHeader::Tcp(tcp) => {
                    let checksum = tcp.calc_checksum_ipv4(ip, payload);
                    assert!(tcp.rst && Ok(tcp.checksum) == checksum);
                }
                TransportHeader::Icmpv4(icmp) => {
                    assert_eq!(icmp.checksum, icmp.icmp_type.calc_checksum(payload));
                }
                other => panic!("{other:?}"),
            }
        }
        (Some(NetHeaders::Ipv6(ip, _)), Some(transport)) => match transport {
            TransportHeader::Tcp(tcp) => {
                let checksum = tcp.calc_checksum_ipv6(ip, payload);
                assert!(tcp.rst && Ok(tcp.checksum) == checksum);
            }
            TransportHeader::Icmpv6(icmp) => {
                let kind = &icmp.icmp_type;
                let checksum = kind.calc_checksum(ip.source, ip.destination, payload);
                assert_eq!(Ok(icmp.checksum), checksum);
            }
            other => panic!("{other:?}"),
        },
        other => panic!("an answer over IP, not {other:?}"),
    }
}

#[test]
#[ignore = "needs root"]
fn no_bytes_lead_the_program_astray() {
    let Some(mut bed) = Bed::shared(deployment()) else {
        return;
    };
    // Connections to every server, of which one then dies.
    for kind in 0..9 {
        for port in 5000..5008 {
            for flags in [S, A] {
                bed.send(&frame(kind, port, flags));
            }
        }
    }
    bed.step(&crate::Step::Change(|state| {
        for service in &mut state.services {
            service.servers[0].alive = false;
        }
    }));
    let config = Config {
        cases: 4096,
        failure_persistence: None,
        ..Config::default()
    };
    let flags = prop::sample::select(vec![S, A, A, A, F, R]);
    let changes = prop::collection::vec((12_usize..120, any::<u8>()), 0..4);
    let input = (0_usize..9, 5000_u16..5008, flags, changes, 14_usize..400);
    let outcome = TestRunner::new(config).run(&input, |(kind, port, flags, changes, length)| {
        let mut frame = frame(kind, port, flags);
        for (place, value) in changes {
            if let Some(byte) = frame.get_mut(place) {
                *byte = value;
            }
        }
        frame.truncate(length);
        let run = bed.dataplane.test_run(&frame, 1);
        check(&frame, &run.expect("the program runs"));
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    let reasons = bed.statistics().reasons;
    for met in [
        "forwarded",
        "redirected",
        "tunnelled",
        "reset",
        "too-big",
        "too-big-silently",
        "truncated",
        "malformed",
    ] {
        let reason = reasons.iter().find(|reason| reason.name == met);
        let packets = reason.expect("a reason of ours").packets;
        assert!(packets > 0, "no frame was {met}: the test tries too little");
    }
}
