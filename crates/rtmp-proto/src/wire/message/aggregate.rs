//! Aggregate messages: several audio, video and data messages in one (RTMP
//! 1.0 §7.1.6).

use serde::{Deserialize, Serialize};

use super::envelope::{Message, MessageType};

/// The messages within an aggregate, in their order.
///
/// Each part carries a timestamp; they are shifted so that the first one's is
/// the aggregate's own, as the specification asks. A part that is cut short,
/// or whose type is not audio, video or data, ends the iteration or is passed
/// over.
pub fn split(aggregate: Message) -> Parts {
    Parts {
        aggregate,
        at: 0,
        shift: None,
    }
}

/// The iterator of [`split`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Parts {
    aggregate: Message,
    at: usize,
    shift: Option<u32>,
}

impl Iterator for Parts {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        loop {
            // An FLV tag: type, 3 bytes of size, 3 + 1 of timestamp, 3 of
            // stream id, payload, 4 bytes of the tag's size.
            let payload = &self.aggregate.payload;
            let header = payload.get(self.at..self.at + 11)?;
            let size = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
            let timestamp = u32::from_be_bytes([header[7], header[4], header[5], header[6]]);
            let start = self.at + 11;
            let end = start + size;
            if end > payload.len() {
                return None;
            }
            self.at = end + 4;
            let message_type = MessageType(header[0]);
            let shift = *self
                .shift
                .get_or_insert_with(|| self.aggregate.timestamp.wrapping_sub(timestamp));
            if message_type.is_media() {
                return Some(Message {
                    timestamp: timestamp.wrapping_add(shift),
                    message_type,
                    stream_id: self.aggregate.stream_id,
                    payload: payload.slice(start..end),
                });
            }
        }
    }
}
