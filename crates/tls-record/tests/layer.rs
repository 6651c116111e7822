//! Records between a server and a client, cut anywhere, handed over at any time.

use proptest::prelude::*;
use tls_record::{
    Cipher, Content, DirectionState, MAX_FRAGMENT, MAX_RECORD, RecordError, RecordLayer, Secret,
    State, Version, alert, content_type,
};

/// Server and client.
fn pair(version: Version, cipher: Cipher, max_records: u64) -> (RecordLayer, RecordLayer) {
    let direction = |seed: u8| {
        let bytes: Vec<u8> = (0..48).map(|it| it ^ seed).collect();
        let secret = match (version, cipher) {
            (Version::Tls13, Cipher::Aes256Gcm) => Secret::traffic(&bytes),
            (Version::Tls13, _) => Secret::traffic(&bytes[..32]),
            (Version::Tls12, Cipher::Aes128Gcm) => Secret::key(&bytes[..16], &[seed; 12]),
            (Version::Tls12, _) => Secret::key(&bytes[..32], &[seed; 12]),
        };
        DirectionState { secret, number: 1 }
    };
    let layer = |write, read| {
        let directions = [direction(write), direction(read)];
        let state = State::new(version, cipher, directions, max_records);
        RecordLayer::new(state).unwrap()
    };
    (layer(0x11, 0x22), layer(0x22, 0x11))
}

/// The layer as another program goes on with it.
fn handed_over(layer: RecordLayer) -> RecordLayer {
    let written = rmp_serde::to_vec_named(&layer.state()).unwrap();
    drop(layer);
    RecordLayer::new(rmp_serde::from_slice(&written).unwrap()).unwrap()
}

/// The records of `data`.
fn sealed(layer: &mut RecordLayer, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if layer.has_answer(data.len()) {
        layer.answer(&mut out);
    }
    let start = out.len();
    out.resize(start + (data.len() / MAX_FRAGMENT + 1) * MAX_RECORD, 0);
    out[start + layer.prefix()..][..data.len()].copy_from_slice(data);
    let length = layer.seal(&mut out[start..], data.len());
    out.truncate(start + length);
    out
}

/// What a side has read.
#[derive(Debug, Default, PartialEq)]
struct Came {
    data: Vec<u8>,
    closed: bool,
    failure: Option<RecordError>,
}

/// Reads pieces as they come, of the lengths in `cuts`, again and again; `between` each two,
/// the layer may be handed over.
fn receive(
    mut layer: RecordLayer,
    bytes: &[u8],
    cuts: &[usize],
    hands_over: bool,
) -> (RecordLayer, Came) {
    let mut came = Came::default();
    let mut held = Vec::new();
    let mut rest = bytes;
    let mut cuts = cuts.iter().cycle();
    while !rest.is_empty() && came.failure.is_none() {
        let (piece, after) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
        rest = after;
        held.extend_from_slice(piece);
        while !came.closed {
            match layer.open(&mut held) {
                Ok(None) => break,
                Ok(Some(opened)) => {
                    match opened.content {
                        Content::Data(data) => came.data.extend_from_slice(data),
                        Content::CloseNotify => came.closed = true,
                        Content::Nothing => {}
                    }
                    let length = opened.length;
                    held.drain(..length);
                }
                Err(error) => {
                    came.failure = Some(error);
                    break;
                }
            }
        }
        if hands_over {
            layer = handed_over(layer);
        }
    }
    (layer, came)
}

fn versions() -> impl Strategy<Value = (Version, Cipher)> {
    let version = prop_oneof![Just(Version::Tls12), Just(Version::Tls13)];
    (version, prop::sample::select(&Cipher::ALL[..]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_cut_and_any_hand_over_give_the_same_data(
        (version, cipher) in versions(),
        lengths in prop::collection::vec(0..40_000_usize, 1..8),
        cuts in prop::collection::vec(1..9_000_usize, 1..6),
        max_records in 2..9_u64,
    ) {
        let (server, mut client) = pair(version, cipher, max_records);
        let mut records = Vec::new();
        let mut data = Vec::new();
        for (number, &length) in lengths.iter().enumerate() {
            let sent: Vec<u8> = (0..length).map(|it| (it * 31 + number) as u8).collect();
            records.extend(sealed(&mut client, &sent));
            data.extend(sent);
            client.append(content_type::APPLICATION_DATA, &[], &mut records);
            if number % 2 == 1 {
                client = handed_over(client);
            }
        }
        client.append_alert(alert::WARNING, alert::USER_CANCELED, &mut records);
        client.append_alert(alert::WARNING, alert::CLOSE_NOTIFY, &mut records);
        let (_, came) = receive(server, &records, &cuts, true);
        prop_assert_eq!(came, Came { data, closed: true, failure: None });
    }

    #[test]
    fn whatever_is_changed_is_never_taken_for_data(
        (version, cipher) in versions(),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let (server, mut client) = pair(version, cipher, u64::MAX);
        let mut records = sealed(&mut client, b"one");
        let first = records.len();
        records.extend(sealed(&mut client, b"another"));
        let at = at.index(records.len());
        records[at] ^= 1 << bit;
        // A length that has become longer waits for what does not come.
        let (_, came) = receive(server, &records, &[usize::MAX], false);
        let expected: &[u8] = if at < first { b"" } else { b"one" };
        prop_assert_eq!(&came.data, expected);
        let is_length = [3, 4, first + 3, first + 4].contains(&at);
        prop_assert!(came.failure.is_some() || is_length);
    }

    #[test]
    fn bytes_that_are_no_records_do_no_harm(
        (version, cipher) in versions(),
        bytes in prop::collection::vec(any::<u8>(), 0..2_000),
    ) {
        let (server, _) = pair(version, cipher, u64::MAX);
        let (_, came) = receive(server, &bytes, &[7], false);
        prop_assert!(came.data.is_empty() && !came.closed);
    }
}

const ALL: [(Version, Cipher); 6] = [
    (Version::Tls12, Cipher::Aes128Gcm),
    (Version::Tls12, Cipher::Aes256Gcm),
    (Version::Tls12, Cipher::Chacha20Poly1305),
    (Version::Tls13, Cipher::Aes128Gcm),
    (Version::Tls13, Cipher::Aes256Gcm),
    (Version::Tls13, Cipher::Chacha20Poly1305),
];

#[test]
fn a_nonce_that_travels_with_its_record_never_comes_twice() {
    let (mut server, _) = pair(Version::Tls12, Cipher::Aes256Gcm, u64::MAX);
    let mut nonces = std::collections::HashSet::new();
    for round in 0..1_000 {
        let record = sealed(&mut server, b"x");
        assert!(nonces.insert(record[5..13].to_vec()), "round {round}");
        if round % 100 == 0 {
            server = handed_over(server);
        }
    }
}

/// What the server makes of one record of the client.
fn judged(version: Version, content_type: u8, payload: &[u8]) -> Came {
    let (server, mut client) = pair(version, Cipher::Aes128Gcm, u64::MAX);
    let mut record = Vec::new();
    client.append(content_type, payload, &mut record);
    receive(server, &record, &[usize::MAX], false).1
}

/// Versions, content type, payload, and the alert that it is answered with.
type Case<'a> = (&'a [Version], u8, &'a [u8], Option<u8>);

#[test]
fn what_a_peer_must_not_send_ends_the_connection_with_its_alert() {
    use content_type::{ALERT, HANDSHAKE};
    let both = [Version::Tls12, Version::Tls13];
    let cases: &[Case<'_>] = &[
        (&both, 24, b"x", Some(alert::UNEXPECTED_MESSAGE)),
        (&both, 20, &[1], Some(alert::UNEXPECTED_MESSAGE)),
        (&both, ALERT, &[], Some(alert::DECODE_ERROR)),
        (&both, ALERT, &[1, 0, 0], Some(alert::DECODE_ERROR)),
        (&both, ALERT, &[3, 10], Some(alert::ILLEGAL_PARAMETER)),
        (&both, ALERT, &[2, 40], None),
        (&[Version::Tls13], ALERT, &[1, 40], None),
        (&both, HANDSHAKE, &[], Some(alert::UNEXPECTED_MESSAGE)),
        (
            &both,
            HANDSHAKE,
            &[20, 0, 0, 0],
            Some(alert::UNEXPECTED_MESSAGE),
        ),
        (
            &[Version::Tls12],
            HANDSHAKE,
            &[24, 0, 0, 1, 0],
            Some(alert::UNEXPECTED_MESSAGE),
        ),
        (
            &[Version::Tls13],
            HANDSHAKE,
            &[24, 0, 0, 1, 2],
            Some(alert::ILLEGAL_PARAMETER),
        ),
        (
            &[Version::Tls13],
            HANDSHAKE,
            &[24, 0, 0, 1],
            Some(alert::UNEXPECTED_MESSAGE),
        ),
        (
            &[Version::Tls13],
            HANDSHAKE,
            &[1, 0, 0, 0],
            Some(alert::UNEXPECTED_MESSAGE),
        ),
    ];
    for &(versions, content_type, payload, expected) in cases {
        for &version in versions {
            let failure = judged(version, content_type, payload).failure;
            let failure = failure.unwrap_or_else(|| panic!("{content_type} {payload:?}"));
            assert_eq!(failure.alert(), expected, "{content_type} {payload:?}");
        }
    }
    // They change nothing.
    for (version, content_type, payload) in [
        (Version::Tls13, ALERT, &[1, alert::USER_CANCELED][..]),
        (Version::Tls12, ALERT, &[1, 40]),
        (Version::Tls12, HANDSHAKE, &[1, 0, 0, 9]),
        (Version::Tls13, HANDSHAKE, &[24, 0, 0, 1, 0]),
    ] {
        assert_eq!(judged(version, content_type, payload), Came::default());
    }
    let closed = judged(Version::Tls13, ALERT, &[2, 0]);
    assert!(closed.closed && closed.failure.is_none());
}

#[test]
fn a_record_may_not_be_longer_than_the_standard_says() {
    for (version, cipher) in ALL {
        let (mut server, _) = pair(version, cipher, u64::MAX);
        let header = |length: usize| [23, 3, 3, (length >> 8) as u8, length as u8];
        let [mut longest, mut longer] = [MAX_RECORD - 5, MAX_RECORD - 4].map(header);
        assert_eq!(server.open(&mut longest), Ok(None));
        assert_eq!(server.open(&mut longer), Err(RecordError::TooLong));
    }
}

#[test]
fn a_peer_cannot_keep_a_thread_with_records_that_hold_nothing() {
    for (version, cipher) in ALL {
        let (server, mut client) = pair(version, cipher, u64::MAX);
        let mut records = Vec::new();
        for _ in 0..3 {
            for _ in 0..32 {
                client.append(content_type::APPLICATION_DATA, &[], &mut records);
            }
            records.extend(sealed(&mut client, b"x"));
        }
        let (server, came) = receive(server, &records, &[100], true);
        assert_eq!((came.data, came.failure), (b"xxx".to_vec(), None));
        let mut records = Vec::new();
        for _ in 0..33 {
            client.append(content_type::APPLICATION_DATA, &[], &mut records);
        }
        let (_, came) = receive(server, &records, &[100], true);
        assert!(matches!(came.failure, Some(RecordError::Unexpected(_))));
    }
}

#[test]
fn a_wish_for_another_key_is_answered_once_and_by_tls_1_2_declined() {
    for (version, cipher) in ALL {
        let (server, mut client) = pair(version, cipher, u64::MAX);
        let mut wish = Vec::new();
        let message = match version {
            Version::Tls12 => &[1, 0, 0, 1, 1],
            Version::Tls13 => &[24, 0, 0, 1, 1],
        };
        client.append(content_type::HANDSHAKE, message, &mut wish);
        let (server, _) = receive(server, &wish, &[3], true);
        let mut server = handed_over(server);
        assert!(server.has_answer(0));
        let mut answer = Vec::new();
        server.answer(&mut answer);
        assert!(!server.has_answer(0));
        answer.extend(sealed(&mut server, b"data"));
        let (_, came) = receive(client, &answer, &[3], false);
        assert_eq!((came.data, came.failure), (b"data".to_vec(), None));
    }
}

#[test]
fn a_handshake_of_tls_1_2_that_begins_a_second_time_ends_the_connection() {
    let (server, mut client) = pair(Version::Tls12, Cipher::Aes128Gcm, u64::MAX);
    let mut wish = Vec::new();
    client.append(content_type::HANDSHAKE, &[1, 0, 0, 1, 1], &mut wish);
    let (server, came) = receive(server, &wish, &[3], true);
    assert_eq!(came.failure, None);
    let mut server = handed_over(server);
    server.answer(&mut Vec::new());
    let mut again = Vec::new();
    client.append(content_type::HANDSHAKE, &[1, 0, 0, 1, 1], &mut again);
    let (_, came) = receive(handed_over(server), &again, &[3], true);
    assert!(matches!(came.failure, Some(RecordError::Unexpected(_))));
}
