//! The dialogue of a connection: commands and statuses, server and client
//! side.
//!
//! A session takes the bytes that its peer sent and says what they mean
//! (`read`), and appends to a buffer what is to be sent. It performs no I/O and
//! looks at no clock; the buffer is the caller's, and what one `read` appends is
//! meant to be sent in one piece: small pieces wait for the peer's delayed
//! acknowledgement.

pub mod client;
pub mod name;
pub mod server;
pub mod status;

use crate::wire::chunk::ChunkError;
use crate::wire::handshake::HandshakeError;
use crate::wire::limits::Limit;

pub use client::{ClientConfig, ClientEvent, ClientSession, Purpose};
pub use name::{NameError, Parameters, StreamKey};
pub use server::{
    ConnectRequest, ConnectSettings, PlayRequest, PlayStart, PublishKind, PublishRequest,
    ServerEvent, ServerSession,
};
pub use status::{Level, Redirect, Status};

/// The property of `connect`'s command object by which a player of ours says
/// where it wants to begin, a boolean: at the newest keyframe, or at the next.
/// Other servers leave out what they do not know.
const GOP_CACHE: &str = "gopCache";

/// The property of the answer to a `connect` with [`GOP_CACHE`], in its first
/// object, by which a server of ours says that it tells of each publication
/// that begins (stream begin), and gives a player no picture before a keyframe
/// that it has not waited for.
const MARKS_PUBLICATIONS: &str = "marksPublications";

/// Why a session cannot go on. What it appended to the output before may still
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
        /// Which limit.
        limit: Limit,
        /// Its value.
        allowed: u32,
    },
    /// `connect` does not name what to connect to in a usable way.
    #[error(transparent)]
    Name(#[from] NameError),
}
