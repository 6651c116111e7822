//! Frames that a switch floods, or that are seen in promiscuous mode.

use lb_model::DesiredState;
use lb_model::OrphanPolicy;

use crate::{case, check, packet};
use packet_bed::frames::*;
use packet_bed::{Bed, DIRECTOR, Step, Verdict, seconds, service, state};

fn deployment() -> DesiredState {
    state([service("172.16.1.200:1935", &["edge 1", "edge 2"])])
}

/// Alice has connected from port 5000, which the scheduler gave to edge 1.
fn alice_connects() -> [Step; 2] {
    [packet(tcp(ALICE, 5000, S)), packet(tcp(ALICE, 5000, A))]
}

/// `frame` as a switch floods it that belongs to another host.
fn for_another(frame: Vec<u8>) -> Vec<u8> {
    patched(frame, 0, &[2, 9, 9, 9, 9, 9])
}

#[test]
#[ignore = "needs root"]
fn a_frame_for_another_host_is_left_alone() {
    let far = || state([service("172.16.1.200:1935", &["far edge"])]);
    let dies = |orphans: fn(&mut DesiredState)| [Step::Change(orphans)];
    check([
        case("of a connection", deployment())
            .after(alice_connects())
            .packet(for_another(tcp(ALICE, 5000, A)))
            .passes("other-host"),
        case("of a handshake", deployment())
            .after([packet(tcp(ALICE, 5000, S))])
            .packet(for_another(tcp(ALICE, 5000, A)))
            .passes("other-host"),
        case("be it by its last byte only", deployment())
            .packet(patched(tcp(ALICE, 5000, S), 5, &[DIRECTOR[5] + 1]))
            .passes("other-host"),
        case("to all hosts", deployment())
            .packet(patched(tcp(ALICE, 5000, S), 0, &[0xff; 6]))
            .passes("other-host"),
        case("a SYN for a server behind another interface", far())
            .packet(for_another(tcp(ALICE, 5000, S)))
            .passes("other-host"),
        case("and what comes after it", far())
            .after(alice_connects())
            .packet(for_another(tcp(ALICE, 5000, A)))
            .passes("other-host"),
        case("and with a tag", far())
            .after(alice_connects())
            .packet(tagged(for_another(tcp(ALICE, 5000, A)), &[(0x8100, 7)]))
            .passes("other-host"),
        case("an ICMP error", far())
            .after(alice_connects())
            .packet(for_another(icmp(3, 4, &from_service(ALICE, 5000), 28)))
            .passes("other-host"),
        case("a dead server's connection is not reset", deployment())
            .after(alice_connects())
            .after(dies(|state| state.services[0].servers[0].alive = false))
            .packet(for_another(tcp(ALICE, 5000, A)))
            .passes("other-host"),
        case("a removed server's neither", deployment())
            .after(alice_connects())
            .after(dies(|state| {
                state.services[0].servers.remove(0);
            }))
            .packet(for_another(tcp(ALICE, 5000, A)))
            .passes("other-host"),
        case("nor is it dropped", deployment())
            .after(alice_connects())
            .after(dies(|state| {
                state.services[0].orphans = OrphanPolicy::Drop;
                state.services[0].servers[0].alive = false;
            }))
            .packet(for_another(tcp(ALICE, 5000, A)))
            .passes("other-host"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn a_frame_for_another_host_changes_nothing() {
    let silent = || [seconds(899), packet(for_another(tcp(ALICE, 5000, A)))];
    check([
        case("a FIN ends no connection", deployment())
            .after(alice_connects())
            .after([packet(for_another(tcp(ALICE, 5000, F)))])
            .packet(tcp(ALICE, 5000, S))
            .goes_to("edge 1"),
        case("an ACK completes no handshake", deployment())
            .after([
                packet(tcp(ALICE, 5000, S)),
                packet(for_another(tcp(ALICE, 5000, A))),
                seconds(61),
            ])
            .packet(tcp(ALICE, 5000, A))
            .passes("no-connection"),
        case("an ACK keeps no connection", deployment())
            .after(alice_connects())
            .after(silent())
            .after([seconds(2)])
            .packet(tcp(ALICE, 5000, A))
            .passes("no-connection"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn a_frame_for_the_interface_is_ours_whatever_address_the_way_on_has() {
    // As over a VLAN interface that has been given an address of its own.
    const VLANS: [u8; 6] = [2, 0, 0, 0, 0, 7];
    let mut deployment = deployment();
    for server in &mut deployment.services[0].servers {
        let hop = server.next_hop.as_mut().expect("a next hop");
        hop.source = VLANS.into();
    }
    let Some(bed) = Bed::shared(deployment) else {
        return;
    };
    for (port, to) in [(5000, DIRECTOR), (5001, VLANS)] {
        for flags in [S, A, A] {
            let frame = patched(tcp(ALICE, port, flags), 0, &to);
            let run = bed.dataplane.test_run(&frame, 1).expect("the program runs");
            assert_eq!(run.frame[6..12], VLANS, "{flags} to {to:02x?}");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn sources_are_validated_and_denied_whatever_address_of_ours_they_send_to() {
    // As of a bridge that the interface belongs to, with an address of its own.
    const BRIDGES: [u8; 6] = [2, 0, 0, 0, 0, 7];
    let mut deployment = deployment();
    for server in &mut deployment.services[0].servers {
        let hop = server.next_hop.as_mut().expect("a next hop");
        hop.source = BRIDGES.into();
    }
    let Some(mut bed) = Bed::shared(deployment) else {
        return;
    };
    bed.dataplane.replace_cookie_key([1, 2]).expect("a key");
    bed.dataplane.validate_sources(true).expect("it validates");
    let to_the_bridge = |frame| patched(frame, 0, &BRIDGES);
    let syn = to_the_bridge(tcp(ALICE, 5000, S));
    let Verdict::Challenged(number) = bed.send(&syn) else {
        panic!("a challenge");
    };
    const SEQUENCE: usize = 38;
    let reset = patched(tcp(ALICE, 5000, R), SEQUENCE, &number.to_be_bytes());
    assert_eq!(
        bed.send(&to_the_bridge(reset)),
        Verdict::Dropped("source-proven")
    );
    let run = bed.dataplane.test_run(&syn, 1).expect("the program runs");
    assert_eq!(run.frame[6..12], BRIDGES, "it is forwarded");

    let network = "10.0.0.0/24".parse().expect("a network");
    bed.dataplane
        .deny(&[network].into_iter().collect())
        .expect("denied");
    let ack = to_the_bridge(tcp(BOB, 5000, A));
    assert_eq!(bed.send(&ack), Verdict::Dropped("denied"));
    let other = for_another(tcp(BOB, 5000, S));
    assert_eq!(bed.send(&other), Verdict::Stack("other-host"));
}
