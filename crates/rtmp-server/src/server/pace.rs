//! Messages of files, at their times.

use std::time::{Duration, Instant};

use rtmp_proto::wire::Message;
use serde::{Deserialize, Serialize};

use crate::stream::MediaMessage;

/// Delay of a message beyond which the time that was lost is not caught up with: the
/// process had been stopped, say.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// The clock of a file that is published.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Pace {
    #[serde(with = "crate::hand_over::monotonic")]
    begun: Instant,
}

impl Pace {
    /// The file begins at `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { begun: now }
    }

    /// Time at which the message is due that the file has at `time_ms`.
    pub(super) fn due(&self, time_ms: u64) -> Instant {
        self.begun + Duration::from_millis(time_ms)
    }

    /// The file's time at `now`, ms.
    pub(super) fn elapsed_ms(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.begun);
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }

    /// A message goes out at `now` that was due at `due`.
    pub(super) fn pass(&mut self, due: Instant, now: Instant) {
        let delay = now.saturating_duration_since(due);
        if delay > MAX_DELAY {
            self.begun += delay;
        }
    }
}

/// The same message at another time, which wraps.
pub(super) fn at(message: &MediaMessage, time_ms: u64) -> MediaMessage {
    #[expect(clippy::cast_possible_truncation, reason = "timestamps wrap at 2³²")]
    let timestamp = time_ms as u32;
    MediaMessage::from(Message {
        timestamp,
        ..message.message().clone()
    })
}
