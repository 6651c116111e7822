//! The reasons for which a player of HLS is at its end.

use super::{
    demuxer::DemuxError,
    playlist::{MAX_PLAYLIST_BYTES, PlaylistError},
};
use crate::http::response::{Head, ResponseError};

/// The reason for which a player of HLS is at its end.
#[derive(Debug, thiserror::Error, PartialEq)]
pub(crate) enum HlsError {
    /// No HTTP.
    #[error("{what}: {error}")]
    Response {
        /// What was asked for.
        what: &'static str,
        /// The error.
        error: ResponseError,
    },
    /// The server said no.
    #[error("{what} refused: {status} {reason}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// The status code.
        status: u16,
        /// The reason phrase.
        reason: String,
    },
    /// A range other than the one that was asked for.
    #[error("{0} is not the range of bytes that was asked for")]
    Range(&'static str),
    /// A playlist that is none.
    #[error("the playlist {0}")]
    Playlist(#[from] PlaylistError),
    /// A playlist that is too long.
    #[error("the playlist is longer than {MAX_PLAYLIST_BYTES} bytes or is not UTF-8")]
    Text,
    /// A playlist that lists less than the one before.
    #[error("the playlist goes backwards: {0}")]
    Backwards(String),
    /// A blocking reload that did not block.
    #[error("a blocking reload was answered without the part that was asked for")]
    Unblocked,
    /// A URI on another host, or of another scheme.
    #[error("the playlist names a URI that is not on its own host, port and scheme")]
    Elsewhere,
    /// A segment or part that is none.
    #[error("{what} {error}")]
    Media {
        /// A segment, a part.
        what: &'static str,
        /// The error.
        error: DemuxError,
    },
}

impl HlsError {
    /// The server said no.
    pub(super) fn refused(what: &'static str, head: &Head) -> Self {
        Self::Refused {
            what,
            status: head.status,
            reason: head.reason.clone(),
        }
    }
}
