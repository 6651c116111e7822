//! The fast path and the slow path reach the same verdict in the same state. An IP option
//! or an extension header without meaning makes a packet take the slow path.

use lb_dataplane::TableSizes;
use lb_model::DesiredState;

use packet_bed::frames::*;
use packet_bed::{Bed, Step, persistent, seconds, service, state};

/// The history of a connection.
struct Past {
    says: &'static str,
    /// The client's packets.
    packets: &'static [&'static str],
    /// The event after these, for all connections.
    then: Option<Step>,
}

fn pasts() -> [Past; 9] {
    let past = |says, packets| Past {
        says,
        packets,
        then: None,
    };
    let past_and = |says, packets, then| Past {
        then: Some(then),
        ..past(says, packets)
    };
    [
        past("unknown", &[]),
        past("half open", &["S"]),
        past("established", &["S", "."]),
        past("closing", &["S", ".", "F."]),
        past("reset", &["S", ".", "R"]),
        past("closed before it was open", &["S", "F"]),
        past_and("long silent", &["S", "."], seconds(901)),
        past_and("due to re-arm its template", &["S", "."], seconds(20)),
        past_and(
            "its server dead",
            &["S", "."],
            Step::Change(|state| {
                for service in &mut state.services {
                    service.servers[0].alive = false;
                }
            }),
        ),
    ]
}

fn deployment() -> DesiredState {
    state([
        persistent(service("172.16.1.200:1935", &["edge 1"]), 50, 32),
        persistent(service("[2001:db8::c8]:1935", &["edge 1"]), 50, 128),
    ])
}

fn tables() -> TableSizes {
    TableSizes {
        connections: 1 << 14,
        half_open: 1 << 14,
        templates: 1 << 14,
        ..TableSizes::default()
    }
}

/// Offset of the flags in a frame of Ethernet, IPv4 without options, and TCP.
const FLAGS: usize = 47;
/// As [`FLAGS`], over IPv6.
const FLAGS6: usize = 67;
const DESTINATION_OPTIONS: u8 = 60;

fn short4(client: u16, flags: &str) -> Vec<u8> {
    let [high, low] = client.to_be_bytes();
    tcp([10, 7, high, low], 5000, flags)
}

/// With an option without meaning.
fn long4(client: u16, flags: &str) -> Vec<u8> {
    with_option(short4(client, flags))
}

fn short6(client: u16, flags: &str) -> Vec<u8> {
    tcp6(DAVE, client, flags)
}

/// With an extension header of padding.
fn long6(client: u16, flags: &str) -> Vec<u8> {
    tcp6_with(
        client,
        flags,
        &[(DESTINATION_OPTIONS, vec![0, 0, 1, 4, 0, 0, 0, 0])],
    )
}

type Packets = fn(u16, &str) -> Vec<u8>;

#[test]
#[ignore = "needs root"]
fn the_short_cut_does_not_show() {
    let families: [(Packets, usize, Packets, usize); 2] = [
        (short4, FLAGS, long4, FLAGS + 4),
        (short6, FLAGS6, long6, FLAGS6 + 8),
    ];
    for past in pasts() {
        let Some(mut bed) = Bed::with_tables(deployment(), tables()) else {
            return;
        };
        // Two clients for each combination of the six flags.
        for (short, _, long, _) in families {
            for client in 1..=64 {
                for flags in past.packets {
                    bed.send(&short(client, flags));
                    bed.send(&long(client + 64, flags));
                }
            }
        }
        if let Some(then) = &past.then {
            bed.step(then);
        }
        for (short, short_offset, long, long_offset) in families {
            for client in 1..=64_u16 {
                let flags = client as u8 - 1;
                let frames = [
                    patched(short(client, "."), short_offset, &[flags]),
                    patched(long(client + 64, "."), long_offset, &[flags]),
                ];
                let fates = frames.map(|frame| bed.send(&frame));
                assert_eq!(fates[0], fates[1], "{}, flags {flags:#04x}", past.says);
                for after in [".", "F.", ".", "S"] {
                    let fates = [short(client, after), long(client + 64, after)]
                        .map(|frame| bed.send(&frame));
                    assert_eq!(
                        fates[0], fates[1],
                        "{}, {after} after flags {flags:#04x}",
                        past.says
                    );
                }
            }
        }
    }
}
