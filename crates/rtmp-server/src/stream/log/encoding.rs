//! Messages as they stand in a stream's log.

use http_flv::tag::{self, TagKind};
use http_flv::websocket;
use rtmp_proto::wire::chunk::{csid, encode_message};
use rtmp_proto::wire::media::MediaClass;
use rtmp_proto::wire::message::data;
use rtmp_proto::wire::{Message, MessageType};
use serde::{Deserialize, Serialize};

/// The message stream that every publisher's messages are encoded for: the one
/// that nearly every player plays on.
pub(in crate::stream) const MESSAGE_STREAM: u32 = 1;

/// `message` as players get it.
pub(in crate::stream) fn for_players(message: &Message, class: MediaClass) -> Message {
    if class == MediaClass::Metadata {
        data::for_players(message)
    } else {
        message.clone()
    }
}

/// `message` as of the stream's time `timestamp`, for the log.
pub(in crate::stream) fn for_log(
    mut message: Message,
    class: MediaClass,
    timestamp: u64,
) -> Message {
    message.timestamp = wire_timestamp(class, timestamp);
    message.stream_id = MESSAGE_STREAM;
    message
}

/// The form in which a log has its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::stream) enum Framing {
    /// RTMP chunks of this length, in bytes.
    Chunks(u32),
    /// FLV tags. Messages that FLV has no tag for are left out.
    Flv(FlvFraming),
}

/// What stands around each tag of a log of FLV tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FlvFraming {
    /// Nothing, for HTTP-FLV.
    Bare,
    /// A frame of a WebSocket (RFC 6455 §5.2).
    WebSocket,
}

impl FlvFraming {
    /// Number of framings.
    pub(in crate::stream) const COUNT: usize = 2;
}

impl Framing {
    /// Appends `message`, of the message stream that it names.
    pub(in crate::stream) fn encode(self, message: &Message, encoded: &mut Vec<u8>) {
        match (self, message.message_type) {
            (Self::Chunks(size), message_type) => {
                let chunk_stream = csid::for_message(message_type, message.stream_id);
                encode_message(message, size, chunk_stream, encoded);
            }
            (Self::Flv(framing), message_type) => {
                let kind = match message_type {
                    MessageType::AUDIO => TagKind::Audio,
                    MessageType::VIDEO => TagKind::Video,
                    MessageType::DATA_AMF0 => TagKind::Script,
                    _ => return,
                };
                if framing == FlvFraming::WebSocket {
                    let length = tag::tag_bytes(message.payload.len());
                    websocket::write_binary_header(length as u64, encoded);
                }
                tag::write_tag(kind, message.timestamp, &message.payload, encoded);
            }
        }
    }
}

/// The timestamp on the wire of a message of the stream's time `timestamp`.
///
/// Metadata always with 0, as SRS does: ffmpeg takes metadata of any other
/// time for a subtitle, and shows a stream that is not there.
pub(in crate::stream) fn wire_timestamp(class: MediaClass, timestamp: u64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "RTMP's timestamps wrap at 2³²"
    )]
    let wrapped = timestamp as u32;
    if class == MediaClass::Metadata {
        0
    } else {
        wrapped
    }
}
