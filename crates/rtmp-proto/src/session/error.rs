//! The errors that end a session.

use super::name::NameError;
use crate::wire::Limit;
use crate::wire::chunk::ChunkError;
use crate::wire::handshake::HandshakeError;

/// An error after which a session cannot go on. Its output up to here may still
/// be sent, and tells the peer; then the connection has to be closed.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum SessionError {
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The chunks make no sense, or exceed a limit.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// More than the connection may have.
    #[error("limit exceeded: more than {allowed} {limit}")]
    Limit {
        /// The limit.
        limit: Limit,
        /// Its value.
        allowed: u32,
    },
    /// `connect` does not name what to connect to in a usable way.
    #[error(transparent)]
    Name(#[from] NameError),
}
