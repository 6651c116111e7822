//! Connections, from their first packet to their end.

use std::time::Duration;

use lb_model::DesiredState;
use lb_model::OrphanPolicy;

use crate::{case, check, packet};
use packet_bed::frames::*;
use packet_bed::{Bed, Step, seconds, server, service, state};

fn deployment() -> DesiredState {
    state([service("172.16.1.200:1935", &["edge 1", "edge 2"])])
}

/// Alice has connected from port 5000, which the scheduler gave to edge 1.
fn alice_connects() -> [Step; 2] {
    [packet(tcp(ALICE, 5000, S)), packet(tcp(ALICE, 5000, A))]
}

#[test]
#[ignore = "needs root"]
fn a_connection_begins_with_a_syn() {
    check([
        case("a SYN is scheduled", deployment())
            .packet(tcp(ALICE, 5000, S))
            .goes_to("edge 1"),
        case("a SYN with data is one", deployment())
            .packet(tcp(ALICE, 5000, "SP"))
            .goes_to("edge 1"),
        case("a SYN sent again goes to the same server", deployment())
            .after([packet(tcp(ALICE, 5000, S))])
            .packet(tcp(ALICE, 5000, S))
            .goes_to("edge 1"),
        case("the client's ACK follows its SYN", deployment())
            .after([packet(tcp(ALICE, 5000, S))])
            .packet(tcp(ALICE, 5000, A))
            .goes_to("edge 1"),
        case("data follows the handshake", deployment())
            .after(alice_connects())
            .packet(tcp(ALICE, 5000, "P."))
            .goes_to("edge 1"),
        case("connections of other ports are others", deployment())
            .after(alice_connects())
            .packet(tcp(ALICE, 5001, S))
            .goes_to("edge 2"),
        case("connections of other clients are others", deployment())
            .after(alice_connects())
            .packet(tcp(BOB, 5000, S))
            .goes_to("edge 2"),
        case("an ACK out of the blue is the stack's", deployment())
            .packet(tcp(ALICE, 5000, A))
            .passes("no-connection"),
        case("a FIN out of the blue is the stack's", deployment())
            .packet(tcp(ALICE, 5000, F))
            .passes("no-connection"),
        case("a RST out of the blue is the stack's", deployment())
            .packet(tcp(ALICE, 5000, R))
            .passes("no-connection"),
        case("a SYN with ACK opens nothing", deployment())
            .packet(tcp(ALICE, 5000, "S."))
            .passes("no-connection"),
        case("a SYN with FIN opens nothing", deployment())
            .packet(tcp(ALICE, 5000, "SF"))
            .passes("no-connection"),
        case("a SYN with RST opens nothing", deployment())
            .packet(tcp(ALICE, 5000, "SR"))
            .passes("no-connection"),
        case("a segment without any flag opens nothing", deployment())
            .packet(tcp(ALICE, 5000, ""))
            .passes("no-connection"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn a_connection_stays_where_it_is() {
    check([
        case("a new server takes no connection away", deployment())
            .after(alice_connects())
            .after([Step::Change(|state| {
                state.services[0].servers.insert(0, server("edge 3", 1935));
            })])
            .packet(tcp(ALICE, 5000, A))
            .goes_to("edge 1"),
        case("a server at weight 0 keeps its connections", deployment())
            .after(alice_connects())
            .after([Step::Change(|state| {
                state.services[0].servers[0].weight = 0
            })])
            .packet(tcp(ALICE, 5000, A))
            .goes_to("edge 1"),
        case(
            "a server whose neighbour entry is lost keeps its connections",
            deployment(),
        )
        .after(alice_connects())
        .after([Step::Change(|state| {
            state.services[0].servers[0].next_hop = None
        })])
        .packet(tcp(ALICE, 5000, A))
        .goes_to("edge 1"),
        case(
            "a server that moves takes its connections with it",
            deployment(),
        )
        .after(alice_connects())
        .after([Step::Change(|state| {
            state.services[0].servers[0].next_hop = server("edge 3", 1935).next_hop;
        })])
        .packet(tcp(ALICE, 5000, A))
        .goes_to("edge 3"),
        case("a SYN within a connection does not move it", deployment())
            .after(alice_connects())
            .packet(tcp(ALICE, 5000, S))
            .goes_to("edge 1"),
        case("a change elsewhere does not touch it", deployment())
            .after(alice_connects())
            .after([Step::Change(|state| {
                state
                    .services
                    .insert(0, service("172.16.1.200:80", &["edge 3"]));
            })])
            .packet(tcp(ALICE, 5000, A))
            .goes_to("edge 1"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn a_connection_ends() {
    check([
        case("the last ACK after a FIN still arrives", deployment())
            .after(alice_connects())
            .after([packet(tcp(ALICE, 5000, F))])
            .packet(tcp(ALICE, 5000, A))
            .goes_to("edge 1"),
        case("a SYN after a FIN is a new connection", deployment())
            .after(alice_connects())
            .after([packet(tcp(ALICE, 5000, F))])
            .packet(tcp(ALICE, 5000, S))
            .goes_to("edge 2"),
        case("a SYN after a RST is a new connection", deployment())
            .after(alice_connects())
            .after([packet(tcp(ALICE, 5000, R))])
            .packet(tcp(ALICE, 5000, S))
            .goes_to("edge 2"),
        case(
            "a SYN after a FIN before the handshake was over is a new connection",
            deployment(),
        )
        .after([packet(tcp(ALICE, 5000, S)), packet(tcp(ALICE, 5000, "F"))])
        .packet(tcp(ALICE, 5000, S))
        .goes_to("edge 2"),
        case("the new connection is followed from then on", deployment())
            .after(alice_connects())
            .after([packet(tcp(ALICE, 5000, F)), packet(tcp(ALICE, 5000, S))])
            .packet(tcp(ALICE, 5000, A))
            .goes_to("edge 2"),
        case(
            "an established connection may be silent for 900 s",
            deployment(),
        )
        .after(alice_connects())
        .after([seconds(899)])
        .packet(tcp(ALICE, 5000, A))
        .goes_to("edge 1"),
        case("and no longer", deployment())
            .after(alice_connects())
            .after([seconds(901)])
            .packet(tcp(ALICE, 5000, A))
            .passes("no-connection"),
        case("every packet counts against silence", deployment())
            .after(alice_connects())
            .after([seconds(800), packet(tcp(ALICE, 5000, A)), seconds(800)])
            .packet(tcp(ALICE, 5000, A))
            .goes_to("edge 1"),
        case("a handshake may take 60 s", deployment())
            .after([packet(tcp(ALICE, 5000, S)), seconds(59)])
            .packet(tcp(ALICE, 5000, A))
            .goes_to("edge 1"),
        case("and no longer", deployment())
            .after([packet(tcp(ALICE, 5000, S)), seconds(61)])
            .packet(tcp(ALICE, 5000, A))
            .passes("no-connection"),
        case("a closing connection may be silent for 120 s", deployment())
            .after(alice_connects())
            .after([packet(tcp(ALICE, 5000, F)), seconds(119)])
            .packet(tcp(ALICE, 5000, A))
            .goes_to("edge 1"),
        case("and no longer", deployment())
            .after(alice_connects())
            .after([packet(tcp(ALICE, 5000, F)), seconds(121)])
            .packet(tcp(ALICE, 5000, A))
            .passes("no-connection"),
        case("a reset connection lingers for 10 s", deployment())
            .after(alice_connects())
            .after([packet(tcp(ALICE, 5000, R)), seconds(9)])
            .packet(tcp(ALICE, 5000, A))
            .goes_to("edge 1"),
        case(
            "a connection closed before it was open may be silent for 120 s",
            deployment(),
        )
        .after([
            packet(tcp(ALICE, 5000, S)),
            packet(tcp(ALICE, 5000, "F")),
            seconds(119),
        ])
        .packet(tcp(ALICE, 5000, A))
        .goes_to("edge 1"),
        case("and no longer", deployment())
            .after([
                packet(tcp(ALICE, 5000, S)),
                packet(tcp(ALICE, 5000, "F")),
                seconds(121),
            ])
            .packet(tcp(ALICE, 5000, A))
            .passes("no-connection"),
        case("a SYN sent again keeps a handshake alive", deployment())
            .after([
                packet(tcp(ALICE, 5000, S)),
                seconds(50),
                packet(tcp(ALICE, 5000, S)),
                seconds(50),
            ])
            .packet(tcp(ALICE, 5000, A))
            .goes_to("edge 1"),
        case("a FIN is answered by the time-out of closing", deployment())
            .after(alice_connects())
            .after([
                packet(tcp(ALICE, 5000, F)),
                seconds(100),
                packet(tcp(ALICE, 5000, A)),
                seconds(100),
            ])
            .packet(tcp(ALICE, 5000, A))
            .goes_to("edge 1"),
        case("a port is used again after silence", deployment())
            .after(alice_connects())
            .after([seconds(901)])
            .packet(tcp(ALICE, 5000, S))
            .goes_to("edge 2"),
        case("time-outs can be set: shorter", {
            let mut state = deployment();
            state.timeouts.established = Duration::from_secs(30);
            state
        })
        .after(alice_connects())
        .after([seconds(31)])
        .packet(tcp(ALICE, 5000, A))
        .passes("no-connection"),
        case("and longer, while connections live", deployment())
            .after(alice_connects())
            .after([
                seconds(800),
                Step::Change(|state| state.timeouts.established = Duration::from_secs(3600)),
                seconds(800),
            ])
            .packet(tcp(ALICE, 5000, A))
            .goes_to("edge 1"),
        case("a reset connection is gone after 10 s", deployment())
            .after(alice_connects())
            .after([packet(tcp(ALICE, 5000, R)), seconds(11)])
            .packet(tcp(ALICE, 5000, A))
            .passes("no-connection"),
        case("sweeping takes no live connection", deployment())
            .after(alice_connects())
            .after([seconds(899), Step::Sweep])
            .packet(tcp(ALICE, 5000, A))
            .goes_to("edge 1"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn a_dead_servers_connections_are_void() {
    check([
        case("a dead server's connection is reset", deployment())
            .after(alice_connects())
            .after([Step::Change(|state| {
                state.services[0].servers[0].alive = false
            })])
            .packet(tcp(ALICE, 5000, A))
            .gets_reset_at(5000),
        case("a removed server's connection is reset", deployment())
            .after(alice_connects())
            .after([Step::Change(|state| {
                state.services[0].servers.remove(0);
            })])
            .packet(tcp(ALICE, 5000, A))
            .gets_reset_at(5000),
        case("the viewer's next SYN goes to a live server", deployment())
            .after(alice_connects())
            .after([Step::Change(|state| {
                state.services[0].servers[0].alive = false
            })])
            .packet(tcp(ALICE, 5000, S))
            .goes_to("edge 2"),
        case("a handshake with a dead server begins anew", deployment())
            .after([packet(tcp(ALICE, 5000, S))])
            .after([Step::Change(|state| {
                state.services[0].servers[0].alive = false
            })])
            .packet(tcp(ALICE, 5000, S))
            .goes_to("edge 2"),
        case(
            "a server that comes back does not get its old connections",
            deployment(),
        )
        .after(alice_connects())
        .after([
            Step::Change(|state| state.services[0].servers[0].alive = false),
            Step::Change(|state| state.services[0].servers[0].alive = true),
        ])
        .packet(tcp(ALICE, 5000, A))
        .gets_reset_at(5000),
        case(
            "a server that inherits the slot does not inherit connections",
            deployment(),
        )
        .after(alice_connects())
        .after([
            Step::Change(|state| {
                state.services[0].servers.remove(0);
            }),
            Step::Change(|state| state.services[0].servers.push(server("edge 3", 1935))),
        ])
        .packet(tcp(ALICE, 5000, A))
        .gets_reset_at(5000),
        case(
            "a service that inherits the number does not inherit connections",
            deployment(),
        )
        .after(alice_connects())
        .after([
            Step::Change(|state| state.services.clear()),
            Step::Change(|state| {
                state
                    .services
                    .push(service("172.16.1.200:1935", &["edge 3"]));
            }),
        ])
        .packet(tcp(ALICE, 5000, A))
        .gets_reset_at(5000),
        case("a reset is not answered by another", deployment())
            .after(alice_connects())
            .after([Step::Change(|state| {
                state.services[0].servers[0].alive = false
            })])
            .packet(tcp(ALICE, 5000, R))
            .passes("server-gone"),
        case(
            "a segment with data is answered by a reset without",
            deployment(),
        )
        .after(alice_connects())
        .after([Step::Change(|state| {
            state.services[0].servers[0].alive = false
        })])
        .packet(tcp(ALICE, 5000, "P."))
        .gets_reset_at(5000),
        case("and so is a FIN", deployment())
            .after(alice_connects())
            .after([Step::Change(|state| {
                state.services[0].servers[0].alive = false
            })])
            .packet(tcp(ALICE, 5000, F))
            .gets_reset_at(5000),
        case("also of a handshake's last ACK", deployment())
            .after([packet(tcp(ALICE, 5000, S))])
            .after([Step::Change(|state| {
                state.services[0].servers[0].alive = false
            })])
            .packet(tcp(ALICE, 5000, A))
            .gets_reset_at(5000),
        case("what acknowledges nothing tells no number", deployment())
            .after(alice_connects())
            .after([Step::Change(|state| {
                state.services[0].servers[0].alive = false
            })])
            .packet(tcp(ALICE, 5000, "P"))
            .passes("server-gone"),
        case("rescheduling is for UDP", deployment())
            .after(alice_connects())
            .after([Step::Change(|state| {
                state.services[0].orphans = OrphanPolicy::Reschedule;
                state.services[0].servers[0].alive = false;
            })])
            .packet(tcp(ALICE, 5000, A))
            .gets_reset_at(5000),
        case("an operator may have them dropped", deployment())
            .after(alice_connects())
            .after([Step::Change(|state| {
                state.services[0].orphans = OrphanPolicy::Drop;
                state.services[0].servers[0].alive = false;
            })])
            .packet(tcp(ALICE, 5000, A))
            .vanishes(),
        case("without any server the stack answers", deployment())
            .after([Step::Change(|state| {
                state.services[0]
                    .servers
                    .iter_mut()
                    .for_each(|server| server.alive = false);
            })])
            .packet(tcp(ALICE, 5000, S))
            .passes("no-server"),
    ]);
}

/// The agent needs it to reset a client whose server has died.
#[test]
#[ignore = "needs root"]
fn what_a_client_has_acknowledged_last_is_remembered() {
    const ACKNOWLEDGED: usize = 42;
    let Some(mut bed) = Bed::shared(deployment()) else {
        return;
    };
    let acknowledging =
        |number: u32| patched(tcp(ALICE, 5000, A), ACKNOWLEDGED, &number.to_be_bytes());
    let nothing = |flags| patched(tcp(ALICE, 5000, flags), ACKNOWLEDGED, &[9; 4]);
    for (frame, awaited) in [
        (tcp(ALICE, 5000, S), 0),
        (acknowledging(6000), 6000),
        (acknowledging(7000), 7000),
        (tagged(acknowledging(8000), &[(0x8100, 7)]), 8000),
        (nothing("P"), 8000),
        (nothing("S"), 8000),
        (acknowledging(9000), 9000),
    ] {
        bed.send(&frame);
        let remembered: Vec<u32> = bed
            .flows()
            .iter()
            .map(|flow| flow.awaited_sequence)
            .collect();
        assert_eq!(remembered, [awaited], "{frame:02x?}");
    }
}

/// The sum of 16-bit words in ones' complement (RFC 1071).
fn sum<'a>(bytes: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let words = bytes.into_iter().flat_map(|bytes| bytes.chunks(2));
    let total: u32 = words
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
        .sum();
    let folded = (total >> 16) + (total & 0xFFFF);
    (folded >> 16) + (folded & 0xFFFF)
}

#[test]
#[ignore = "needs root"]
fn the_checksum_of_a_reset_is_right_whatever_carries() {
    const ACKNOWLEDGED: usize = 42;
    /// Protocol and length, as the pseudo header has them.
    const TCP_OF_20: [u8; 4] = [0, 6, 0, 20];
    let Some(mut bed) = Bed::shared(deployment()) else {
        return;
    };
    for step in alice_connects() {
        bed.step(&step);
    }
    bed.step(&Step::Change(|state| {
        state.services[0].servers[0].alive = false
    }));
    // Every remainder of either half.
    for number in (0..=0xFFFF_u32).flat_map(|half| [half << 16 | 0xFFFF, 0xFFFF << 16 | half]) {
        let frame = patched(tcp(ALICE, 5000, A), ACKNOWLEDGED, &number.to_be_bytes());
        let run = bed.dataplane.test_run(&frame, 1).expect("the program runs");
        assert_eq!(run.frame[38..42], number.to_be_bytes());
        assert_eq!(sum([&run.frame[14..34]]), 0xFFFF, "IPv4, {number}");
        let summed = sum([&TCP_OF_20[..], &run.frame[26..34], &run.frame[34..54]]);
        assert_eq!(summed, 0xFFFF, "TCP, {number}");
    }
}

#[test]
#[ignore = "needs root"]
fn frames_leave_by_the_right_interface() {
    let far = || state([service("172.16.1.200:1935", &["far edge"])]);
    check([
        case("a server behind another interface is redirected to", far())
            .packet(tcp(ALICE, 5000, S))
            .goes_via_another_interface_to("far edge"),
        case("and so is the rest of the connection", far())
            .after(alice_connects())
            .packet(tcp(ALICE, 5000, A))
            .goes_via_another_interface_to("far edge"),
    ]);
}
