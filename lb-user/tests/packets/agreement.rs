//! The program against the model: on any sequence of packets, pauses and changes
//! of the configuration both decide alike.

use lb_user::dataplane::state::OrphanPolicy;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::bed::frames::{patched, tcp, tcp6, tcp6_with, udp};
use crate::bed::{Bed, Step, Verdict};
use crate::model::{Change, OVER_IPV6, PAUSE, SERVICES, Service, desired};

#[derive(Debug, Clone)]
enum Event {
    Packet {
        service: usize,
        client: u8,
        port: u16,
        flags: &'static str,
    },
    /// As a packet, in two fragments.
    Fragments {
        client: u8,
        port: u16,
        flags: &'static str,
    },
    /// A later fragment without the first.
    Overtaking {
        service: usize,
        client: u8,
    },
    Pause(u64),
    Sweep,
    Change(usize, Change),
}

fn frame(service: usize, client: u8, port: u16, flags: &str) -> Vec<u8> {
    let port = 5000 + port;
    match service {
        0 => tcp([10, 0, 0, client], port, flags),
        OVER_IPV6 => {
            let mut address = crate::bed::frames::DAVE;
            address[15] = client;
            tcp6(address, port, flags)
        }
        _ => udp([10, 0, 0, client], port),
    }
}

/// A first fragment and a later one, of a packet of TCP over IPv4.
fn fragments(client: u8, port: u16, flags: &str, identification: u16) -> [Vec<u8>; 2] {
    let whole = patched(
        frame(0, client, port, flags),
        18,
        &identification.to_be_bytes(),
    );
    [
        patched(whole.clone(), 20, &[0x20, 0]),
        patched(whole, 20, &[0, 3]),
    ]
}

/// A later fragment of a packet of which nothing else is seen.
fn overtaking(service: usize, client: u8, identification: u16) -> Vec<u8> {
    const FRAGMENT: u8 = 44;
    if service == OVER_IPV6 {
        let mut header = vec![0, 0, 0, 8, 0, 0];
        header.extend(identification.to_be_bytes());
        let frame = tcp6_with(9, "", &[(FRAGMENT, header)]);
        return patched(frame, 37, &[client]);
    }
    let frame = frame(service, client, 0, ".");
    let frame = patched(frame, 18, &identification.to_be_bytes());
    patched(frame, 20, &[0, 3])
}

fn event() -> impl Strategy<Value = Event> {
    let flags = || prop::sample::select(vec!["S", "S", ".", ".", ".", "F.", "R"]);
    let change = prop_oneof![
        2 => (0_usize..3, any::<bool>()).prop_map(|(server, alive)| Change::Alive(server, alive)),
        2 => (0_usize..3, 0_u32..2).prop_map(|(server, weight)| Change::Weight(server, weight)),
        2 => (0_usize..3, any::<bool>())
            .prop_map(|(server, present)| Change::Present(server, present)),
        1 => any::<bool>().prop_map(Change::ExpireQuiescent),
        1 => any::<bool>().prop_map(Change::Sloppy),
        1 => prop::sample::select(vec![
            OrphanPolicy::Drop,
            OrphanPolicy::Reset,
            OrphanPolicy::Reschedule,
        ])
        .prop_map(Change::Orphans),
    ];
    prop_oneof![
        16 => (0..SERVICES, 0_u8..4, 0_u16..2, flags())
            .prop_map(|(service, client, port, flags)| Event::Packet {
                service,
                client,
                port,
                flags
            }),
        2 => (0_u8..4, 0_u16..2, flags())
            .prop_map(|(client, port, flags)| Event::Fragments { client, port, flags }),
        2 => (0..SERVICES, 0_u8..4)
            .prop_map(|(service, client)| Event::Overtaking { service, client }),
        2 => (1_u64..6).prop_map(|times| Event::Pause(times * PAUSE)),
        1 => Just(Event::Sweep),
        3 => (0..SERVICES, change).prop_map(|(service, change)| Event::Change(service, change)),
    ]
}

/// Live connections of the servers, as schedulers compare them.
fn loads(bed: &Bed) -> Vec<(u64, u64)> {
    let mut loads = bed.loads();
    loads.sort_unstable();
    loads
}

/// The same, counted one by one.
fn counted(bed: &Bed) -> Vec<(u64, u64)> {
    let services = bed.statistics().services;
    let servers = services.iter().flat_map(|service| &service.servers);
    let mut counts: Vec<_> = servers
        .map(|server| (server.active_connections, server.inactive_connections))
        .collect();
    counts.sort_unstable();
    counts
}

#[test]
fn the_program_decides_as_the_model_does() {
    let services = || [0, 1, 2].map(Service::new);
    let Some(bed) = Bed::new(desired(&services())) else {
        return;
    };
    let bed = std::cell::RefCell::new(bed);
    let config = Config {
        cases: 64,
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&prop::collection::vec(event(), 1..120), |events| {
        let mut bed = bed.borrow_mut();
        let mut services = services();
        bed.reset(desired(&services));
        // Nothing has been seen yet that could be too old.
        let mut now = 0;
        let mut is_swept = true;
        for (index, event) in events.iter().enumerate() {
            match event {
                Event::Packet {
                    service,
                    client,
                    port,
                    flags,
                } => {
                    let expected = services[*service].packet(*client, *port, flags, now);
                    let got = bed.send(&frame(*service, *client, *port, flags));
                    prop_assert_eq!(got, expected, "event {}: {:?}", index, event);
                }
                Event::Fragments {
                    client,
                    port,
                    flags,
                } => {
                    let [first, later] = fragments(*client, *port, flags, index as u16 + 1);
                    let expected = services[0].packet(*client, *port, flags, now);
                    if matches!(expected, Verdict::Reset(_)) {
                        // The bed cannot take an answer to a fragment apart.
                        continue;
                    }
                    prop_assert_eq!(bed.send(&first), expected.clone(), "event {}", index);
                    let follows = match expected {
                        Verdict::To(server) => Verdict::To(server),
                        _ => Verdict::Stack("fragment"),
                    };
                    prop_assert_eq!(bed.send(&later), follows, "event {}, later", index);
                }
                Event::Overtaking { service, client } => {
                    let frame = overtaking(*service, *client, index as u16 + 1);
                    let expected = services[*service].without_ports(*client, now);
                    prop_assert_eq!(bed.send(&frame), expected, "event {}: {:?}", index, event);
                }
                Event::Pause(seconds) => {
                    is_swept = false;
                    now += seconds;
                    bed.step(&crate::bed::seconds(*seconds));
                }
                Event::Sweep => {
                    is_swept = true;
                    services.iter_mut().for_each(|service| service.sweep(now));
                    bed.step(&Step::Sweep);
                }
                Event::Change(service, change) => {
                    services[*service].change(*change);
                    bed.step(&Step::Apply(desired(&services)));
                }
            }
        }
        // What expires unseen the packet path learns from the sweep.
        if is_swept {
            prop_assert_eq!(loads(&bed), counted(&bed));
        }
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
