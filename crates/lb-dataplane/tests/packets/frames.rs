//! Frames that are for no service, or cannot be parsed, pass to the kernel's stack.

use lb_dataplane::TableSizes;
use lb_model::DesiredState;
use lb_model::Protocol;

use crate::{case, check, packet};
use packet_bed::frames::*;
use packet_bed::{Bed, Step, Verdict, service, small_tables, state};

fn deployment() -> DesiredState {
    state([service("172.16.1.200:1935", &["edge 1"])])
}

/// Offsets in a frame of Ethernet, IPv4 without options, and TCP.
const ETHERTYPE: usize = 12;
const VERSION_AND_LENGTH: usize = 14;
const TOTAL_LENGTH: usize = 16;
const PROTOCOL: usize = 23;
const DATA_OFFSET: usize = 46;

fn syn() -> Vec<u8> {
    tcp(ALICE, 5000, S)
}

#[test]
#[ignore = "needs root"]
fn other_traffic_is_left_alone() {
    check([
        case("another address", deployment())
            .packet(tcp_to(ALICE, 5000, [172, 16, 1, 201], RTMP, S))
            .passes("not-a-service"),
        case("another port", deployment())
            .packet(tcp_to(ALICE, 5000, VIP, 22, S))
            .passes("not-a-service"),
        case("another protocol of the same port", deployment())
            .packet(patched(syn(), PROTOCOL, &[17]))
            .passes("malformed"),
        case("a protocol without ports", deployment())
            .packet(patched(syn(), PROTOCOL, &[47]))
            .passes("other-protocol"),
        case("ARP", deployment())
            .packet(patched(syn(), ETHERTYPE, &[0x08, 0x06]))
            .passes("not-ip"),
        case("an IEEE 802.3 length in place of a type", deployment())
            .packet(patched(syn(), ETHERTYPE, &[0x00, 0x2e]))
            .passes("not-ip"),
        case(
            "before any state there is no service",
            DesiredState::default(),
        )
        .packet(syn())
        .passes("not-a-service"),
    ]);
}

/// In a small directory many addresses and ports have the same home as a service.
#[test]
#[ignore = "needs root"]
fn what_resembles_a_service_is_none() {
    let tables = TableSizes {
        services: 1,
        ..small_tables()
    };
    let Some(mut bed) = Bed::with_tables(deployment(), tables) else {
        return;
    };
    let none = Verdict::Stack("not-a-service");
    for number in 1..=64_u8 {
        let [v4, v6] = ["172.16.1.200", "[2001:db8::c8]"]
            .map(|address| state([service(&format!("{address}:{number}"), &["edge 1"])]));
        bed.reset(v4);
        let syn = |address, port| tcp_to(ALICE, 5000, address, port, S);
        let port = u16::from(number);
        assert_eq!(bed.send(&syn(VIP, port)), Verdict::To("edge 1"));
        assert_eq!(bed.send(&syn([172, 16, 1, number], port)), none);
        assert_eq!(bed.send(&syn(VIP, port + 64)), none);
        let datagram = patched(udp(ALICE, 5000), 36, &port.to_be_bytes());
        assert_eq!(bed.send(&datagram), none);
        bed.reset(v6);
        let syn = patched(tcp6(DAVE, 5000, S), 56, &port.to_be_bytes());
        assert_eq!(bed.send(&syn), Verdict::To("edge 1"));
        // Another word of its address.
        for word in [38, 42, 46, 50] {
            let other = patched(syn.clone(), word, &[syn[word] ^ number]);
            assert_eq!(bed.send(&other), none, "{word}");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn headers_that_lie_are_the_stacks() {
    let malformed = |says, frame| case(says, deployment()).packet(frame).passes("malformed");
    check([
        malformed("IP version 5", patched(syn(), VERSION_AND_LENGTH, &[0x55])),
        malformed(
            "IP version 6 under IPv4's type",
            patched(syn(), VERSION_AND_LENGTH, &[0x65]),
        ),
        malformed(
            "an IP header of 16 bytes",
            patched(syn(), VERSION_AND_LENGTH, &[0x44]),
        ),
        malformed(
            "an IP header of 0 bytes",
            patched(syn(), VERSION_AND_LENGTH, &[0x40]),
        ),
        malformed(
            "a packet shorter than its header",
            patched(syn(), TOTAL_LENGTH, &[0, 19]),
        ),
        malformed("a packet of 0 bytes", patched(syn(), TOTAL_LENGTH, &[0, 0])),
        malformed(
            "a packet that ends within TCP's header",
            patched(syn(), TOTAL_LENGTH, &[0, 39]),
        ),
        malformed(
            "a TCP header of 16 bytes",
            patched(syn(), DATA_OFFSET, &[0x40]),
        ),
        malformed(
            "a TCP header longer than the packet",
            patched(syn(), DATA_OFFSET, &[0x60]),
        ),
        case("a packet longer than the frame", deployment())
            .packet(patched(syn(), TOTAL_LENGTH, &[0, 41]))
            .passes("truncated"),
        case("a packet of 65535 bytes", deployment())
            .packet(patched(syn(), TOTAL_LENGTH, &[0xff, 0xff]))
            .passes("truncated"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn a_frame_cut_anywhere_is_the_stacks() {
    let Some(mut bed) = Bed::shared(deployment()) else {
        return;
    };
    let whole = syn();
    // The kernel runs no program on less than an Ethernet header.
    for length in 14..whole.len() {
        let verdict = bed.send(&whole[..length]);
        assert_eq!(
            verdict,
            Verdict::Stack("truncated"),
            "cut after {length} bytes"
        );
    }
    assert_eq!(bed.send(&whole), Verdict::To("edge 1"));
}

/// The fast path, too, must compare packets with the frame's end.
#[test]
#[ignore = "needs root"]
fn a_frame_of_a_connection_cut_anywhere_is_the_stacks() {
    let mut both = deployment();
    both.services
        .push(service("[2001:db8::c8]:1935", &["edge 1"]));
    let mut datagrams = service("172.16.1.200:1935", &["edge 1"]);
    datagrams.protocol = Protocol::Udp;
    both.services.push(datagrams);
    let Some(mut bed) = Bed::shared(both) else {
        return;
    };
    let whole = [
        tcp(ALICE, 5000, "P."),
        tcp6(DAVE, 5000, "P."),
        udp(ALICE, 5000),
    ];
    for flags in [S, A] {
        bed.send(&tcp(ALICE, 5000, flags));
        bed.send(&tcp6(DAVE, 5000, flags));
        bed.send(&udp(ALICE, 5000));
    }
    for frame in &whole {
        for length in 14..frame.len() {
            let verdict = bed.send(&frame[..length]);
            assert_eq!(verdict, Verdict::Stack("truncated"), "after {length} bytes");
        }
        assert_eq!(bed.send(frame), Verdict::To("edge 1"));
    }
}

#[test]
#[ignore = "needs root"]
fn ip_options_are_no_obstacle() {
    for words in 1..=10_u8 {
        let Some(mut bed) = Bed::shared(deployment()) else {
            return;
        };
        let mut frame = syn();
        let options = vec![1; usize::from(words) * 4]; // no-operation
        frame.splice(34..34, options);
        frame[VERSION_AND_LENGTH] = 0x45 + words;
        let length = (frame.len() - 14) as u16;
        frame[TOTAL_LENGTH..TOTAL_LENGTH + 2].copy_from_slice(&length.to_be_bytes());
        assert_eq!(
            bed.send(&frame),
            Verdict::To("edge 1"),
            "{words} words of options"
        );
        for cut in 34..frame.len() {
            assert_eq!(
                bed.send(&frame[..cut]),
                Verdict::Stack("truncated"),
                "cut after {cut}"
            );
        }
    }
}

/// Payload of a jumbo frame: more than a page, so that it lies in several
/// buffers.
const JUMBO: usize = 8960;

#[test]
#[ignore = "needs root"]
fn a_frame_in_several_buffers_is_a_frame_like_others() {
    let established = || [packet(tcp(ALICE, 5000, S)), packet(tcp(ALICE, 5000, A))];
    let dead = |state: &mut DesiredState| state.services[0].servers[0].alive = false;
    let jumbo = || tcp_of(ALICE, 5000, JUMBO);
    // The last buffer ends before the packet does.
    let mut cut = jumbo();
    cut.truncate(cut.len() - 1);
    check([
        case("it follows its connection", deployment())
            .after(established())
            .packet(jumbo())
            .goes_to("edge 1"),
        case("of no connection, it is the stack's", deployment())
            .packet(jumbo())
            .passes("no-connection"),
        case("with a tag in front, which goes", deployment())
            .after(established())
            .packet(tagged(jumbo(), &[(0x8100, 7)]))
            .goes_changed_to("edge 1", &jumbo()[12..]),
        case("its server dead, it is answered in one", deployment())
            .after(established())
            .after([Step::Change(dead)])
            .packet(jumbo())
            .gets_reset_at(5000),
        case("cut off at its end", deployment())
            .after(established())
            .packet(cut)
            .passes("truncated"),
    ]);
}
