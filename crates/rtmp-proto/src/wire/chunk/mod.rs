//! The chunk layer: messages cut into chunks and interleaved (RTMP 1.0 §5.3).

mod header;
mod reader;
mod writer;

pub use reader::{ChunkError, ChunkReader};
pub use writer::{ChunkWriter, encode_message, encoded_len, readdress};

/// Chunk size of either side until it says otherwise, in bytes (RTMP 1.0
/// §5.4.1).
pub const DEFAULT_CHUNK_SIZE: u32 = 128;

/// The largest payload that a message header can announce, in bytes.
pub const MAX_MESSAGE_LEN: usize = 0xff_ffff;

/// Chunk streams for what we send. Peers take any id from 3 on; some want
/// control messages on 2, as the specification says (§5.4).
pub mod csid {
    /// Control messages.
    pub const CONTROL: u32 = 2;
    /// Commands on the connection.
    pub const COMMAND: u32 = 3;
    /// Audio.
    pub const AUDIO: u32 = 4;
    /// Commands and statuses of a message stream, and data.
    pub const STREAM: u32 = 5;
    /// Video.
    pub const VIDEO: u32 = 6;

    use crate::wire::MessageType;

    /// Where we send messages of this type.
    pub fn for_message(message_type: MessageType, stream_id: u32) -> u32 {
        match message_type {
            MessageType::AUDIO => AUDIO,
            MessageType::VIDEO => VIDEO,
            MessageType::DATA_AMF0 | MessageType::DATA_AMF3 => STREAM,
            MessageType::COMMAND_AMF0 | MessageType::COMMAND_AMF3 if stream_id == 0 => COMMAND,
            MessageType::COMMAND_AMF0 | MessageType::COMMAND_AMF3 => STREAM,
            _ => CONTROL,
        }
    }
}

/// A header's timestamp field when the real value follows in four more bytes.
const EXTENDED: u32 = 0xff_ffff;
