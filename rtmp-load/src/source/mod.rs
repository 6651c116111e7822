//! The source of what a publisher sends: an FLV file, or a generated stream.

pub(crate) mod aac;
mod bits;
pub(crate) mod flv;
pub(crate) mod generated;
pub(crate) mod h264;
mod metadata;
pub(crate) mod shape;

/// One message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MediaMessage {
    /// RTMP message type: audio, video, or AMF0 data.
    pub type_id: u8,
    /// Milliseconds since the publisher's start; never falls.
    pub at_ms: u64,
    /// The payload as FLV and RTMP have it.
    pub payload: Vec<u8>,
}

/// An endless supply of messages in the order they are sent.
pub(crate) trait Source: Send {
    /// The next message.
    ///
    /// # Errors
    /// The file that it is read from fails.
    fn next_message(&mut self) -> Result<MediaMessage, SourceError>;

    /// Begins again with whatever a new connection needs first: metadata and
    /// sequence headers. Time goes on from where it is.
    ///
    /// # Errors
    /// The file that it is read from fails.
    fn restart(&mut self) -> Result<(), SourceError>;
}

/// The reason for which a source has nothing to send.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file cannot be read.
    #[error("{path}: {error}; give the path of an FLV file, or `generated`")]
    Unreadable {
        /// The file.
        path: String,
        /// The system's error.
        error: std::io::Error,
    },
    /// The file is something else.
    #[error("{path}: not an FLV file ({what}); convert it: ffmpeg -i {path} -c copy out.flv")]
    NotFlv {
        /// The file.
        path: String,
        /// The place where it differs.
        what: &'static str,
    },
    /// The file has nothing to send.
    #[error("{path}: holds no audio and no video")]
    Empty {
        /// The file.
        path: String,
    },
}
