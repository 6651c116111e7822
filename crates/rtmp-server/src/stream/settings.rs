//! The settings that a stream takes from its vhost.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::log::index::Retention;
use super::publishers::Turns;

/// The settings that a stream takes from its vhost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamSettings {
    /// Length of the chunks in the log, in bytes; fixed for the stream's life.
    pub chunk_size: u32,
    /// Time for which messages are gathered before they are sent; zero with
    /// `min_latency`.
    pub mw_latency: Duration,
    /// True if many players get what is gathered in parts, spread over that time.
    #[serde(skip)]
    pub spreads: bool,
    /// True if players begin at the newest keyframe, false if they wait for
    /// the next.
    pub gop_cache: bool,
    /// True if players' sockets send small packets at once where messages are
    /// gathered, too. Where they are not they do in any case.
    pub nodelay: bool,
    /// Time for which a publication's pictures are held back for want of a
    /// keyframe.
    pub keyframe_timeout: Duration,
    /// The way in which publishers take turns.
    pub(crate) turns: Turns,
    /// The past that is kept.
    pub retention: Retention,
}

#[cfg(test)]
impl StreamSettings {
    /// What tests begin with: everything is sent at once, and half a minute is kept.
    pub(crate) fn of_tests() -> Self {
        Self {
            chunk_size: 4_096,
            mw_latency: Duration::ZERO,
            spreads: false,
            gop_cache: true,
            nodelay: false,
            keyframe_timeout: Duration::from_secs(8),
            turns: Turns::default(),
            retention: Retention {
                queue_length: Duration::from_secs(30),
                max_bytes: 256 << 20,
                max_messages: 1 << 18,
                gop_cache_max_frames: 0,
            },
        }
    }
}
