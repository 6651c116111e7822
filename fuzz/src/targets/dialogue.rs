//! Commands that make sense, in any order.

use rtmp_proto::wire::amf0::Value;
use rtmp_proto::wire::chunk::{csid, encode_message};
use rtmp_proto::wire::message::{Command, Control, UserControl};
use rtmp_proto::wire::{Message, MessageType};

use super::checked_session::CheckedSession;

const NAMES: &[&str] = &[
    "connect",
    "createStream",
    "publish",
    "play",
    "deleteStream",
    "closeStream",
    "FCPublish",
    "releaseStream",
    "FCUnpublish",
    "FCSubscribe",
    "FCUnsubscribe",
    "getStreamLength",
    "pause",
    "receiveAudio",
    "receiveVideo",
    "_checkbw",
    "_result",
    "nonsense",
];

/// Three bytes are one step: what, on which stream, with what argument.
pub(super) fn run(data: &[u8]) {
    let mut session = CheckedSession::established();
    let mut sent = 0;
    for step in data.chunks_exact(3).take(1000) {
        let &[what, stream, argument] = step else {
            unreachable!("three bytes")
        };
        // Few streams, so that they meet; now and then one that cannot be.
        let stream_id = match stream & 0x1f {
            id @ 0..=18 => u32::from(id) % 4,
            id @ 19..=30 => u32::from(id) - 14,
            _ => u32::MAX,
        };
        if what >= 0xc0 {
            session.interfere(what, stream_id);
            continue;
        }
        let message = message(what, stream_id, argument);
        let mut bytes = Vec::new();
        let csid = csid::for_message(message.message_type, message.stream_id);
        encode_message(&message, 128, csid, &mut bytes);
        sent += bytes.len();
        let mut input = &bytes[..];
        loop {
            match session.read(&mut input) {
                Ok(Some(event)) => session.answer(&event, argument),
                Ok(None) => break,
                Err(_) => {
                    session.said(sent);
                    return;
                }
            }
        }
        if session.refused {
            break;
        }
    }
    session.said(sent + data.len());
}

fn message(what: u8, stream_id: u32, argument: u8) -> Message {
    let media = |message_type| Message {
        timestamp: u32::from(argument),
        message_type,
        stream_id,
        payload: vec![0x17, argument].into(),
    };
    match what {
        0xb0.. => media(MessageType(what & 0x0f | (argument & 0x10))),
        0xa0..=0xaf => media(MessageType::VIDEO),
        0x98..=0x9f => Control::UserControl(UserControl::PingRequest(stream_id)).to_message(),
        0x90..=0x97 => Control::WindowAckSize(u32::from(argument)).to_message(),
        _ => command(what, stream_id, argument).to_message(stream_id),
    }
}

fn command(what: u8, stream_id: u32, argument: u8) -> Command {
    let name = NAMES[usize::from(what) % NAMES.len()];
    let object = Value::Object(vec![("app".to_owned(), "live".into())]);
    let arguments = match (name, argument % 5) {
        (_, 0) => vec![],
        ("deleteStream", _) => vec![f64::from(stream_id).into()],
        (_, 1) => vec![Value::Boolean(argument & 8 == 0)],
        (_, 2) => vec!["".into()],
        _ => vec![
            "camera".into(),
            f64::from(argument).into(),
            f64::from(argument).into(),
        ],
    };
    let transaction_id = f64::from(argument & 7);
    Command {
        name: name.to_owned(),
        transaction_id,
        object,
        arguments,
    }
}
