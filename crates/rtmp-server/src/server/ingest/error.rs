//! The reasons for which a stream is not fetched.

use std::io;
use std::time::Duration;

use crate::server::upstream::OriginError;
use crate::stream::{AppendError, Busy};

/// Why an attempt to fetch a stream has ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum IngestError {
    #[error("no answer within {0:?}")]
    Slow(Duration),
    #[error("nothing has come for {0:?}")]
    Silent(Duration),
    #[error("the source has ended the stream")]
    Ended,
    /// What the RTSP client says.
    #[error("{0}")]
    Rtsp(String),
    #[error("{0}: it begins anew")]
    Jumped(#[from] rtsp_media::Jump),
    #[error("it has no pictures in H.264 or H.265 and no sound in AAC: it has {0}")]
    NothingToTake(String),
    #[error("{0}")]
    Origin(#[from] OriginError),
    #[error("{file} cannot be read: {error}")]
    File { file: String, error: io::Error },
    #[error("{file} cannot be used: {error}")]
    NotFlv { file: String, error: FlvFileError },
    #[error("the vhost {0} is not served")]
    NoVhost(String),
    #[error("the hook `on_publish` does not allow it")]
    Forbidden,
    #[error("no memory is left for one more stream (`stream_memory`)")]
    NoRoom,
    #[error("the server takes no new publishers: it drains")]
    Draining,
    #[error("{0}")]
    Busy(#[from] Busy),
    #[error("{0}")]
    Append(#[from] AppendError),
    #[error("it was dismissed")]
    Dismissed,
}

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FlvFileError {
    #[error("it does not begin as FLV files do; with `engine {{ enabled on; … }}` ffmpeg reads it")]
    NoFlv,
    #[error("there is no tag of sound, video or data at byte {0}")]
    UnknownTag(u64),
    #[error("it has neither pictures nor sound")]
    Empty,
}
