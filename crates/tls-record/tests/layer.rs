//! Records between a server and a client, cut anywhere, handed over at any time.

use proptest::prelude::*;
use tls_record::{
    Cipher, Content, DirectionState, MAX_FRAGMENT, MAX_RECORD, RecordError, RecordLayer, Role,
    Secret, State, Version, alert, content_type,
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
    let layer = |role, write, read| {
        let directions = [direction(write), direction(read)];
        let state = State::new(role, version, cipher, directions, max_records);
        RecordLayer::new(state).unwrap()
    };
    let server = layer(Role::Server, 0x11, 0x22);
    (server, layer(Role::Client, 0x22, 0x11))
}

/// The side of `role`, then its peer.
fn sides(role: Role, version: Version, cipher: Cipher, max_records: u64) -> [RecordLayer; 2] {
    let (server, client) = pair(version, cipher, max_records);
    match role {
        Role::Server => [server, client],
        Role::Client => [client, server],
    }
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
    tickets: usize,
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
                        Content::Tickets(messages) => {
                            came.tickets += tls_record::tickets(messages).count();
                        }
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

fn roles() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Server), Just(Role::Client)]
}

fn versions() -> impl Strategy<Value = (Version, Cipher)> {
    let version = prop_oneof![Just(Version::Tls12), Just(Version::Tls13)];
    (version, prop::sample::select(&Cipher::ALL[..]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_cut_and_any_hand_over_give_the_same_data(
        role in roles(),
        (version, cipher) in versions(),
        lengths in prop::collection::vec(0..40_000_usize, 1..8),
        cuts in prop::collection::vec(1..9_000_usize, 1..6),
        max_records in 2..9_u64,
    ) {
        let [side, mut peer] = sides(role, version, cipher, max_records);
        let mut records = Vec::new();
        let mut data = Vec::new();
        for (number, &length) in lengths.iter().enumerate() {
            let sent: Vec<u8> = (0..length).map(|it| (it * 31 + number) as u8).collect();
            records.extend(sealed(&mut peer, &sent));
            data.extend(sent);
            peer.append(content_type::APPLICATION_DATA, &[], &mut records);
            if number % 2 == 1 {
                peer = handed_over(peer);
            }
        }
        peer.append_alert(alert::WARNING, alert::USER_CANCELED, &mut records);
        peer.append_alert(alert::WARNING, alert::CLOSE_NOTIFY, &mut records);
        let (_, came) = receive(side, &records, &cuts, true);
        prop_assert_eq!(came, Came { data, closed: true, ..Came::default() });
    }

    #[test]
    fn whatever_is_changed_is_never_taken_for_data(
        role in roles(),
        (version, cipher) in versions(),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let [side, mut peer] = sides(role, version, cipher, u64::MAX);
        let mut records = sealed(&mut peer, b"one");
        let first = records.len();
        records.extend(sealed(&mut peer, b"another"));
        let at = at.index(records.len());
        records[at] ^= 1 << bit;
        // A length that has become longer waits for what does not come.
        let (_, came) = receive(side, &records, &[usize::MAX], false);
        let expected: &[u8] = if at < first { b"" } else { b"one" };
        prop_assert_eq!(&came.data, expected);
        let is_length = [3, 4, first + 3, first + 4].contains(&at);
        prop_assert!(came.failure.is_some() || is_length);
    }

    #[test]
    fn bytes_that_are_no_records_do_no_harm(
        role in roles(),
        (version, cipher) in versions(),
        bytes in prop::collection::vec(any::<u8>(), 0..2_000),
    ) {
        let [side, _] = sides(role, version, cipher, u64::MAX);
        let (_, came) = receive(side, &bytes, &[7], false);
        prop_assert!(came.data.is_empty() && !came.closed);
    }
}

const BOTH: [Role; 2] = [Role::Server, Role::Client];

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

/// What the side of `role` makes of one record of its peer.
fn judged(role: Role, version: Version, content_type: u8, payload: &[u8]) -> Came {
    let [side, mut peer] = sides(role, version, Cipher::Aes128Gcm, u64::MAX);
    let mut record = Vec::new();
    peer.append(content_type, payload, &mut record);
    receive(side, &record, &[usize::MAX], false).1
}

/// Our side, version, content type, payload, and the alert that it is answered with.
type Case<'a> = (&'a [Role], &'a [Version], u8, &'a [u8], Option<u8>);

#[test]
fn what_a_peer_must_not_send_ends_the_connection_with_its_alert() {
    use Role::{Client, Server};
    use Version::{Tls12, Tls13};
    use content_type::{ALERT, HANDSHAKE};
    let any = [Server, Client];
    let both = [Tls12, Tls13];
    let unexpected = Some(alert::UNEXPECTED_MESSAGE);
    let cases: &[Case<'_>] = &[
        (&any, &both, 24, b"x", unexpected),
        (&any, &both, 20, &[1], unexpected),
        (&any, &both, ALERT, &[], Some(alert::DECODE_ERROR)),
        (&any, &both, ALERT, &[1, 0, 0], Some(alert::DECODE_ERROR)),
        (&any, &both, ALERT, &[3, 10], Some(alert::ILLEGAL_PARAMETER)),
        (&any, &both, ALERT, &[2, 40], None),
        (&any, &[Tls13], ALERT, &[1, 40], None),
        (&any, &both, HANDSHAKE, &[], unexpected),
        (&any, &both, HANDSHAKE, &[20, 0, 0, 0], unexpected),
        (&any, &[Tls12], HANDSHAKE, &[24, 0, 0, 1, 0], unexpected),
        (
            &any,
            &[Tls13],
            HANDSHAKE,
            &[24, 0, 0, 1, 2],
            Some(alert::ILLEGAL_PARAMETER),
        ),
        (&any, &[Tls13], HANDSHAKE, &[1, 0, 0, 0], unexpected),
        (&[Server], &[Tls13], HANDSHAKE, &[24, 0, 0, 1], unexpected),
        // Clients give no tickets, and servers say no hello.
        (&[Server], &both, HANDSHAKE, &[4, 0, 0, 0], unexpected),
        (&[Server], &[Tls12], HANDSHAKE, &[0, 0, 0, 0], unexpected),
        (&[Client], &[Tls12], HANDSHAKE, &[1, 0, 0, 9], unexpected),
        (&[Client], &[Tls13], HANDSHAKE, &[0, 0, 0, 0], unexpected),
        // In TLS 1.2 they come within the handshake.
        (&[Client], &[Tls12], HANDSHAKE, &[4, 0, 0, 0], unexpected),
    ];
    for &(roles, versions, content_type, payload, expected) in cases {
        for &role in roles {
            for &version in versions {
                let case = format!("{role:?} {version:?} {content_type} {payload:?}");
                let failure = judged(role, version, content_type, payload).failure;
                assert_eq!(failure.expect(&case).alert(), expected, "{case}");
            }
        }
    }
    // They change nothing.
    for (role, version, content_type, payload) in [
        (Server, Tls13, ALERT, &[1, alert::USER_CANCELED][..]),
        (Client, Tls12, ALERT, &[1, 40]),
        (Server, Tls12, HANDSHAKE, &[1, 0, 0, 9]),
        (Client, Tls12, HANDSHAKE, &[0, 0, 0, 0]),
        (Server, Tls13, HANDSHAKE, &[24, 0, 0, 1, 0]),
        (Client, Tls13, HANDSHAKE, &[24, 0, 0, 1, 0]),
        // Part of a ticket.
        (Client, Tls13, HANDSHAKE, &[4, 0, 0, 9, 0]),
    ] {
        let came = judged(role, version, content_type, payload);
        assert_eq!(came, Came::default(), "{role:?} {payload:?}");
    }
    let closed = judged(Client, Tls13, ALERT, &[2, 0]);
    assert!(closed.closed && closed.failure.is_none());
}

#[test]
fn tickets_and_data_come_in_their_order_and_nothing_within_a_message() {
    use content_type::{APPLICATION_DATA, HANDSHAKE};
    let read = |records: &[(u8, &[u8])]| {
        let [client, mut server] = sides(Role::Client, Version::Tls13, Cipher::Aes128Gcm, u64::MAX);
        let mut bytes = Vec::new();
        for (content_type, payload) in records {
            server.append(*content_type, payload, &mut bytes);
        }
        receive(client, &bytes, &[3], true).1
    };
    let two = [4, 0, 0, 1, 7, 4, 0, 0, 2, 8, 9];
    let came = read(&[
        (HANDSHAKE, &two),
        (APPLICATION_DATA, b"a"),
        (HANDSHAKE, &two[..7]),
        (HANDSHAKE, &two[7..]),
        (APPLICATION_DATA, b"b"),
    ]);
    let expected = Came {
        data: b"ab".to_vec(),
        // The one that is cut is left out, with what stands before it.
        tickets: 3,
        ..Came::default()
    };
    assert_eq!(came, expected);
    let came = read(&[(HANDSHAKE, &two[..7]), (APPLICATION_DATA, b"a")]);
    assert!(matches!(came.failure, Some(RecordError::Unexpected(_))));
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
    for (role, (version, cipher)) in BOTH.into_iter().flat_map(|it| ALL.map(|all| (it, all))) {
        let [side, mut peer] = sides(role, version, cipher, u64::MAX);
        let mut wish = Vec::new();
        let message: &[u8] = match (version, role) {
            (Version::Tls12, Role::Server) => &[1, 0, 0, 1, 1],
            (Version::Tls12, Role::Client) => &[0, 0, 0, 0],
            (Version::Tls13, _) => &[24, 0, 0, 1, 1],
        };
        peer.append(content_type::HANDSHAKE, message, &mut wish);
        let (side, _) = receive(side, &wish, &[3], true);
        let mut side = handed_over(side);
        assert!(side.has_answer(0));
        let mut answer = Vec::new();
        side.answer(&mut answer);
        assert!(!side.has_answer(0));
        answer.extend(sealed(&mut side, b"data"));
        let (_, came) = receive(peer, &answer, &[3], false);
        assert_eq!((came.data, came.failure), (b"data".to_vec(), None));
    }
}

#[test]
fn a_handshake_of_tls_1_2_that_begins_a_second_time_ends_the_connection() {
    for (role, message) in [
        (Role::Server, &[1, 0, 0, 1, 1][..]),
        (Role::Client, &[0, 0, 0, 0]),
    ] {
        let [side, mut peer] = sides(role, Version::Tls12, Cipher::Aes128Gcm, u64::MAX);
        let mut wish = Vec::new();
        peer.append(content_type::HANDSHAKE, message, &mut wish);
        let (side, came) = receive(side, &wish, &[3], true);
        assert_eq!(came.failure, None);
        let mut side = handed_over(side);
        side.answer(&mut Vec::new());
        let mut again = Vec::new();
        peer.append(content_type::HANDSHAKE, message, &mut again);
        let (_, came) = receive(handed_over(side), &again, &[3], true);
        assert!(matches!(came.failure, Some(RecordError::Unexpected(_))));
    }
}

/// A [`State`] as programs wrote it that had a server's side alone.
#[derive(serde::Serialize)]
struct Former {
    version: Version,
    cipher: Cipher,
    write: DirectionState,
    read: DirectionState,
    max_records: u64,
    answer_due: bool,
    without_data: u8,
}

#[test]
fn a_connection_of_a_program_that_had_no_clients_is_a_servers() {
    let (server, mut client) = pair(Version::Tls13, Cipher::Aes128Gcm, 9);
    let State {
        version,
        cipher,
        write,
        read,
        max_records,
        ..
    } = server.state();
    let former = Former {
        version,
        cipher,
        write,
        read,
        max_records,
        answer_due: false,
        without_data: 0,
    };
    let written = rmp_serde::to_vec_named(&former).unwrap();
    let state: State = rmp_serde::from_slice(&written).unwrap();
    assert_eq!(state.role, Role::Server);
    let records = sealed(&mut client, b"data");
    let (_, came) = receive(RecordLayer::new(state).unwrap(), &records, &[9], true);
    assert_eq!(came.data, b"data");
}
