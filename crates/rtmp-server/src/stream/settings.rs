//! What a stream takes from its vhost's settings.

use std::time::Duration;

use super::log::index::Retention;

/// What a stream takes from its vhost's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSettings {
    /// Length of the chunks in the log, in bytes; fixed for the stream's life.
    pub chunk_size: u32,
    /// How long messages are gathered before they are sent; zero with
    /// `min_latency`.
    pub mw_latency: Duration,
    /// True if players begin at the newest keyframe, false if they wait for
    /// the next.
    pub gop_cache: bool,
    /// True if players' sockets send small packets at once where messages are
    /// gathered, too. Where they are not they do in any case.
    pub nodelay: bool,
    /// How long a publication's pictures are held back for want of a keyframe.
    pub keyframe_timeout: Duration,
    /// How much of the past is kept.
    pub retention: Retention,
}
