//! IPv6: as IPv4, with extension headers.

use lb_model::DesiredState;

use crate::{case, check, packet};
use packet_bed::frames::*;
use packet_bed::{Bed, Step, Verdict, persistent, service, state};

fn deployment() -> DesiredState {
    state([service("[2001:db8::c8]:1935", &["edge 1", "edge 2"])])
}

fn connects(client: [u8; 16], port: u16) -> [Step; 2] {
    [
        packet(tcp6(client, port, S)),
        packet(tcp6(client, port, ".")),
    ]
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// An extension header of 8 bytes of padding.
fn padding() -> Vec<u8> {
    vec![0, 0, 1, 4, 0, 0, 0, 0]
}

/// A fragment header.
fn fragment(offset: u16, more: bool, identification: u8) -> Vec<u8> {
    let offset_and_more = (offset << 3 | u16::from(more)).to_be_bytes();
    vec![
        0,
        0,
        offset_and_more[0],
        offset_and_more[1],
        0,
        0,
        0,
        identification,
    ]
}

#[test]
#[ignore = "needs root"]
fn connections_are_followed() {
    check([
        case("a SYN is scheduled", deployment())
            .packet(tcp6(DAVE, 5000, S))
            .goes_to("edge 1"),
        case("its connection is followed", deployment())
            .after(connects(DAVE, 5000))
            .packet(tcp6(DAVE, 5000, "."))
            .goes_to("edge 1"),
        case("other clients are others", deployment())
            .after(connects(DAVE, 5000))
            .packet(tcp6(ERIN, 5000, S))
            .goes_to("edge 2"),
        case("an ACK out of the blue is the stack's", deployment())
            .packet(tcp6(DAVE, 5000, "."))
            .passes("no-connection"),
        case("a dead server's connection is reset", deployment())
            .after(connects(DAVE, 5000))
            .after([Step::Change(|state| {
                state.services[0].servers[0].alive = false
            })])
            .packet(tcp6(DAVE, 5000, "."))
            .gets_reset_at(5000),
        case("with a prefix the clients of a network are one", {
            state([persistent(
                service("[2001:db8::c8]:1935", &["edge 1", "edge 2"]),
                50,
                64,
            )])
        })
        .after(connects(DAVE, 5000))
        .packet(tcp6(ERIN, 5000, S))
        .goes_to("edge 1"),
        case("without, every client is its own", {
            state([persistent(
                service("[2001:db8::c8]:1935", &["edge 1", "edge 2"]),
                50,
                128,
            )])
        })
        .after(connects(DAVE, 5000))
        .packet(tcp6(ERIN, 5000, S))
        .goes_to("edge 2"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn extension_headers_are_no_obstacle() {
    let goes = |says, extensions: &[(u8, Vec<u8>)]| {
        case(says, deployment())
            .packet(tcp6_with(5000, S, extensions))
            .goes_to("edge 1")
    };
    check([
        goes("hop-by-hop options", &[(HOP_BY_HOP, padding())]),
        goes("destination options", &[(DESTINATION_OPTIONS, padding())]),
        goes("a routing header", &[(ROUTING, padding())]),
        goes(
            "an authentication header of 12 bytes",
            &[(AUTHENTICATION, vec![0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1])],
        ),
        goes("an atomic fragment", &[(FRAGMENT, fragment(0, false, 7))]),
        goes("six of them", &vec![(DESTINATION_OPTIONS, padding()); 6]),
        goes(
            "one of 2 kB",
            &[(DESTINATION_OPTIONS, {
                let mut long = vec![0; 2048];
                long[1] = 255;
                long
            })],
        ),
        case("seven are more than we look at", deployment())
            .packet(tcp6_with(
                5000,
                S,
                &vec![(DESTINATION_OPTIONS, padding()); 7],
            ))
            .passes("extension-headers"),
        case("encryption hides the rest", deployment())
            .packet(patched(tcp6(DAVE, 5000, S), 20, &[50]))
            .passes("other-protocol"),
        case("no next header", deployment())
            .packet(patched(tcp6(DAVE, 5000, S), 20, &[59]))
            .passes("other-protocol"),
        case("an extension longer than the packet", deployment())
            .packet(tcp6_with(
                5000,
                S,
                &[(DESTINATION_OPTIONS, vec![0, 9, 1, 4, 0, 0, 0, 0])],
            ))
            .passes("malformed"),
    ]);
}

fn sticky() -> DesiredState {
    let service = service("[2001:db8::c8]:1935", &["edge 1", "edge 2"]);
    state([persistent(service, 50, 64)])
}

#[test]
#[ignore = "needs root"]
fn fragments_follow_their_first_or_their_client() {
    let first = tcp6_with(5000, "S", &[(FRAGMENT, fragment(0, true, 7))]);
    let later =
        |identification| tcp6_with(9, "", &[(FRAGMENT, fragment(5, false, identification))]);
    check([
        case("the first opens a connection", deployment())
            .packet(first.clone())
            .goes_to("edge 1"),
        case("the last follows it", deployment())
            .after([packet(first.clone())])
            .packet(later(7))
            .goes_to("edge 1"),
        case("one of another packet does not", deployment())
            .after([packet(first)])
            .packet(later(8))
            .passes("fragment"),
        case(
            "options behind the fragment header are the first's alone",
            deployment(),
        )
        .after([packet(tcp6_with(
            5000,
            S,
            &[
                (FRAGMENT, fragment(0, true, 7)),
                (DESTINATION_OPTIONS, padding()),
            ],
        ))])
        .packet(patched(later(7), 54, &[DESTINATION_OPTIONS]))
        .goes_to("edge 1"),
        case("without a first, it follows its client", sticky())
            .after(connects(DAVE, 5000))
            .packet(later(8))
            .goes_to("edge 1"),
        case("of a network, too", sticky())
            .after(connects(ERIN, 5000))
            .packet(later(8))
            .goes_to("edge 1"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn headers_that_lie_are_the_stacks() {
    check([
        case("IP version 4 under IPv6's type", deployment())
            .packet(patched(tcp6(DAVE, 5000, S), 14, &[0x45]))
            .passes("malformed"),
        case("a payload longer than the frame", deployment())
            .packet(patched(tcp6(DAVE, 5000, S), 18, &[0, 21]))
            .passes("truncated"),
        case("a payload shorter than TCP's header", deployment())
            .packet(patched(tcp6(DAVE, 5000, S), 18, &[0, 19]))
            .passes("malformed"),
        case("a jumbogram's length of 0", deployment())
            .packet(patched(tcp6(DAVE, 5000, S), 18, &[0, 0]))
            .passes("malformed"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn a_frame_cut_anywhere_is_the_stacks() {
    let Some(mut bed) = Bed::shared(deployment()) else {
        return;
    };
    let plain = tcp6(DAVE, 5000, S);
    let extended = tcp6_with(
        5001,
        S,
        &[
            (HOP_BY_HOP, padding()),
            (ROUTING, padding()),
            (FRAGMENT, fragment(0, false, 7)),
            (DESTINATION_OPTIONS, padding()),
        ],
    );
    for (whole, server) in [(plain, "edge 1"), (extended, "edge 2")] {
        for length in 14..whole.len() {
            let verdict = bed.send(&whole[..length]);
            assert_eq!(
                verdict,
                Verdict::Stack("truncated"),
                "cut after {length} bytes"
            );
        }
        assert_eq!(bed.send(&whole), Verdict::To(server));
    }
}
