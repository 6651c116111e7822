//! The fuzz targets: what they do with their bytes, and what must hold whatever
//! these are. Called by `cargo fuzz` and, with the corpus that is kept in the
//! repository, by a plain test of `rtmp-proto`.

mod checked_session;
mod dialogue;

use rtmp_proto::session::{
    AppName, ClientConfig, ClientEvent, ClientSession, Purpose, SessionError,
};
use rtmp_proto::wire::amf0::{read_all, read_value, write_value};
use rtmp_proto::wire::chunk::{ChunkError, ChunkReader, encode_message, encoded_len};
use rtmp_proto::wire::handshake::Handshake;
use rtmp_proto::wire::media::MediaHead;
use rtmp_proto::wire::message::{Command, Control, aggregate, data};
use rtmp_proto::wire::{Limits, Message, MessageType};

use checked_session::CheckedSession;

/// Both sides of the handshake, fed in pieces.
pub fn handshake(data: &[u8]) {
    const LEN: usize = 1 + 1536 + 1536;
    let Some((&piece, data)) = data.split_first() else {
        return;
    };
    let piece = usize::from(piece) * 16 + 1;
    let mut out = Vec::new();
    for mut side in [Handshake::server(), Handshake::client(&mut out).unwrap()] {
        out.clear();
        let mut taken = 0;
        for bytes in data.chunks(piece) {
            let mut input = bytes;
            let done = side.read(&mut input, &mut out);
            taken += bytes.len() - input.len();
            match done {
                Ok(true) => {
                    assert_eq!(taken, LEN, "complete with {taken} bytes");
                    break;
                }
                Ok(false) => assert!(input.is_empty(), "left something and is not complete"),
                Err(_) => break,
            }
        }
        assert!(
            taken <= LEN && out.len() <= LEN,
            "{taken} in, {} out",
            out.len()
        );
    }
}

/// The chunk reader: any cut means the same, memory is earned, and what was
/// read can be written and read again.
pub fn chunk_reader(data: &[u8]) {
    let Some((&piece, data)) = data.split_first() else {
        return;
    };
    let at_once = read_pieces(data, data.len().max(1));
    let in_pieces = read_pieces(data, usize::from(piece) + 1);
    assert_eq!(
        at_once,
        in_pieces,
        "cut into pieces of {}",
        usize::from(piece) + 1
    );

    let mut again = ChunkReader::new(&Limits::default());
    for message in at_once.0 {
        if message.message_type == MessageType::SET_CHUNK_SIZE {
            continue;
        }
        let mut bytes = Vec::new();
        encode_message(&message, 128, 3, &mut bytes);
        assert_eq!(bytes.len(), encoded_len(&message, 128, 3));
        assert_eq!(again.read(&mut &bytes[..]), Ok(Some(message)));
    }
}

fn read_pieces(data: &[u8], piece: usize) -> (Vec<Message>, Option<ChunkError>) {
    let mut reader = ChunkReader::new(&Limits::default());
    let mut messages = Vec::new();
    for bytes in data.chunks(piece) {
        let mut input = bytes;
        loop {
            match reader.read(&mut input) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
        assert!(input.is_empty(), "did not take everything");
        let earned = 2 * reader.bytes_received() as usize + (64 << 10);
        assert!(
            reader.buffered_capacity() <= earned,
            "{} bytes",
            reader.buffered_capacity()
        );
    }
    (messages, None)
}

/// AMF0: what can be read can be written and read again.
pub fn amf0(data: &[u8]) {
    let (values, _) = read_all(data, 32);
    for value in values {
        let mut written = Vec::new();
        write_value(&value, &mut written);
        let mut input = &written[..];
        let again = read_value(&mut input, 32).expect("what was written can be read");
        assert!(input.is_empty(), "and is all there is");
        // NaN equals nothing: compare what is shown.
        assert_eq!(format!("{again:?}"), format!("{value:?}"));
    }
}

/// The contents of messages of each type.
pub fn messages(data: &[u8]) {
    let Some((&type_id, payload)) = data.split_first() else {
        return;
    };
    let message = Message {
        timestamp: 0,
        message_type: MessageType(type_id),
        stream_id: 1,
        payload: payload.to_vec().into(),
    };
    let _ = MediaHead::parse(&message);
    let for_players = data::for_players(&message);
    assert!(for_players.payload.len() <= message.payload.len());
    data::values(&message, 32);
    if let Some(control) = Control::parse(&message) {
        let written = control.to_message();
        assert_eq!(Control::parse(&written), Some(control));
    }
    if let Ok(command) = Command::parse(&message, 32) {
        let written = command.to_message(1);
        let again = Command::parse(&written, 32).expect("what was written can be read");
        assert_eq!(format!("{again:?}"), format!("{command:?}"));
    }
    let parts: usize = aggregate::split(message)
        .map(|part| part.payload.len())
        .sum();
    assert!(parts <= payload.len());
}

/// Names of applications and streams.
pub fn names(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (app, tc_url) = text.split_once('\n').unwrap_or((&text, ""));
    let limits = Limits::default();
    let Ok(name) = AppName::parse(app, tc_url, &limits) else {
        return;
    };
    assert_clean(&name.app);
    assert!(name.vhost.len() <= 512 && !name.vhost.contains(char::is_whitespace));
    assert!(!name.vhost.contains('/'), "{name:?}");
    let again = AppName::parse(&name.app, "", &limits).expect("a name is a name");
    assert!(again.parameters.is_empty());
    assert!(again.vhost.is_empty(), "{name:?}");
    let application = name.without_idle_parameters();
    for stream in ["", tc_url, &text] {
        let Ok(name) = application.stream(stream, &limits) else {
            continue;
        };
        assert_clean(&name.key.app);
        assert_clean(&name.key.stream);
        assert!(!name.key.stream.contains('/'), "{name:?}");
        // What an edge asks its origin for is the same stream there.
        let asked = AppName::parse(&name.key.app, "", &limits).expect("a name is a name");
        let upstream = format!("{}{}", name.key.stream, name.parameters.without_vhost());
        let again = asked.stream(&upstream, &limits).expect("a name is a name");
        let same = (&again.key.app, &again.key.stream);
        assert_eq!(same, (&name.key.app, &name.key.stream), "{name:?}");
        assert!(again.key.vhost.is_empty(), "{name:?}");
    }
}

fn assert_clean(name: &str) {
    assert!(!name.is_empty() && name.len() <= 512, "{name:?}");
    assert!(
        !name.contains(|c: char| c.is_control() || c.is_whitespace() || c == '?'),
        "{name:?}"
    );
}

/// A whole server session: any bytes after the handshake.
pub fn server_session(data: &[u8]) {
    let [policy, piece, bytes @ ..] = data else {
        return;
    };
    let at_once = serve(*policy, bytes, bytes.len().max(1));
    let in_pieces = serve(*policy, bytes, usize::from(*piece) + 1);
    assert_eq!(
        at_once,
        in_pieces,
        "cut into pieces of {}",
        usize::from(*piece) + 1
    );
}

/// The trace of a session: its events in words, what it sent (without
/// acknowledgements, which depend on when bytes come), how it ended.
type Trace = (Vec<String>, Vec<Message>, Option<SessionError>);

fn serve(policy: u8, data: &[u8], piece: usize) -> Trace {
    let mut session = CheckedSession::established();
    let mut told = Vec::new();
    let mut error = None;
    'input: for bytes in data.chunks(piece) {
        let mut input = bytes;
        loop {
            match session.read(&mut input) {
                Ok(Some(event)) => {
                    told.push(format!("{event:?}"));
                    session.answer(&event, policy);
                }
                Ok(None) => break,
                Err(end) => {
                    error = Some(end);
                    break 'input;
                }
            }
        }
        if session.refused {
            break;
        }
        assert!(input.is_empty(), "did not take everything");
    }
    let said = session.said(data.len());
    (told, said, error)
}

/// A server session again, with commands that make sense in an order that does
/// not, and with answers that come late.
pub fn server_dialogue(data: &[u8]) {
    dialogue::run(data);
}

/// A whole client session: any bytes after the handshake.
pub fn client_session(data: &[u8]) {
    let [purpose, piece, bytes @ ..] = data else {
        return;
    };
    let purpose = if purpose & 1 == 0 {
        Purpose::Play
    } else {
        Purpose::Publish
    };
    let at_once = pull(purpose, bytes, bytes.len().max(1));
    let in_pieces = pull(purpose, bytes, usize::from(*piece) + 1);
    assert_eq!(
        at_once,
        in_pieces,
        "cut into pieces of {}",
        usize::from(*piece) + 1
    );
}

fn pull(purpose: Purpose, data: &[u8], piece: usize) -> (Vec<String>, Option<SessionError>) {
    let config = ClientConfig::new(purpose, "rtmp://h/live", "live", "camera");
    let mut out = Vec::new();
    let mut session = ClientSession::new(config, &Limits::default(), &mut out).unwrap();
    let answer = [vec![3], vec![0; 1536 + 1536]].concat();
    session.read(&mut &answer[..], &mut out).unwrap();
    let mut told = Vec::new();
    let mut over = false;
    for bytes in data.chunks(piece) {
        let mut input = bytes;
        loop {
            match session.read(&mut input, &mut out) {
                Ok(Some(event)) => {
                    assert!(!over, "{event:?} after the end");
                    over = matches!(event, ClientEvent::Rejected(_));
                    told.push(format!("{event:?}"));
                }
                Ok(None) => break,
                Err(error) => return (told, Some(error)),
            }
        }
        assert!(input.is_empty(), "did not take everything");
    }
    (told, None)
}
