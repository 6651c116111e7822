//! The fuzz target of `tls-record`. Called by `cargo fuzz` and, with the corpus that is kept in
//! the repository, by a plain test of `tls-record`.

use tls_record::{
    Cipher, Content, DirectionState, MAX_FRAGMENT, RecordError, RecordLayer, Role, Secret, State,
    Version, content_type,
};

/// A server or a client, and its peer.
fn sides(choice: u8) -> (RecordLayer, RecordLayer) {
    let cipher = Cipher::ALL[usize::from(choice / 2) % 3];
    let version = match choice % 2 {
        0 => Version::Tls12,
        _ => Version::Tls13,
    };
    let direction = |seed: u8| DirectionState {
        secret: match (version, cipher) {
            (Version::Tls13, Cipher::Aes256Gcm) => Secret::traffic(&[seed; 48]),
            (Version::Tls13, _) => Secret::traffic(&[seed; 32]),
            (Version::Tls12, Cipher::Aes128Gcm) => Secret::key(&[seed; 16], &[seed; 12]),
            (Version::Tls12, _) => Secret::key(&[seed; 32], &[seed; 12]),
        },
        number: 0,
    };
    let layer = |role, write, read| {
        let directions = [direction(write), direction(read)];
        let state = State::new(role, version, cipher, directions, 4);
        RecordLayer::new(state).expect("secrets of their cipher")
    };
    match choice / 6 % 2 {
        0 => (layer(Role::Server, 1, 2), layer(Role::Client, 2, 1)),
        _ => (layer(Role::Client, 1, 2), layer(Role::Server, 2, 1)),
    }
}

/// What a peer that has the keys may send, of any type, and what comes from others: any cut
/// means the same, in one program and in several, and data is what was sent as data.
pub fn tls_records(data: &[u8]) {
    let [choice, piece, script @ ..] = data else {
        return;
    };
    let (side, mut peer) = sides(*choice);
    let mut bytes = Vec::new();
    let mut sent = Vec::new();
    let mut rest = script;
    while let [operation, length, after @ ..] = rest {
        let (payload, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        match operation % 8 {
            0 => bytes.extend_from_slice(payload),
            1 => peer.answer(&mut bytes),
            2 | 3 => peer.append(20 + operation / 8 % 6, payload, &mut bytes),
            _ => {
                peer.append(content_type::APPLICATION_DATA, payload, &mut bytes);
                sent.extend_from_slice(payload);
            }
        }
    }
    let side_again = RecordLayer::new(side.state()).expect("it was one before");
    let at_once = receive(side, &bytes, bytes.len().max(1));
    let in_pieces = receive(side_again, &bytes, usize::from(*piece) + 1);
    assert_eq!(at_once, in_pieces);
    // What the script has appended as data of type 23 is among it in both.
    assert!(at_once.0.len() <= bytes.len() && bytes.len() < MAX_FRAGMENT * 64);
    if !script.iter().any(|it| matches!(it % 8, 0..=3)) {
        assert_eq!(at_once, (sent, false, None));
    }
}

type Came = (Vec<u8>, bool, Option<RecordError>);

/// What a side reads that another program goes on with after each piece.
fn receive(mut side: RecordLayer, bytes: &[u8], piece: usize) -> Came {
    let mut data = Vec::new();
    let mut held = Vec::new();
    for piece in bytes.chunks(piece) {
        held.extend_from_slice(piece);
        loop {
            let length = match side.open(&mut held) {
                Ok(None) => break,
                Ok(Some(opened)) => {
                    match opened.content {
                        Content::Data(payload) => data.extend_from_slice(payload),
                        Content::CloseNotify => return (data, true, None),
                        Content::Tickets(messages) => {
                            assert!(tls_record::tickets(messages).count() > 0);
                        }
                        Content::Nothing => {}
                    }
                    opened.length
                }
                Err(error) => return (data, false, Some(error)),
            };
            held.drain(..length);
        }
        side = RecordLayer::new(side.state()).expect("it was one before");
    }
    (data, false, None)
}
