//! The envelope of a message: type, time, message stream.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One RTMP message, whole, as the chunk layer delivers and takes it.
///
/// Cloning is cheap: the payload is shared.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Milliseconds from an epoch of the sender's choice; wraps at 2³².
    pub timestamp: u32,
    /// The type of the payload.
    pub message_type: MessageType,
    /// The message stream: 0 for the connection itself, else what the server
    /// answered to `createStream`.
    pub stream_id: u32,
    /// The payload, without any chunk header.
    #[serde(with = "crate::wire::bytes_format")]
    pub payload: Bytes,
}

/// Shows the payload's length and first bytes, not all of it.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.payload.len();
        let shown = self.payload.slice(..len.min(32));
        f.debug_struct("Message")
            .field("timestamp", &self.timestamp)
            .field("message_type", &self.message_type)
            .field("stream_id", &self.stream_id)
            .field("payload", &format_args!("{len} bytes {shown:?}"))
            .finish()
    }
}

/// A message type id (RTMP 1.0 §5.4, §7.1), known to us or not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MessageType(pub u8);

impl MessageType {
    /// Set Chunk Size (§5.4.1).
    pub const SET_CHUNK_SIZE: Self = Self(1);
    /// Abort Message (§5.4.2).
    pub const ABORT: Self = Self(2);
    /// Acknowledgement (§5.4.3).
    pub const ACKNOWLEDGEMENT: Self = Self(3);
    /// User Control (§7.1.7).
    pub const USER_CONTROL: Self = Self(4);
    /// Window Acknowledgement Size (§5.4.4).
    pub const WINDOW_ACK_SIZE: Self = Self(5);
    /// Set Peer Bandwidth (§5.4.5).
    pub const SET_PEER_BANDWIDTH: Self = Self(6);
    /// Audio (§7.1.4).
    pub const AUDIO: Self = Self(8);
    /// Video (§7.1.5).
    pub const VIDEO: Self = Self(9);
    /// Data in AMF3 (§7.1.2).
    pub const DATA_AMF3: Self = Self(15);
    /// Shared object in AMF3 (§7.1.3); nobody answers these.
    pub const SHARED_OBJECT_AMF3: Self = Self(16);
    /// Command in AMF3 (§7.1.1).
    pub const COMMAND_AMF3: Self = Self(17);
    /// Data in AMF0 (§7.1.2).
    pub const DATA_AMF0: Self = Self(18);
    /// Shared object in AMF0 (§7.1.3); nobody answers these.
    pub const SHARED_OBJECT_AMF0: Self = Self(19);
    /// Command in AMF0 (§7.1.1).
    pub const COMMAND_AMF0: Self = Self(20);
    /// Aggregate (§7.1.6).
    pub const AGGREGATE: Self = Self(22);

    /// True if messages of this type are part of a stream's media: audio,
    /// video, data.
    pub fn is_media(self) -> bool {
        matches!(
            self,
            Self::AUDIO | Self::VIDEO | Self::DATA_AMF0 | Self::DATA_AMF3
        )
    }

    /// True if this is a command, in AMF0 or AMF3.
    pub fn is_command(self) -> bool {
        matches!(self, Self::COMMAND_AMF0 | Self::COMMAND_AMF3)
    }
}

impl fmt::Debug for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::SET_CHUNK_SIZE => "SetChunkSize",
            Self::ABORT => "Abort",
            Self::ACKNOWLEDGEMENT => "Acknowledgement",
            Self::USER_CONTROL => "UserControl",
            Self::WINDOW_ACK_SIZE => "WindowAckSize",
            Self::SET_PEER_BANDWIDTH => "SetPeerBandwidth",
            Self::AUDIO => "Audio",
            Self::VIDEO => "Video",
            Self::DATA_AMF3 => "DataAmf3",
            Self::SHARED_OBJECT_AMF3 => "SharedObjectAmf3",
            Self::COMMAND_AMF3 => "CommandAmf3",
            Self::DATA_AMF0 => "DataAmf0",
            Self::SHARED_OBJECT_AMF0 => "SharedObjectAmf0",
            Self::COMMAND_AMF0 => "CommandAmf0",
            Self::AGGREGATE => "Aggregate",
            Self(id) => return write!(f, "MessageType({id})"),
        };
        f.write_str(name)
    }
}
