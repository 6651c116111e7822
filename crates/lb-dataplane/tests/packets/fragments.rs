//! Fragments: the first one has ports; the others follow it, or their client's template.

use lb_model::DesiredState;
use lb_model::{Protocol, Service};

use crate::{case, check, packet};
use packet_bed::frames::*;
use packet_bed::{Step, persistent, seconds, server, service, state};

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
#[ignore = "needs root"]
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
#[ignore = "needs root"]
fn a_later_fragment_follows_the_first() {
    let first = |identification| packet(fragment(tcp(ALICE, 5000, "P."), identification, true, 0));
    // Its first bytes are payload: here they resemble the ports of another connection.
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

#[test]
#[ignore = "needs root"]
fn fragments_that_resemble_those_of_a_packet_are_not_taken_for_them() {
    let beside = |change: fn(&mut Service)| {
        let mut state = deployment();
        let mut other = service("172.16.1.200:1935", &["edge 3"]);
        change(&mut other);
        state.services.push(other);
        state
    };
    let first = |frame| packet(fragment(frame, 7, true, 0));
    let later = |frame| fragment(frame, 7, false, 3);
    let tcp = || tcp(ALICE, 5000, "P.");
    let elsewhere = [172, 16, 1, 201];
    check([
        case(
            "another protocol",
            beside(|other| other.protocol = Protocol::Udp),
        )
        .after(established())
        .after([first(tcp())])
        .packet(later(udp(ALICE, 5000)))
        .passes("fragment"),
        case(
            "another service's address",
            beside(|other| other.address.set_ip([172, 16, 1, 201].into())),
        )
        .after(established())
        .after([first(tcp())])
        .packet(later(tcp_to(ALICE, 5000, elsewhere, RTMP, "P.")))
        .passes("fragment"),
        case("the farthest place in a packet is one", deployment())
            .after(established())
            .after([first(tcp())])
            .packet(fragment(tcp(), 7, false, 0x1000))
            .goes_to("edge 1"),
        case("also without a first", deployment())
            .after(established())
            .packet(fragment(tcp(), 7, false, 0x1000))
            .passes("fragment"),
        case("the server's heir gets none", deployment())
            .after(established())
            .after([first(tcp())])
            .after([
                Step::Change(|state| {
                    state.services[0].servers.remove(0);
                }),
                Step::Change(|state| state.services[0].servers.push(server("edge 3", 1935))),
            ])
            .packet(later(tcp()))
            .passes("fragment"),
        case("nor does the client's next server", sticky())
            .after(established())
            .after([first(tcp())])
            .after([Step::Change(|state| {
                state.services[0].servers[0].alive = false
            })])
            .after([5001, 5001].map(|port| packet(packet_bed::frames::tcp(ALICE, port, S))))
            .packet(later(tcp()))
            .passes("fragment"),
    ]);
}

/// As [`deployment`], with persistence.
fn sticky() -> DesiredState {
    let service = service("172.16.1.200:1935", &["edge 1", "edge 2", "edge 3"]);
    state([persistent(service, 50, 32)])
}

/// A later fragment from Alice whose first one has not been seen.
fn overtaking() -> Vec<u8> {
    fragment(tcp(ALICE, 5000, "P."), 7, false, 3)
}

/// A second service at the address.
fn beside(state: &mut DesiredState, address: &str) {
    state.services.push(service(address, &["edge 3"]));
}

#[test]
#[ignore = "needs root"]
fn a_later_fragment_without_a_first_follows_its_client() {
    let alice_and_bob = || {
        [BOB, ALICE]
            .into_iter()
            .flat_map(|client| [packet(tcp(client, 5000, S)), packet(tcp(client, 5000, A))])
    };
    check([
        case("to the server that the client sticks to", sticky())
            .after(alice_and_bob())
            .packet(overtaking())
            .goes_to("edge 2"),
        case("also while the client has only knocked", sticky())
            .after([packet(tcp(BOB, 5000, S)), packet(tcp(ALICE, 5000, S))])
            .packet(overtaking())
            .goes_to("edge 2"),
        case("of a client of the same network, too", {
            let mut state = sticky();
            state.services[0]
                .persistence
                .as_mut()
                .expect("persistence")
                .prefix_length = 24;
            state
        })
        .after([packet(tcp(BOB, 5000, S))])
        .packet(overtaking())
        .goes_to("edge 1"),
        case(
            "of a client that sticks to nobody it is the stack's",
            sticky(),
        )
        .after([packet(tcp(BOB, 5000, S)), packet(tcp(BOB, 5000, A))])
        .packet(overtaking())
        .passes("fragment"),
        case("and once its time is over", sticky())
            .after(alice_and_bob())
            .after([seconds(51)])
            .packet(overtaking())
            .passes("fragment"),
        case("and once its server is gone", sticky())
            .after(alice_and_bob())
            .after([Step::Change(|state| {
                state.services[0].servers[1].alive = false;
            })])
            .packet(overtaking())
            .passes("fragment"),
        case("the first one counts where it has been seen", sticky())
            .after(alice_and_bob())
            .after([
                Step::Change(|state| {
                    let server = &mut state.services[0].servers[1];
                    (server.weight, server.keeps_templates) = (0, false);
                }),
                packet(tcp(ALICE, 5001, S)),
                packet(tcp(ALICE, 5001, A)),
                packet(fragment(tcp(ALICE, 5000, "P."), 7, true, 0)),
            ])
            .packet(overtaking())
            .goes_to("edge 2"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn a_later_fragment_is_guessed_at_only_where_one_service_can_be_meant() {
    let connected = || [packet(tcp(ALICE, 5000, S)), packet(tcp(ALICE, 5000, A))];
    let with = |address| {
        let mut state = sticky();
        beside(&mut state, address);
        state
    };
    check([
        case(
            "two services at the address: it may be of either",
            with("172.16.1.200:80"),
        )
        .after(connected())
        .packet(overtaking())
        .passes("fragment"),
        case(
            "one at another address is no matter",
            with("172.16.1.201:80"),
        )
        .after(connected())
        .packet(overtaking())
        .goes_to("edge 1"),
        case("nor one of another protocol", {
            let mut state = with("172.16.1.200:80");
            state.services[1].protocol = Protocol::Udp;
            state
        })
        .after(connected())
        .packet(overtaking())
        .goes_to("edge 1"),
        case("and again once the other has left", with("172.16.1.200:80"))
            .after(connected())
            .after([Step::Change(|state| {
                state.services.pop();
            })])
            .packet(overtaking())
            .goes_to("edge 1"),
        case("a whole packet to port 0 is nobody's", sticky())
            .after(connected())
            .packet(tcp_to(ALICE, 5000, VIP, 0, S))
            .passes("not-a-service"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn later_fragments_of_what_is_the_stacks_are_the_stacks() {
    let connected = || [packet(tcp(ALICE, 5000, S)), packet(tcp(ALICE, 5000, A))];
    check([
        case("of another port of the address", sticky())
            .after(connected())
            .after([packet(fragment(
                tcp_to(ALICE, 6000, VIP, 22, "P."),
                7,
                true,
                0,
            ))])
            .packet(overtaking())
            .passes("fragment"),
        case("of no connection", sticky())
            .after(connected())
            .after([packet(fragment(tcp(ALICE, 6000, "P."), 7, true, 0))])
            .packet(overtaking())
            .passes("fragment"),
        case(
            "but not for longer than it takes to put them together",
            sticky(),
        )
        .after(connected())
        .after([
            packet(fragment(tcp(ALICE, 6000, "P."), 7, true, 0)),
            seconds(31),
        ])
        .packet(overtaking())
        .goes_to("edge 1"),
        case("nor does a server get them for longer", deployment())
            .after(established())
            .after([
                packet(fragment(tcp(ALICE, 5000, "P."), 7, true, 0)),
                seconds(31),
            ])
            .packet(overtaking())
            .passes("fragment"),
    ]);
}
