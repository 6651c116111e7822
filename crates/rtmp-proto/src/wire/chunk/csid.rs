//! Chunk streams for what we send. Peers take any id from 3 on; some want
//! control messages on 2, as the specification says (§5.4).

use crate::wire::message::MessageType;

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

/// The chunk stream for messages of this type.
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
