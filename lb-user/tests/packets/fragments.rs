//! Fragments: the first has ports, the others follow it.

use lb_user::dataplane::DesiredState;

use crate::bed::frames::*;
use crate::bed::{Step, service, state};
use crate::{case, check, packet};

fn deployment() -> DesiredState {
    state([service("172.16.1.200:1935", &["edge 1", "edge 2"])])
}

/// Offsets in a frame of Ethernet and IPv4 without options.
const IDENTIFICATION: usize = 18;
const FLAGS_AND_OFFSET: usize = 20;

/// `frame` as a fragment: "more to come" and the offset in units of 8 bytes.
fn fragment(frame: Vec<u8>, identification: u16, more: bool, offset: u16) -> Vec<u8> {
    let frame = patched(frame, IDENTIFICATION, &identification.to_be_bytes());
    let flags = u16::from(more) << 13 | offset;
    patched(frame, FLAGS_AND_OFFSET, &flags.to_be_bytes())
}

fn established() -> [Step; 2] {
    [packet(tcp(ALICE, 5000, S)), packet(tcp(ALICE, 5000, A))]
}

#[test]
fn a_first_fragment_is_a_packet_of_its_connection() {
    check([
        case("it follows its connection", deployment())
            .after(established())
            .packet(fragment(tcp(ALICE, 5000, "P."), 7, true, 0))
            .goes_to("edge 1"),
        case("it opens one", deployment())
            .packet(fragment(tcp(ALICE, 5000, S), 7, true, 0))
            .goes_to("edge 1"),
        case("without a connection it is the stack's", deployment())
            .packet(fragment(tcp(ALICE, 5000, A), 7, true, 0))
            .passes("no-connection"),
        case("for others it is the stack's", deployment())
            .packet(fragment(tcp_to(ALICE, 5000, VIP, 22, S), 7, true, 0))
            .passes("not-a-service"),
    ]);
}

#[test]
fn a_later_fragment_follows_the_first() {
    let first = |identification| packet(fragment(tcp(ALICE, 5000, "P."), identification, true, 0));
    // Its first bytes mean nothing: those of another connection here.
    let later = |identification, more| fragment(tcp(BOB, 1, S), identification, more, 3);
    let later_of_alice = |identification, more| patched(later(identification, more), 26, &ALICE);
    check([
        case("the middle one", deployment())
            .after(established())
            .after([first(7)])
            .packet(later_of_alice(7, true))
            .goes_to("edge 1"),
        case("the last one", deployment())
            .after(established())
            .after([first(7)])
            .packet(later_of_alice(7, false))
            .goes_to("edge 1"),
        case("one of another packet is the stack's", deployment())
            .after(established())
            .after([first(7)])
            .packet(later_of_alice(8, false))
            .passes("fragment"),
        case("one of another client is the stack's", deployment())
            .after(established())
            .after([first(7)])
            .packet(later(7, false))
            .passes("fragment"),
        case(
            "one that has overtaken the first is the stack's",
            deployment(),
        )
        .after(established())
        .packet(later_of_alice(7, false))
        .passes("fragment"),
        case(
            "one whose server has died since is the stack's",
            deployment(),
        )
        .after(established())
        .after([first(7)])
        .after([Step::Change(|state| {
            state.services[0].servers[0].alive = false
        })])
        .packet(later_of_alice(7, false))
        .passes("fragment"),
        case("not to fragment is no fragment", deployment())
            .packet(patched(
                tcp(ALICE, 5000, S),
                FLAGS_AND_OFFSET,
                &[0x40, 0x00],
            ))
            .goes_to("edge 1"),
    ]);
}
