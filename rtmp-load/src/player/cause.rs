//! How far a connection came, and why it ended.

use crate::{client::ClientError, dialogue::DialogueError};

/// The reason for which a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EndCause {
    /// The TCP connection could not be made.
    #[error("connect: {0}")]
    Connect(String),
    /// The peer closed in order.
    #[error("closed by the server {0}")]
    Closed(Progress),
    /// The connection broke.
    #[error("{error} {progress}")]
    Broken {
        /// The system's error.
        error: String,
        /// The state of the connection.
        progress: Progress,
    },
    /// Nothing came.
    #[error("nothing came for {seconds} s {progress}")]
    TimedOut {
        /// The limit.
        seconds: u64,
        /// The state of the connection.
        progress: Progress,
    },
    /// The server refused or talked nonsense.
    #[error("{0}")]
    Client(String),
    /// The source of what is published failed.
    #[error("{0}")]
    Source(String),
}

impl From<ClientError> for EndCause {
    fn from(error: ClientError) -> Self {
        Self::Client(error.to_string())
    }
}

impl From<DialogueError> for EndCause {
    fn from(error: DialogueError) -> Self {
        Self::Client(error.to_string())
    }
}

/// State of a connection. It only moves forward; raw streams skip the
/// negotiation.
///
/// ```text
/// Connecting ─ TCP ─▶ Negotiating ─ play accepted ─▶ Waiting ─ media ─▶ Streaming
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Progress {
    /// TCP is not established.
    Connecting,
    /// Handshake and commands.
    Negotiating,
    /// Waiting for the first media.
    Waiting,
    /// Media flows.
    Streaming,
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connecting => "while connecting",
            Self::Negotiating => "during handshake and commands",
            Self::Waiting => "before any media",
            Self::Streaming => "while streaming",
        })
    }
}
