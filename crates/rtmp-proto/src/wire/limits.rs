//! Bounds on one connection.

use std::fmt;

/// Bounds on what a single connection can make us hold or do.
///
/// A client that passes one is broken or hostile: its connection ends with an
/// error that names the [`Limit`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Payload of one message, in bytes.
    pub message_bytes: u32,
    /// Payload received so far of all unfinished messages together, in bytes.
    pub unfinished_bytes: u32,
    /// Chunk streams that have ever carried a chunk.
    pub chunk_streams: u32,
    /// Payload of one command message, in bytes. Commands are turned into
    /// values, which take up to some thirty times the room of their bytes.
    pub command_bytes: u32,
    /// Objects and arrays within one another in an AMF0 value.
    pub amf_nesting: u32,
    /// Bytes after the handshake and before an accepted `connect`.
    pub bytes_before_connect: u32,
    /// Message streams that exist at a time.
    pub message_streams: u32,
    /// An application's, stream's or virtual host's name, in bytes.
    pub name_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            message_bytes: 16 << 20,
            unfinished_bytes: 16 << 20,
            chunk_streams: 64,
            command_bytes: 64 << 10,
            amf_nesting: 32,
            bytes_before_connect: 64 << 10,
            message_streams: 16,
            name_bytes: 512,
        }
    }
}

/// The name of one of the [`Limits`], for errors and log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// [`Limits::message_bytes`]
    MessageBytes,
    /// [`Limits::unfinished_bytes`]
    UnfinishedBytes,
    /// [`Limits::chunk_streams`]
    ChunkStreams,
    /// [`Limits::command_bytes`]
    CommandBytes,
    /// [`Limits::bytes_before_connect`]
    BytesBeforeConnect,
    /// [`Limits::message_streams`]
    MessageStreams,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::MessageBytes => "bytes of one message",
            Limit::UnfinishedBytes => "bytes of unfinished messages",
            Limit::ChunkStreams => "chunk streams",
            Limit::CommandBytes => "bytes of one command",
            Limit::BytesBeforeConnect => "bytes before connect",
            Limit::MessageStreams => "message streams",
        })
    }
}
