//! The program against the model: on any sequence of packets, pauses and changes
//! of the configuration both reach the same verdicts.

use lb_model::{OrphanPolicy, Scheduler, Vlan};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::model::{
    Change, OVER_IPV6, OVER_UDP, PAUSE, PERSISTENCE, Packet, Persistence, SERVICES, Service,
    TO_ALL_PORTS, desired,
};
use packet_bed::frames::{
    RTMP, from_service, from_service6, icmp, icmp6, patched, tagged, tcp, tcp_to, tcp6, tcp6_with,
    udp, udp_from_service, with_option,
};
use packet_bed::{Bed, Step, Verdict};

#[derive(Debug, Clone)]
enum Event {
    Packet {
        service: usize,
        packet: Packet,
        dress: Dress,
    },
    /// As a packet, in two fragments.
    Fragments {
        service: usize,
        packet: Packet,
    },
    /// A later fragment without the first.
    Overtaking {
        service: usize,
        client: u8,
    },
    /// An ICMP error about a packet from the service.
    Error {
        service: usize,
        about: Packet,
    },
    Pause(u64),
    Sweep,
    Change(usize, Change),
}

/// Variations of a packet that make no difference to its verdict.
#[derive(Debug, Clone, Copy)]
enum Dress {
    Plain,
    /// An IP option or an extension header.
    Long,
    Tagged,
    Stacked,
}

const TAG: (u16, u16) = (0x8100, 10);
const PROVIDERS: (u16, u16) = (0x88A8, 5);
const CLIENTS: u8 = 4;
const PORTS: u16 = 2;
/// The first of the ports.
const PORT: u16 = 5000;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

fn dave(client: u8) -> [u8; 16] {
    let mut address = packet_bed::frames::DAVE;
    address[15] = client;
    address
}

/// The address that has all its ports.
const VIP_OF_ALL_PORTS: [u8; 4] = [172, 16, 1, 201];

fn plain(service: usize, packet: &Packet) -> Vec<u8> {
    let (last, port, flags) = (packet.client, PORT + packet.port, packet.flags);
    let client = [10, 0, 0, last];
    match service {
        OVER_IPV6 => tcp6(dave(last), port, flags),
        OVER_UDP => udp(client, port),
        TO_ALL_PORTS => tcp_to(client, port, VIP_OF_ALL_PORTS, RTMP + packet.to, flags),
        _ => tcp(client, port, flags),
    }
}

fn frame(service: usize, packet: &Packet, dress: Dress) -> Vec<u8> {
    let plain = || plain(service, packet);
    let frame = match dress {
        Dress::Plain => plain(),
        Dress::Long if service == OVER_IPV6 => {
            let padding = (DESTINATION_OPTIONS, vec![0, 0, 1, 4, 0, 0, 0, 0]);
            let frame = tcp6_with(PORT + packet.port, packet.flags, &[padding]);
            patched(frame, 37, &[packet.client])
        }
        Dress::Long => with_option(plain()),
        Dress::Tagged => tagged(plain(), &[TAG]),
        Dress::Stacked => tagged(plain(), &[PROVIDERS, TAG]),
    };
    if packet.is_anothers {
        patched(frame, 0, &[2, 9, 9, 9, 9, 9])
    } else {
        frame
    }
}

/// A fragment of a packet over IPv6.
fn fragment6(client: u8, port: u16, flags: &str, offset_and_more: u16, number: u16) -> Vec<u8> {
    let mut header = vec![0, 0];
    header.extend(offset_and_more.to_be_bytes());
    header.extend([0, 0]);
    header.extend(number.to_be_bytes());
    let frame = tcp6_with(PORT + port, flags, &[(FRAGMENT, header)]);
    patched(frame, 37, &[client])
}

/// A first fragment and a later one.
fn fragments(service: usize, packet: &Packet, number: u16) -> [Vec<u8>; 2] {
    let &Packet {
        client,
        port,
        flags,
        ..
    } = packet;
    if service == OVER_IPV6 {
        return [1, 8].map(|place| fragment6(client, port, flags, place, number));
    }
    let whole = patched(plain(service, packet), 18, &number.to_be_bytes());
    [
        patched(whole.clone(), 20, &[0x20, 0]),
        patched(whole, 20, &[0, 3]),
    ]
}

/// An error about a packet of the connection that `about` is one of.
fn error(service: usize, about: &Packet) -> Vec<u8> {
    let (client, port) = (about.client, PORT + about.port);
    match service {
        TO_ALL_PORTS => {
            let quoted = from_service([10, 0, 0, client], port);
            let quoted = patched(quoted, 26, &VIP_OF_ALL_PORTS);
            let quoted = patched(quoted, 34, &(RTMP + about.to).to_be_bytes());
            patched(icmp(3, 4, &quoted, 28), 30, &VIP_OF_ALL_PORTS)
        }
        OVER_IPV6 => icmp6(2, 0, &from_service6(dave(client), port), 48),
        OVER_UDP => icmp(3, 3, &udp_from_service([10, 0, 0, client], port), 28),
        _ => icmp(3, 4, &from_service([10, 0, 0, client], port), 28),
    }
}

/// The frame as it is forwarded with `verdict`: with the tags of the server.
fn retagged(verdict: Verdict, service: &Service, frame: &[u8]) -> Verdict {
    let Verdict::To(server) = verdict else {
        return verdict;
    };
    let wanted: &[(u16, u16)] = match service.vlan(server) {
        Some(Vlan::Tagged(number)) => &[(0x8100, number)],
        Some(Vlan::Stacked(outer, inner)) => &[(0x88A8, outer), (0x8100, inner)],
        _ => &[],
    };
    let is_tag = |ethertype: [u8; 2]| [[0x81, 0], [0x88, 0xa8]].contains(&ethertype);
    let mut bare = frame.to_vec();
    while is_tag([bare[12], bare[13]]) {
        bare.drain(12..16);
    }
    let expected = tagged(bare, wanted);
    if expected[12..] == frame[12..] {
        Verdict::To(server)
    } else {
        Verdict::Changed(server, expected[12..].to_vec())
    }
}

fn change() -> impl Strategy<Value = Change> {
    let server = || 0_usize..3;
    let vlans = vec![Vlan::Untagged, Vlan::Tagged(10), Vlan::Stacked(5, 10)];
    let schedulers = vec![
        Scheduler::Rr,
        Scheduler::Wrr,
        Scheduler::Lc,
        Scheduler::Wlc,
        Scheduler::Sh,
        Scheduler::Mh,
        Scheduler::Dh,
        Scheduler::Sed,
        Scheduler::Nq,
        Scheduler::Fo,
        Scheduler::Ovf,
    ];
    // With either of them a server that was full has room again below two connections, so
    // that a change from one to the other does not depend on the number of connections.
    let thresholds = vec![(0, 0), (2, 0), (3, 2), (4, 2)];
    let orphans = vec![
        OrphanPolicy::Drop,
        OrphanPolicy::Reset,
        OrphanPolicy::Reschedule,
    ];
    let persistence = (prop::sample::select(PERSISTENCE.to_vec()), 0_u32..3).prop_map(
        |(timeout, network_bits)| Persistence {
            timeout,
            network_bits,
        },
    );
    prop_oneof![
        4 => (server(), any::<bool>()).prop_map(|(server, alive)| Change::Alive(server, alive)),
        4 => (server(), 0_u32..4).prop_map(|(server, weight)| Change::Weight(server, weight)),
        4 => (server(), any::<bool>())
            .prop_map(|(server, present)| Change::Present(server, present)),
        2 => (server(), any::<bool>())
            .prop_map(|(server, reached)| Change::Reached(server, reached)),
        1 => (server(), prop::sample::select(vlans))
            .prop_map(|(server, vlan)| Change::Vlan(server, vlan)),
        1 => (server(), any::<bool>())
            .prop_map(|(server, keeps)| Change::KeepsTemplates(server, keeps)),
        3 => prop::sample::select(schedulers).prop_map(Change::Scheduler),
        1 => any::<bool>().prop_map(Change::HashPort),
        1 => any::<bool>().prop_map(Change::HashFallback),
        1 => any::<bool>().prop_map(Change::OnePacket),
        3 => (server(), prop::sample::select(thresholds))
            .prop_map(|(server, thresholds)| Change::Thresholds(server, thresholds)),
        2 => prop::option::weighted(0.7, persistence).prop_map(Change::Persistence),
        2 => any::<bool>().prop_map(Change::ExpireQuiescent),
        2 => any::<bool>().prop_map(Change::Sloppy),
        2 => prop::sample::select(orphans).prop_map(Change::Orphans),
    ]
}

fn packet() -> impl Strategy<Value = Packet> {
    let flags = vec![
        "S", "S", "S", "S", ".", ".", ".", ".", ".", "P.", "F.", "F.", "R", "R.", "F", "S.", "SF",
        "SR", "",
    ];
    let anothers = prop::bool::weighted(0.04);
    let ends = (0..CLIENTS, 0..PORTS, 0..PORTS);
    (ends, prop::sample::select(flags), anothers).prop_map(
        |((client, port, to), flags, is_anothers)| Packet {
            client,
            port,
            to,
            flags,
            is_anothers,
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let service = || 0..SERVICES;
    let dress = prop_oneof![
        6 => Just(Dress::Plain),
        1 => Just(Dress::Long),
        1 => Just(Dress::Tagged),
        1 => Just(Dress::Stacked),
    ];
    prop_oneof![
        16 => (service(), packet(), dress)
            .prop_map(|(service, packet, dress)| Event::Packet { service, packet, dress }),
        2 => (service(), packet())
            .prop_map(|(service, packet)| Event::Fragments { service, packet }),
        2 => (service(), 0..CLIENTS)
            .prop_map(|(service, client)| Event::Overtaking { service, client }),
        1 => (service(), packet()).prop_map(|(service, about)| Event::Error { service, about }),
        2 => (1_u64..6).prop_map(|times| Event::Pause(times * PAUSE)),
        1 => Just(Event::Sweep),
        4 => (service(), change()).prop_map(|(service, change)| Event::Change(service, change)),
    ]
}

/// Live connections of the servers, as schedulers compare them.
fn loads(bed: &Bed) -> Vec<(u64, u64)> {
    let mut loads = bed.loads();
    loads.sort_unstable();
    loads
}

/// The same, counted one by one.
fn counted(services: &[Service]) -> Vec<(u64, u64)> {
    let mut counts: Vec<_> = services.iter().flat_map(Service::loads).collect();
    counts.sort_unstable();
    counts
}

/// Applies event `number` to both; true if they agree.
fn happens(
    event: &Event,
    number: u16,
    (bed, services): (&mut Bed, &mut [Service]),
    now: &mut u64,
) -> Result<(), TestCaseError> {
    let agree = |frame: &[u8], got: Verdict, expected: Verdict, service: &Service| {
        let expected = retagged(expected, service, frame);
        prop_assert_eq!(got, expected, "event {}: {:?}", number, event);
        Ok(())
    };
    match event {
        Event::Packet {
            service,
            packet,
            dress,
        } => {
            let (frame, service) = (frame(*service, packet, *dress), &mut services[*service]);
            let got = bed.send(&frame);
            let expected = service.packet(*packet, *now, &got);
            agree(&frame, got, expected, service)?;
        }
        Event::Fragments { service, packet } => {
            let packet = Packet {
                is_anothers: false,
                ..*packet
            };
            let [first, later] = fragments(*service, &packet, number);
            let service = &mut services[*service];
            let foreseen = service
                .clone()
                .packet(packet, *now, &Verdict::Dropped("dropped"));
            if matches!(foreseen, Verdict::Reset(_)) {
                // The bed cannot parse a reply to a fragment.
                return Ok(());
            }
            let got = bed.send(&first);
            let expected = service.packet(packet, *now, &got);
            let follows = match &expected {
                Verdict::To(server) => Verdict::To(server),
                _ => Verdict::Stack("fragment"),
            };
            agree(&first, got, expected, service)?;
            let got = bed.send(&later);
            agree(&later, got, follows, service)?;
        }
        Event::Overtaking { service, client } => {
            let packet = Packet {
                client: *client,
                port: 0,
                to: 0,
                flags: ".",
                is_anothers: false,
            };
            let [_, frame] = fragments(*service, &packet, number);
            let service = &services[*service];
            let expected = service.without_ports(*client, *now);
            agree(&frame, bed.send(&frame), expected, service)?;
        }
        Event::Error { service, about } => {
            let frame = error(*service, about);
            let service = &services[*service];
            let expected = service.error(*about);
            agree(&frame, bed.send(&frame), expected, service)?;
        }
        Event::Pause(seconds) => {
            *now += seconds;
            bed.step(&packet_bed::seconds(*seconds));
        }
        Event::Sweep => {
            services.iter_mut().for_each(|service| service.sweep(*now));
            bed.step(&Step::Sweep);
        }
        Event::Change(service, change) => {
            services[*service].change(*change);
            bed.step(&Step::Apply(desired(services)));
        }
    }
    Ok(())
}

/// Set to a number of sequences to try more of them.
const CASES: &str = "AGREEMENT_CASES";

#[test]
#[ignore = "needs root"]
fn the_program_decides_as_the_model_does() {
    let services = || [0, 1, 2, 3].map(Service::new);
    let Some(bed) = Bed::shared(desired(&services())) else {
        return;
    };
    let bed = std::cell::RefCell::new(bed);
    let cases = std::env::var(CASES).ok();
    let config = Config {
        cases: cases.map_or(64, |cases| cases.parse().expect("a number")),
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&prop::collection::vec(event(), 1..120), |events| {
        let mut bed = bed.borrow_mut();
        let mut services = services();
        bed.reset(desired(&services));
        // Nothing has been seen yet that could be too old.
        let mut now = 0;
        for (number, event) in (1..).zip(&events) {
            happens(event, number, (&mut bed, &mut services), &mut now)?;
        }
        prop_assert_eq!(loads(&bed), counted(&services));
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
