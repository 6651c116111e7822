//! Protection from floods: denied networks, validation of sources, rates.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use lb_abi::{Address, CookieKey, cookie_hash};
use lb_dataplane::{ConnectionRate, DeniedNetworks, Error, TableSizes};
use lb_model::{DesiredState, Protocol};
use net_types::Network;

use packet_bed::frames::*;
use packet_bed::{
    Bed, SharedBed, Step, Verdict, persistent, seconds, service, small_tables, state,
};

const KEY: [u64; 2] = [1, 2];

fn deployment() -> DesiredState {
    let mut datagrams = service("172.16.1.200:1935", &["edge 1"]);
    datagrams.protocol = Protocol::Udp;
    state([
        persistent(service("172.16.1.200:1935", &["edge 1"]), 50, 32),
        persistent(service("[2001:db8::c8]:1935", &["edge 1"]), 50, 128),
        datagrams,
    ])
}

/// A data plane that challenges unproven sources.
fn validating() -> Option<SharedBed> {
    let mut bed = Bed::shared(deployment())?;
    bed.dataplane.replace_cookie_key(KEY).expect("a key");
    bed.dataplane.validate_sources(true).expect("it validates");
    Some(bed)
}

const DROPPED_PROVEN: Verdict = Verdict::Dropped("source-proven");
const DROPPED_WRONG: Verdict = Verdict::Dropped("wrong-cookie");
const TO_EDGE: Verdict = Verdict::To("edge 1");

/// Offset of the sequence number, over IPv4 and over IPv6.
const SEQUENCE: usize = 38;
const SEQUENCE6: usize = 58;

fn reset(client: [u8; 4], port: u16, sequence: u32) -> Vec<u8> {
    patched(tcp(client, port, R), SEQUENCE, &sequence.to_be_bytes())
}

fn reset6(client: [u8; 16], port: u16, sequence: u32) -> Vec<u8> {
    patched(tcp6(client, port, R), SEQUENCE6, &sequence.to_be_bytes())
}

/// Sends a SYN that must be challenged, and returns the number that its client resets.
fn challenged(bed: &mut Bed, syn: &[u8]) -> u32 {
    match bed.send(syn) {
        Verdict::Challenged(number) => number,
        other => panic!("a challenge, not {other:?}"),
    }
}

#[test]
#[ignore = "needs root"]
fn a_source_is_challenged_until_its_reset_proves_it() {
    let Some(mut bed) = validating() else { return };
    let number = challenged(&mut bed, &tcp(ALICE, 5000, S));
    assert!(bed.flows().is_empty(), "nothing is entered");
    assert_eq!(bed.send(&reset(ALICE, 5000, number)), DROPPED_PROVEN);
    assert_eq!(bed.send(&tcp(ALICE, 5000, S)), TO_EDGE);
    assert_eq!(bed.send(&tcp(ALICE, 5000, A)), TO_EDGE);
    assert_eq!(bed.send(&tcp(ALICE, 5001, S)), TO_EDGE, "the address is");
    challenged(&mut bed, &tcp(BOB, 5000, S));

    let number = challenged(&mut bed, &tcp6(DAVE, 5000, S));
    assert_eq!(bed.send(&reset6(DAVE, 5000, number)), DROPPED_PROVEN);
    assert_eq!(bed.send(&tcp6(DAVE, 5000, S)), TO_EDGE);
    assert_eq!(bed.send(&tcp6(ERIN, 5000, S)), TO_EDGE, "the same /64");
    let mut other = DAVE;
    other[7] ^= 1;
    challenged(&mut bed, &tcp6(other, 5000, S));
}

#[test]
#[ignore = "needs root"]
fn the_cookie_is_the_hash_of_client_and_service() {
    let Some(mut bed) = validating() else { return };
    let number = challenged(&mut bed, &tcp(ALICE, 5000, S));
    let client = Address::from(std::net::Ipv4Addr::from(ALICE));
    let virtual_address = Address::from(std::net::Ipv4Addr::from(VIP));
    let hash = cookie_hash(
        CookieKey(KEY),
        &client,
        5000_u16.to_be(),
        RTMP.to_be(),
        &virtual_address,
    );
    assert_eq!(number as u16, hash as u16);
    for sequence in [0, 1, 0x7FFF_FFFF, u32::MAX] {
        let syn = patched(tcp(ALICE, 5000, S), SEQUENCE, &sequence.to_be_bytes());
        let number = challenged(&mut bed, &syn);
        assert_eq!(number as u16, hash as u16, "whatever the sequence number");
    }
}

#[test]
#[ignore = "needs root"]
fn a_wrong_answer_proves_nothing() {
    let Some(mut bed) = validating() else { return };
    let number = challenged(&mut bed, &tcp(ALICE, 5000, S));
    for wrong in [reset(ALICE, 5000, number + 1), reset(ALICE, 5001, number)] {
        assert_eq!(bed.send(&wrong), DROPPED_WRONG);
        challenged(&mut bed, &tcp(ALICE, 5000, S));
    }
    // A reset with ACK is another kind of answer (RFC 9293 §3.10.7.1).
    let with_ack = patched(tcp(ALICE, 5000, "R."), SEQUENCE, &number.to_be_bytes());
    assert_eq!(bed.send(&with_ack), Verdict::Stack("no-connection"));
    challenged(&mut bed, &tcp(ALICE, 5000, S));
}

#[test]
#[ignore = "needs root"]
fn a_proof_lasts_a_minute() {
    let Some(mut bed) = validating() else { return };
    let number = challenged(&mut bed, &tcp(ALICE, 5000, S));
    bed.send(&reset(ALICE, 5000, number));
    bed.step(&seconds(59));
    assert_eq!(bed.send(&tcp(ALICE, 5000, S)), TO_EDGE);
    bed.step(&seconds(2));
    challenged(&mut bed, &tcp(ALICE, 5001, S));
}

#[test]
#[ignore = "needs root"]
fn an_answer_to_the_key_before_is_accepted_and_none_to_an_older_one() {
    let Some(mut bed) = validating() else { return };
    let first = challenged(&mut bed, &tcp(ALICE, 5000, S));
    bed.dataplane.replace_cookie_key([3, 4]).expect("a key");
    let second = challenged(&mut bed, &tcp(BOB, 5000, S));
    assert_eq!(bed.send(&reset(ALICE, 5000, first)), DROPPED_PROVEN);
    bed.dataplane.replace_cookie_key([5, 6]).expect("a key");
    assert_eq!(bed.send(&reset(BOB, 5000, second)), DROPPED_PROVEN);
    assert_eq!(bed.send(&reset(ALICE, 5000, first)), DROPPED_WRONG);
}

#[test]
#[ignore = "needs root"]
fn no_answer_to_the_key_of_zeros_is_accepted_that_new_maps_hold() {
    let Some(mut bed) = Bed::new(deployment()) else {
        return;
    };
    assert!(!bed.dataplane.has_cookie_key());
    bed.dataplane.replace_cookie_key(KEY).expect("a key");
    assert!(bed.dataplane.has_cookie_key());
    bed.dataplane.validate_sources(true).expect("it validates");
    let client = Address::from(std::net::Ipv4Addr::from(ALICE));
    let virtual_address = Address::from(std::net::Ipv4Addr::from(VIP));
    let (client_port, service_port) = (5000_u16.to_be(), RTMP.to_be());
    let zeros = CookieKey::default();
    let guess = cookie_hash(zeros, &client, client_port, service_port, &virtual_address);
    let forged = reset(ALICE, 5000, guess as u32);
    assert_eq!(bed.send(&forged), DROPPED_WRONG);
    challenged(&mut bed, &tcp(ALICE, 5000, S));
}

#[test]
#[ignore = "needs root"]
fn connections_that_are_known_go_on_when_validation_begins() {
    let Some(mut bed) = Bed::shared(deployment()) else {
        return;
    };
    for frame in [S, A].map(|flags| tcp(ALICE, 5000, flags)) {
        bed.send(&frame);
    }
    bed.send(&tcp(BOB, 5000, S));
    bed.dataplane.replace_cookie_key(KEY).expect("a key");
    bed.dataplane.validate_sources(true).expect("it validates");
    assert_eq!(bed.send(&tcp(ALICE, 5000, A)), TO_EDGE, "established");
    assert_eq!(bed.send(&tcp(BOB, 5000, A)), TO_EDGE, "half-open");
    assert_eq!(bed.send(&tcp(ALICE, 5000, F)), TO_EDGE, "closing");
    assert_eq!(bed.send(&tcp(BOB, 5000, R)), TO_EDGE, "reset");
    bed.dataplane.validate_sources(false).expect("it does not");
    assert_eq!(bed.send(&tcp(CAROL, 5000, S)), TO_EDGE);
}

#[test]
#[ignore = "needs root"]
fn a_client_that_uses_its_port_again_is_proven_too() {
    let Some(mut bed) = Bed::shared(deployment()) else {
        return;
    };
    for flags in [S, A, F] {
        bed.send(&tcp(ALICE, 5000, flags));
    }
    bed.dataplane.replace_cookie_key(KEY).expect("a key");
    bed.dataplane.validate_sources(true).expect("it validates");
    let number = challenged(&mut bed, &tcp(ALICE, 5000, S));
    // Its connection of before is known.
    assert_eq!(bed.send(&reset(ALICE, 5000, number)), TO_EDGE);
    assert_eq!(bed.send(&tcp(ALICE, 5000, S)), TO_EDGE);
    assert_eq!(bed.send(&tcp(ALICE, 5000, A)), TO_EDGE);
}

#[test]
#[ignore = "needs root"]
fn frames_of_every_form_are_challenged() {
    let Some(mut bed) = validating() else { return };
    const TAG: (u16, u16) = (0x8100, 7);
    const OUTER: (u16, u16) = (0x88A8, 5);
    // Behind the TCP header; the second value is its length in words.
    let longer = |bytes: u8, words: u8| {
        let frame = [tcp(ALICE, 5000, S), vec![1; bytes.into()]].concat();
        patched(patched(frame, 17, &[40 + bytes]), 46, &[words << 4])
    };
    let data = [tcp(ALICE, 5000, "SP"), longer(7, 5), longer(100, 5)];
    let frames = [
        tagged(tcp(ALICE, 5000, S), &[TAG]),
        tagged(tcp(ALICE, 5000, S), &[OUTER, TAG]),
        tagged(tcp6(DAVE, 5000, S), &[TAG]),
        with_option(tcp(ALICE, 5000, S)),
        tcp6_with(5000, S, &[(0, vec![0, 0, 1, 4, 0, 0, 0, 0])]),
        [tcp(ALICE, 5000, S), vec![0; 6]].concat(),
        longer(20, 10),
        longer(40, 15),
    ];
    for frame in frames.iter().chain(&data) {
        challenged(&mut bed, frame);
    }
    let tagged_reset = |number| tagged(reset(ALICE, 5000, number), &[TAG]);
    let number = challenged(&mut bed, &frames[0]);
    assert_eq!(bed.send(&tagged_reset(number)), DROPPED_PROVEN);
    assert!(matches!(
        bed.send(&frames[0]),
        Verdict::Changed("edge 1", _)
    ));
}

#[test]
#[ignore = "needs root"]
fn no_packet_of_an_unproven_source_reaches_a_server() {
    let Some(mut bed) = validating() else { return };
    for flags in 0..=u8::MAX {
        for frame in [
            patched(tcp(ALICE, 5000, A), 47, &[flags]),
            patched(tcp6(DAVE, 5000, A), 67, &[flags]),
            tagged(patched(tcp(ALICE, 5000, A), 47, &[flags]), &[(0x8100, 7)]),
        ] {
            let verdict = bed.send(&frame);
            assert!(
                matches!(
                    verdict,
                    Verdict::Challenged(_) | Verdict::Stack(_) | Verdict::Dropped(_)
                ),
                "flags {flags:#x}: {verdict:?}"
            );
        }
    }
    assert!(bed.flows().is_empty(), "nothing is entered");
}

#[test]
#[ignore = "needs root"]
fn validation_leaves_alone_what_is_none_of_its_business() {
    let Some(mut bed) = validating() else { return };
    let stack = Verdict::Stack;
    assert_eq!(bed.send(&udp(ALICE, 5000)), TO_EDGE);
    assert_eq!(bed.send(&tcp(VIP, 5000, S)), stack("martian-source"));
    assert_eq!(
        bed.send(&tcp_to(ALICE, 5000, VIP, RTMP + 1, S)),
        stack("not-a-service")
    );
    let for_another = |frame| patched(frame, 0, &[2, 9, 9, 9, 9, 9]);
    assert_eq!(
        bed.send(&for_another(tcp(ALICE, 5000, S))),
        stack("other-host")
    );
    assert_eq!(
        bed.send(&for_another(tcp(ALICE, 5000, R))),
        stack("no-connection")
    );
    let from_edge = patched(tcp(ALICE, 5000, S), 6, &[2, 0, 0, 1, 0, 0]);
    assert_eq!(bed.send(&from_edge), stack("balanced-before"));
    assert_eq!(bed.send(&tcp(ALICE, 5000, A)), stack("no-connection"));
}

fn denied(networks: &[&str]) -> DeniedNetworks {
    let networks = networks.iter();
    networks
        .map(|text| text.parse().expect("a network"))
        .collect()
}

#[test]
#[ignore = "needs root"]
fn packets_of_denied_networks_are_dropped_and_others_are_not() {
    let Some(mut bed) = Bed::shared(deployment()) else {
        return;
    };
    let dropped = Verdict::Dropped("denied");
    let both = denied(&["10.0.0.0/24", "2001:db8:1::1"]);
    bed.dataplane.deny(&both).expect("denied");
    assert_eq!(bed.send(&tcp(ALICE, 5000, S)), dropped);
    assert_eq!(bed.send(&tcp(ALICE, 5000, A)), dropped);
    assert_eq!(bed.send(&udp(BOB, 5000)), dropped);
    assert_eq!(
        bed.send(&tagged(tcp(ALICE, 5000, S), &[(0x8100, 7)])),
        dropped
    );
    assert_eq!(bed.send(&tcp6(DAVE, 5000, S)), dropped);
    let later_fragment = patched(tcp(ALICE, 5000, A), 20, &[0, 1]);
    assert_eq!(bed.send(&later_fragment), dropped);
    assert_eq!(bed.send(&tcp6(ERIN, 5000, S)), TO_EDGE);
    assert_eq!(bed.send(&tcp(CAROL, 5000, S)), TO_EDGE);
    // Whoever administers the host is not locked out.
    let to_the_host = tcp_to(ALICE, 5000, VIP, 22, S);
    assert_eq!(bed.send(&to_the_host), Verdict::Stack("not-a-service"));
    let for_another = patched(tcp(ALICE, 5000, S), 0, &[2, 9, 9, 9, 9, 9]);
    assert_eq!(bed.send(&for_another), Verdict::Stack("other-host"));

    bed.dataplane
        .deny(&denied(&["10.0.0.2"]))
        .expect("others are");
    assert_eq!(bed.send(&tcp(ALICE, 5000, S)), TO_EDGE);
    assert_eq!(bed.send(&tcp(BOB, 5000, S)), dropped);
    bed.dataplane.deny(&denied(&[])).expect("nobody is");
    assert_eq!(bed.send(&tcp(BOB, 5000, S)), TO_EDGE);
}

#[test]
#[ignore = "needs root"]
fn a_sweep_ends_the_connections_of_a_denied_client() {
    let Some(mut bed) = Bed::shared(deployment()) else {
        return;
    };
    for client in [ALICE, CAROL] {
        for flags in [S, A] {
            bed.send(&tcp(client, 5000, flags));
        }
    }
    bed.dataplane.deny(&denied(&["10.0.0.1"])).expect("denied");
    assert_eq!(bed.sweep().connections_denied, 1);
    assert_eq!(bed.loads()[0], (1, 0), "the schedulers know");
    assert_eq!(bed.send(&tcp(ALICE, 5000, A)), Verdict::Dropped("denied"));
    assert_eq!(bed.send(&tcp(CAROL, 5000, A)), TO_EDGE);
}

#[test]
#[ignore = "needs root"]
fn more_denied_networks_than_the_table_holds_are_refused() {
    let Some(mut bed) = Bed::shared(deployment()) else {
        return;
    };
    let network = |number: u32| {
        let address = std::net::Ipv4Addr::from(0x0A00_0000 + number);
        address.to_string().parse().expect("a network")
    };
    let entries = small_tables().denied;
    let just_fits = (0..entries).map(network).collect();
    bed.dataplane.deny(&just_fits).expect("all fit");
    let refused = bed.dataplane.deny(&(0..=entries).map(network).collect());
    assert!(matches!(refused, Err(Error::TableFull { limit: 64, .. })));
    assert_eq!(bed.dataplane.denied(), &just_fits);
}

#[test]
#[ignore = "needs root"]
fn a_network_opens_as_many_connections_as_its_rate_allows() {
    let Some(mut bed) = Bed::shared(deployment()) else {
        return;
    };
    bed.dataplane
        .limit_connections(Some(rate(2, 4)))
        .expect("set");
    let dropped = Verdict::Dropped("rate-limited");
    for port in 0..4 {
        let client = if port % 2 == 0 { ALICE } else { BOB };
        assert_eq!(bed.send(&tcp(client, 5000 + port, S)), TO_EDGE);
    }
    assert_eq!(bed.send(&tcp(ALICE, 6000, S)), dropped);
    assert_eq!(bed.send(&udp(ALICE, 6000)), dropped);
    assert_eq!(bed.send(&tcp(ALICE, 5000, A)), TO_EDGE, "known ones go on");
    assert_eq!(bed.send(&tcp(ALICE, 5002, S)), TO_EDGE, "sent again");
    assert_eq!(bed.send(&tcp(CAROL, 5000, S)), TO_EDGE, "another network");
    for port in 0..4 {
        assert_eq!(bed.send(&tcp6(DAVE, 5000 + port, S)), TO_EDGE);
    }
    assert_eq!(bed.send(&tcp6(ERIN, 5000, S)), dropped, "the same /64");

    bed.step(&Step::Wait(Duration::from_millis(600)));
    assert_eq!(bed.send(&tcp(ALICE, 6001, S)), TO_EDGE, "half a second on");
    bed.dataplane.limit_connections(None).expect("taken back");
    for port in 7000..7010 {
        assert_eq!(bed.send(&tcp(ALICE, port, S)), TO_EDGE);
    }
}

/// A limit of so many connections per second, and so many at once.
fn rate(per_second: u32, burst: u32) -> ConnectionRate {
    let number = |number| NonZeroU32::new(number).expect("more than 0");
    ConnectionRate {
        per_second: number(per_second),
        burst: number(burst),
    }
}

#[test]
#[ignore = "needs root"]
fn a_network_that_has_used_its_burst_gains_by_a_more_generous_rate() {
    let Some(mut bed) = Bed::shared(deployment()) else {
        return;
    };
    let dropped = Verdict::Dropped("rate-limited");
    bed.dataplane
        .limit_connections(Some(rate(1, 60)))
        .expect("set");
    for port in 0..60 {
        assert_eq!(bed.send(&tcp(ALICE, 5000 + port, S)), TO_EDGE);
    }
    assert_eq!(bed.send(&tcp(ALICE, 6000, S)), dropped);
    bed.dataplane
        .limit_connections(Some(rate(2, 2)))
        .expect("set");
    assert_eq!(bed.send(&tcp(ALICE, 6000, S)), dropped);
    bed.step(&Step::Wait(Duration::from_millis(600)));
    assert_eq!(bed.send(&tcp(ALICE, 6000, S)), TO_EDGE, "half a second on");
}

#[test]
#[ignore = "needs root"]
fn connections_that_are_taken_over_are_neither_limited_nor_counted_as_new() {
    let mut sloppy = deployment();
    sloppy.services[0].sloppy = true;
    let Some(mut bed) = Bed::shared(sloppy) else {
        return;
    };
    bed.dataplane
        .limit_connections(Some(rate(1, 1)))
        .expect("set");
    let acknowledging = |port| patched(tcp(ALICE, port, A), 42, &[0, 0, 0, 7]);
    for port in 5000..5010 {
        for _ in 0..2 {
            assert_eq!(bed.send(&acknowledging(port)), TO_EDGE);
        }
    }
    let handshakes = bed.dataplane.handshakes().expect("they can be read");
    assert_eq!((handshakes.opened, handshakes.completed), (0, 0));
    assert_eq!(bed.send(&tcp(ALICE, 6000, S)), TO_EDGE);
    let dropped = Verdict::Dropped("rate-limited");
    assert_eq!(bed.send(&tcp(ALICE, 6001, S)), dropped);
}

#[test]
#[ignore = "needs root"]
fn handshakes_are_counted() {
    let Some(mut bed) = Bed::shared(deployment()) else {
        return;
    };
    for (client, flags) in [(ALICE, S), (ALICE, A), (BOB, S), (ALICE, A)] {
        bed.send(&tcp(client, 5000, flags));
    }
    bed.send(&udp(ALICE, 5000));
    bed.dataplane
        .limit_connections(Some(rate(1, 1)))
        .expect("set");
    bed.send(&udp(BOB, 5001));
    for frame in [tcp(BOB, 5001, S), udp(BOB, 5002)] {
        assert_eq!(bed.send(&frame), Verdict::Dropped("rate-limited"));
    }
    let handshakes = bed.dataplane.handshakes().expect("they can be read");
    assert_eq!((handshakes.opened, handshakes.completed), (2, 1));
    assert_eq!(handshakes.refused, 1, "SYNs only");
}

#[test]
#[ignore = "needs root"]
fn a_change_of_a_long_deny_list_writes_what_is_different() {
    const NETWORKS: u32 = 10_000;
    let tables = TableSizes {
        denied: 1 << 14,
        ..small_tables()
    };
    let Some(mut bed) = Bed::with_tables(deployment(), tables) else {
        return;
    };
    let network = |number: u32| {
        let address = IpAddr::from((0x0B00_0000 + (number << 8)).to_be_bytes());
        Network::new(address, 24)
    };
    let mut deny = |networks: std::ops::Range<u32>| {
        let denied: DeniedNetworks = networks.map(network).collect();
        bed.dataplane.deny(&denied).expect("they fit")
    };
    assert_eq!(deny(0..NETWORKS), NETWORKS as usize);
    assert_eq!(deny(0..NETWORKS), 0, "the same list");
    assert_eq!(deny(0..NETWORKS + 1), 1, "one more");
    assert_eq!(deny(1..NETWORKS + 2), 2, "one out, another one in");
    let last = tcp([11, 0x27, 0x11, 7], 5000, S);
    assert_eq!(bed.send(&last), Verdict::Dropped("denied"));
    assert!(matches!(
        bed.send(&tcp([11, 0, 0, 7], 5000, S)),
        Verdict::To(_)
    ));
}
