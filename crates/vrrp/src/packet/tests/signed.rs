//! Signatures by [`signature`]; the expected bytes are of Python's `hmac`, over what
//! vrrp_auth_hmac.c of keepalived puts together.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lb_model::config::HmacMode;

use super::*;

const VECTOR_V2: &str = "2133 6401 0001 ccf1 ac10 01c8 0000 0000 0000 0000 0101 0000 6553 f100 8000 0000 \
     7cb3 d865 adc0 9931 d2a7 5ea5 5a9b 6985";

/// From the addresses on.
const VECTOR_V6: &str = "fe80 0000 0000 0000 0000 0000 0000 00c8 0101 0000 6553 f100 8000 0000 fa7e 7fe9 \
     0ec3 c773 5d93 064e 6064 556d";

/// 2023-11-14T22:13:20.5Z
fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_700_000_000_500)
}

fn after(seconds: f64) -> SystemTime {
    start() + Duration::from_secs_f64(seconds)
}

fn settings(mode: HmacMode) -> SignatureSettings {
    let key = |id: u8, first: u8| Key {
        id,
        bytes: (first..first + 32).collect(),
    };
    SignatureSettings {
        keys: vec![key(1, 0), key(7, 100)],
        active_key: 1,
        time_window: Some(5),
        mode,
    }
}

fn signatures(mode: HmacMode) -> Signatures {
    Signatures::new(settings(mode))
}

fn plain() -> Format {
    let address = Ipv4Addr::new(172, 16, 1, 200).into();
    Format::new(Version::V2, 51, &[address], None, Duration::from_secs(1)).expect("valid")
}

/// An advert of `sender`'s.
fn advert(format: &Format, sender: &mut Signatures, now: SystemTime) -> Vec<u8> {
    match sender.next_sequence(now) {
        None => format.encode(100, US, GROUP),
        Some(sequence) => format.encode_signed(100, US, GROUP, sender, sequence),
    }
}

fn judge(receiver: &mut Signatures, payload: &[u8], now: SystemTime) -> Result<u8, Refusal> {
    let senders = Senders::OnLink;
    let format = plain();
    let checked = format.check_signed(&datagram(payload), senders, Some((receiver, None)), now);
    checked.map(|advert| advert.priority)
}

#[test]
fn a_signed_advert_of_version_2_is_byte_for_byte_what_keepalived_sends() {
    let advert = advert(&plain(), &mut signatures(HmacMode::Enforce), start());
    let expected = bytes(VECTOR_V2);
    assert_eq!(advert, expected);
}

#[test]
fn a_signed_advert_over_ipv6_has_a_checksum_over_its_trailer() {
    let source: IpAddr = "fe80::1".parse().expect("an address");
    let address = "fe80::c8".parse().expect("an address");
    let mut sender = signatures(HmacMode::Enforce);
    let sequence = sender.next_sequence(start()).expect("it signs");
    let format = version_3(&[address]);
    let group = MULTICAST_V6.into();
    let advert = format.encode_signed(100, source, group, &sender, sequence);
    assert_eq!(advert[..6], bytes("3133 6401 0019"));
    assert_eq!(advert[8..], bytes(VECTOR_V6));
    let arrived = Datagram {
        source,
        destination: group,
        time_to_live: TIME_TO_LIVE,
        payload: &advert,
    };
    let mut receiver = signatures(HmacMode::Enforce);
    let peers = Some((&mut receiver, None));
    let checked = format.check_signed(&arrived, Senders::OnLink, peers, start());
    assert!(checked.is_ok(), "{checked:?}");
}

#[test]
fn a_signature_is_refused_for_the_first_thing_that_is_wrong() {
    let good = advert(&plain(), &mut signatures(HmacMode::Enforce), start());
    let trailer = good.len() - 28;
    for (offset, refusal) in [
        (2, Refusal::SignatureWrong),
        (trailer, Refusal::SignatureMalformed),
        (trailer + 1, Refusal::SignatureKey),
        (trailer + 2, Refusal::SignatureMalformed),
        (trailer + 4, Refusal::SignatureStale),
        (trailer + 8, Refusal::SignatureWrong),
        (trailer + 12, Refusal::SignatureWrong),
        (good.len() - 1, Refusal::SignatureWrong),
    ] {
        let mut bad = good.clone();
        bad[offset] ^= 0x40;
        let mut receiver = signatures(HmacMode::Enforce);
        let judged = judge(&mut receiver, &bad, start());
        assert_eq!(judged, Err(refusal), "byte {offset}");
        assert_eq!(judge(&mut receiver, &good, start()), Ok(100));
    }
    // The checksum is not signed, and checked all the same.
    let mut bad = good.clone();
    bad[6] ^= 1;
    let mut receiver = signatures(HmacMode::Enforce);
    let judged = judge(&mut receiver, &bad, start());
    assert_eq!(judged, Err(Refusal::Checksum));
}

#[test]
fn an_advert_is_accepted_once_and_within_its_window() {
    let mut sender = signatures(HmacMode::Enforce);
    let first = advert(&plain(), &mut sender, start());
    // The clock stands still: the counter goes on.
    let second = advert(&plain(), &mut sender, start());
    let mut receiver = signatures(HmacMode::Enforce);
    assert_eq!(judge(&mut receiver, &first, after(5.4)), Ok(100));
    assert_eq!(
        judge(&mut receiver, &first, start()),
        Err(Refusal::SignatureReplayed)
    );
    assert_eq!(judge(&mut receiver, &second, start()), Ok(100));
    assert_eq!(
        judge(&mut receiver, &first, start()),
        Err(Refusal::SignatureReplayed)
    );
    assert_eq!(
        judge(&mut receiver, &second, after(6.0)),
        Err(Refusal::SignatureStale)
    );
    let early = start() - Duration::from_secs(6);
    assert_eq!(
        judge(&mut receiver, &second, early),
        Err(Refusal::SignatureStale)
    );
}

#[test]
fn a_clock_that_is_set_back_is_followed() {
    let mut sender = signatures(HmacMode::Enforce);
    let mut receiver = signatures(HmacMode::Enforce);
    let ahead = advert(&plain(), &mut sender, after(3600.0));
    assert_eq!(judge(&mut receiver, &ahead, after(3600.0)), Ok(100));
    let corrected = advert(&plain(), &mut sender, start());
    assert_eq!(judge(&mut receiver, &corrected, start()), Ok(100));
}

#[test]
fn monotonic_numbers_need_no_clock() {
    let monotonic = || SignatureSettings {
        time_window: None,
        ..settings(HmacMode::Enforce)
    };
    let mut sender = Signatures::new(monotonic());
    let mut receiver = Signatures::new(monotonic());
    for (sent, arrived) in [(0.0, -9e5), (-1e3, 1e6), (1e6, 0.0)] {
        let moment = |offset: f64| match offset < 0.0 {
            true => start() - Duration::from_secs_f64(-offset),
            false => after(offset),
        };
        let payload = advert(&plain(), &mut sender, moment(sent));
        assert_eq!(judge(&mut receiver, &payload, moment(arrived)), Ok(100));
        let again = judge(&mut receiver, &payload, moment(arrived));
        assert_eq!(again, Err(Refusal::SignatureReplayed));
    }
}

#[test]
fn each_step_of_a_roll_out_understands_the_one_before() {
    use HmacMode::{Enforce, Permissive, ReceiveOnly};
    for (sends, hears, understood) in [
        (ReceiveOnly, Permissive, Ok(100)),
        (Permissive, ReceiveOnly, Ok(100)),
        (Permissive, Enforce, Ok(100)),
        (Enforce, Permissive, Ok(100)),
        (ReceiveOnly, Enforce, Err(Refusal::SignatureMissing)),
    ] {
        let payload = advert(&plain(), &mut signatures(sends), start());
        let judged = judge(&mut signatures(hears), &payload, start());
        assert_eq!(judged, understood, "{sends:?} to {hears:?}");
    }
    // A wrong signature is refused in any case.
    let mut payload = advert(&plain(), &mut signatures(Permissive), start());
    *payload.last_mut().expect("bytes") ^= 1;
    let judged = judge(&mut signatures(ReceiveOnly), &payload, start());
    assert_eq!(judged, Err(Refusal::SignatureWrong));
    // Who has no `auth_hmac` does not understand one.
    let signed = advert(&plain(), &mut signatures(Enforce), start());
    let judged = plain().check(&datagram(&signed), Senders::OnLink);
    assert_eq!(judged, Err(Refusal::Length));
}

#[test]
fn keys_are_exchanged_one_director_at_a_time() {
    let mut sender = signatures(HmacMode::Enforce);
    let mut receiver = signatures(HmacMode::Enforce);
    let payload = advert(&plain(), &mut sender, start());
    assert_eq!(judge(&mut receiver, &payload, start()), Ok(100));
    sender.replace_settings(SignatureSettings {
        active_key: 7,
        ..settings(HmacMode::Enforce)
    });
    let payload = advert(&plain(), &mut sender, start());
    assert_eq!(payload[payload.len() - 27], 7);
    assert_eq!(judge(&mut receiver, &payload, start()), Ok(100));
}

#[test]
fn numbers_of_unicast_peers_are_known_and_strangers_are_none() {
    let peer = |last: u8| Peer {
        address: Ipv4Addr::new(172, 16, 1, last).into(),
        time_to_live: 0..=255,
    };
    let payload = advert(&plain(), &mut signatures(HmacMode::Enforce), start());
    let mut receiver = signatures(HmacMode::Enforce);
    let mut judge = |peers: &[Peer]| {
        let signatures = Some((&mut receiver, Some(peers)));
        let format = plain();
        let arrived = datagram(&payload);
        let checked = format.check_signed(&arrived, Senders::Anyone, signatures, start());
        checked.map(|advert| advert.priority)
    };
    assert_eq!(judge(&[peer(209)]), Err(Refusal::Sender));
    assert_eq!(judge(&[peer(209), peer(208)]), Ok(100));
    assert_eq!(
        judge(&[peer(209), peer(208)]),
        Err(Refusal::SignatureReplayed)
    );
}
