//! Data messages: `onMetaData` and whatever else a publisher says about its
//! stream (RTMP 1.0 §7.1.2). They pass through whole.

use bytes::{Bytes, BytesMut};

use super::envelope::{Message, MessageType};
use crate::wire::amf0::{self, Value};

/// The kind of a publisher's data message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataKind {
    /// The stream's metadata: to be kept for players that join later.
    Metadata,
    /// `@clearDataFrame`: the metadata kept so far is void.
    ClearMetadata,
    /// Anything else (cue points, captions, text): for the players of the
    /// moment.
    Other,
}

/// Looks at the first strings of a data message's payload.
pub fn kind(message: &Message) -> DataKind {
    let payload = amf0_payload(message);
    match leading_string(&payload) {
        Some((b"@setDataFrame", rest)) => match leading_string(rest) {
            Some((b"onMetaData", _)) => DataKind::Metadata,
            _ => DataKind::Other,
        },
        Some((b"onMetaData", _)) => DataKind::Metadata,
        Some((b"@clearDataFrame", _)) => DataKind::ClearMetadata,
        _ => DataKind::Other,
    }
}

/// The first string of a data message, which says what the data is.
pub fn name(message: &Message) -> Option<Bytes> {
    let payload = amf0_payload(message);
    leading_string(&payload).map(|(name, _)| payload.slice_ref(name))
}

/// The data message as players take it: in AMF0, and without the
/// `@setDataFrame` before it, which is an instruction to the server. The bytes
/// of the values are the publisher's, not copied.
pub fn for_players(message: &Message) -> Message {
    let payload = amf0_payload(message);
    let payload = match leading_string(&payload) {
        Some((b"@setDataFrame", rest)) => payload.slice_ref(rest),
        _ => payload,
    };
    Message {
        message_type: MessageType::DATA_AMF0,
        payload,
        ..message.clone()
    }
}

/// The values of a data message; those after an unreadable one are left out.
///
/// Values take up to some thirty times the room of their bytes: whoever has
/// not sized the message does well to look at its length first.
pub fn values(message: &Message, max_nesting: u32) -> Vec<Value> {
    amf0::read_all(&amf0_payload(message), max_nesting).0
}

/// A data message of these values.
pub fn message(timestamp: u32, stream_id: u32, values: &[Value]) -> Message {
    let mut payload = BytesMut::with_capacity(128);
    for value in values {
        amf0::write_value(value, &mut payload);
    }
    Message {
        timestamp,
        message_type: MessageType::DATA_AMF0,
        stream_id,
        payload: payload.freeze(),
    }
}

/// The payload without the byte that AMF3 messages put before their AMF0.
fn amf0_payload(message: &Message) -> Bytes {
    if message.message_type == MessageType::DATA_AMF3 && message.payload.first() == Some(&0) {
        message.payload.slice(1..)
    } else {
        message.payload.clone()
    }
}

/// The string at the front, and what follows it.
fn leading_string(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let ([2, high, low], rest) = payload.split_first_chunk()? else {
        return None;
    };
    rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))
}
