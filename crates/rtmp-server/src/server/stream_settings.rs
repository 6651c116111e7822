//! The settings of a stream by those of its vhost.

use std::time::Duration;

use crate::config::{Config, Vhost};
use crate::stream::{Retention, StreamSettings, Turns};

/// Minimum number of bytes that a kept message counts for in `queue_bytes`. The
/// index entry of a message takes less.
const MIN_MESSAGE_BYTES: u64 = 1_024;

/// Time by which a publisher's messages may be late that `mr` has gathered.
const MERGED_READ_MARGIN: Duration = Duration::from_millis(150);

/// Silence of a publisher after which a standby takes its place: with `mr`, what it sends is
/// read so much later, and then at once.
fn silence_limit(vhost: &Vhost) -> Duration {
    let merged = vhost.mr.map(|latency| latency + MERGED_READ_MARGIN);
    vhost.standby_after.max(merged.unwrap_or_default())
}

pub(super) fn stream_settings(config: &Config, vhost: &Vhost) -> StreamSettings {
    StreamSettings {
        chunk_size: vhost.chunk_size,
        mw_latency: vhost.effective_mw_latency(),
        // Where the uplink is known to be scarce.
        spreads: config.limits_viewers(),
        gop_cache: vhost.gop_cache,
        nodelay: vhost.tcp_nodelay,
        keyframe_timeout: vhost.keyframe_timeout,
        turns: Turns {
            second_publisher: vhost.second_publisher,
            standby_after: silence_limit(vhost),
            return_after: vhost.standby_return,
        },
        retention: Retention {
            queue_length: vhost.queue_length,
            max_bytes: vhost.queue_bytes.into(),
            max_messages: usize::try_from(u64::from(vhost.queue_bytes) / MIN_MESSAGE_BYTES)
                .unwrap_or(usize::MAX),
            gop_cache_max_frames: vhost.gop_cache_max_frames as usize,
        },
    }
}
