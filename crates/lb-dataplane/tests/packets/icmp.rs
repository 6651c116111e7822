//! ICMP errors go to the server of the connection that they are about.

use lb_model::DesiredState;

use crate::{case, check, packet};
use packet_bed::frames::*;
use packet_bed::{Bed, Step, Verdict, service, state};

fn deployment() -> DesiredState {
    state([
        service("172.16.1.200:1935", &["edge 1", "edge 2"]),
        service("[2001:db8::c8]:1935", &["edge 3"]),
    ])
}

fn established() -> [Step; 4] {
    [
        packet(tcp(ALICE, 5000, S)),
        packet(tcp(ALICE, 5000, A)),
        packet(tcp6(DAVE, 5000, S)),
        packet(tcp6(DAVE, 5000, ".")),
    ]
}

/// An IPv4 header and the eight bytes that RFC 792 guarantees.
const LEAST: usize = 28;

#[test]
#[ignore = "needs root"]
fn an_error_about_a_connection_reaches_its_server() {
    let about = from_service(ALICE, 5000);
    let cases = [
        ("fragmentation needed", 3, 4),
        ("host unreachable", 3, 1),
        ("source quench", 4, 0),
        ("time exceeded", 11, 0),
        ("parameter problem", 12, 0),
    ];
    check(cases.map(|(says, kind, code)| {
        case(says, deployment())
            .after(established())
            .packet(icmp(kind, code, &about, LEAST))
            .goes_to("edge 1")
    }));
    check([
        case("while the connection is half open, too", deployment())
            .after([packet(tcp(ALICE, 5000, S))])
            .packet(icmp(3, 4, &about, LEAST))
            .goes_to("edge 1"),
        case("packet too big, over IPv6", deployment())
            .after(established())
            .packet(icmp6(2, 0, &from_service6(DAVE, 5000), 48))
            .goes_to("edge 3"),
        case("destination unreachable, over IPv6", deployment())
            .after(established())
            .packet(icmp6(1, 3, &from_service6(DAVE, 5000), 600))
            .goes_to("edge 3"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn what_stands_before_the_quoted_ports_is_no_obstacle() {
    const OPTIONS: u8 = 60;
    let with_options = |words: u8| {
        let mut about = from_service(ALICE, 5000);
        about.splice(34..34, vec![1; usize::from(words) * 4]); // no-operation
        patched(about, 14, &[0x45 + words])
    };
    let with_extensions = |count: usize| {
        let mut about = from_service6(DAVE, 5000);
        let next = about[20];
        about[20] = OPTIONS;
        for left in (0..count).rev() {
            let own = if left == count - 1 { next } else { OPTIONS };
            about.splice(54..54, [own, 0, 1, 4, 0, 0, 0, 0]);
        }
        about
    };
    check([1, 5, 10].map(|words| {
        let quoted = LEAST + usize::from(words) * 4;
        case("IPv4 options", deployment())
            .after(established())
            .packet(icmp(3, 4, &with_options(words), quoted))
            .goes_to("edge 1")
    }));
    check([1, 2, 6].map(|count| {
        case("IPv6 extension headers", deployment())
            .after(established())
            .packet(icmp6(2, 0, &with_extensions(count), 48 + count * 8))
            .goes_to("edge 3")
    }));
    check([case("more than we look at", deployment())
        .after(established())
        .packet(icmp6(2, 0, &with_extensions(7), 48 + 7 * 8))
        .passes("extension-headers")]);
}

#[test]
#[ignore = "needs root"]
fn other_messages_are_the_stacks() {
    let about = from_service(ALICE, 5000);
    check([
        case("an echo request", deployment())
            .after(established())
            .packet(icmp(8, 0, &about, LEAST))
            .passes("icmp-unrelated"),
        case("a redirect", deployment())
            .after(established())
            .packet(icmp(5, 0, &about, LEAST))
            .passes("icmp-unrelated"),
        case("an echo request over IPv6", deployment())
            .after(established())
            .packet(icmp6(128, 0, &from_service6(DAVE, 5000), 48))
            .passes("icmp-unrelated"),
        case(
            "an error about a connection that is not known",
            deployment(),
        )
        .after(established())
        .packet(icmp(3, 4, &from_service(BOB, 5000), LEAST))
        .passes("icmp-unrelated"),
        case(
            "an error about a packet that the service did not send",
            deployment(),
        )
        .after(established())
        .packet(icmp(
            3,
            4,
            &patched(about.clone(), 26, &[172, 16, 1, 201]),
            LEAST,
        ))
        .passes("icmp-unrelated"),
        case("an error about a later fragment", deployment())
            .after(established())
            .packet(icmp(3, 4, &patched(about.clone(), 20, &[0, 3]), LEAST))
            .passes("icmp-unrelated"),
        case("an error about another protocol", deployment())
            .after(established())
            .packet(icmp(3, 4, &patched(about.clone(), 23, &[1]), LEAST))
            .passes("icmp-unrelated"),
        case("an error about a dead server's connection", deployment())
            .after(established())
            .after([Step::Change(|state| {
                state.services[0].servers[0].alive = false
            })])
            .packet(icmp(3, 4, &about, LEAST))
            .passes("server-gone"),
        case("a quoted header that lies", deployment())
            .after(established())
            .packet(icmp(3, 4, &patched(about, 14, &[0x44]), LEAST))
            .passes("malformed"),
    ]);
}

#[test]
#[ignore = "needs root"]
fn an_error_changes_nothing_about_the_connection() {
    let Some(mut bed) = Bed::shared(deployment()) else {
        return;
    };
    for step in established() {
        bed.step(&step);
    }
    bed.step(&packet_bed::seconds(899));
    let error = icmp(3, 4, &from_service(ALICE, 5000), LEAST);
    assert_eq!(bed.send(&error), Verdict::To("edge 1"));
    bed.step(&packet_bed::seconds(2));
    let stale = Verdict::Stack("no-connection");
    assert_eq!(
        bed.send(&tcp(ALICE, 5000, A)),
        stale,
        "an error is no sign of the client's life"
    );
}

#[test]
#[ignore = "needs root"]
fn an_error_cut_anywhere_is_the_stacks() {
    let Some(mut bed) = Bed::shared(deployment()) else {
        return;
    };
    for step in established() {
        bed.step(&step);
    }
    let errors = [
        (icmp(3, 4, &from_service(ALICE, 5000), LEAST), "edge 1"),
        (icmp6(2, 0, &from_service6(DAVE, 5000), 48), "edge 3"),
    ];
    for (whole, server) in errors {
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
