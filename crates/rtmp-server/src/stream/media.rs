//! A message of a stream on its way into the log.

use bytes::Bytes;
use http_flv::tag::TagKind;
use rtmp_proto::wire::media::MediaHead;
use rtmp_proto::wire::{Message, MessageType};
use serde::{Deserialize, Serialize};

/// A publisher's message, with what its first bytes say: they are read once,
/// when it arrives.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MediaMessage {
    message: Message,
    head: Option<MediaHead>,
}

impl MediaMessage {
    /// What a tag of an FLV file (FLV E.4.1) carries, at a time in ms.
    pub(crate) fn of_tag(kind: TagKind, timestamp: u32, payload: Bytes) -> Self {
        Self::from(Message {
            timestamp,
            message_type: match kind {
                TagKind::Audio => MessageType::AUDIO,
                TagKind::Video => MessageType::VIDEO,
                TagKind::Script => MessageType::DATA_AMF0,
            },
            stream_id: 0,
            payload,
        })
    }

    /// The message as it came.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The meaning of its first bytes; `None` if it is nothing for players: no
    /// media, or empty.
    #[must_use]
    pub fn head(&self) -> Option<MediaHead> {
        self.head
    }

    /// The same message with a payload of its own: it may be a small part of a large
    /// aggregate message, all of which would be kept with it.
    pub(crate) fn unshared(&self) -> Self {
        let mut unshared = self.clone();
        unshared.message.payload = Bytes::copy_from_slice(&self.message.payload);
        unshared
    }

    /// The same message with another timestamp.
    pub(crate) fn at(&self, timestamp: u32) -> Self {
        let mut moved = self.clone();
        moved.message.timestamp = timestamp;
        moved
    }

    /// True if it is a picture.
    #[must_use]
    pub fn is_picture(&self) -> bool {
        self.head.is_some_and(|head| head.is_picture())
    }
}

impl From<Message> for MediaMessage {
    fn from(message: Message) -> Self {
        // An empty message says nothing, and would cost its chunk's header.
        let head = MediaHead::parse(&message).filter(|_| !message.payload.is_empty());
        Self { message, head }
    }
}
