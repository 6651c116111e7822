//! A publisher's clock against the stream's, as one track keeps it.

use serde::{Deserialize, Serialize};

/// Frames of one track may be this far out of order, ms.
const DISORDER_MS: i64 = 1_000;
/// A clock that runs ahead of the time that has passed by more than this has
/// been set anew, ms. Large enough for publishers that send a file in bursts.
pub(super) const MAX_JUMP_MS: i64 = 10_000;

/// The clock of one track.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Clock {
    /// The newest timestamp of the publisher, unwrapped.
    pub(super) newest: i64,
    /// Difference to be added to the publisher's time.
    pub(super) offset: i64,
}

impl Clock {
    /// The stream's time of the track's next frame, if that goes on with the
    /// track. `passed` ms have passed since the track's last one, and by the
    /// newest frame of either track the stream's time should be `expected`, ms.
    pub(super) fn follow(&mut self, timestamp: u32, passed: i64, expected: i64) -> Option<i64> {
        let raw = unwrap(self.newest, timestamp);
        let time = raw + self.offset;
        let step = raw - self.newest;
        // Where frames of the other track came first, those are the measure.
        let ahead = (time - expected).min(step - passed);
        let goes_on = step >= -DISORDER_MS && ahead <= MAX_JUMP_MS;
        goes_on.then(|| {
            self.newest = self.newest.max(raw);
            time
        })
    }
}

/// The time nearest to `near` whose low 32 bits are `timestamp`.
pub(super) fn unwrap(near: i64, timestamp: u32) -> i64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low 32 bits are what is compared"
    )]
    let difference = timestamp.wrapping_sub(near as u32).cast_signed();
    near + i64::from(difference)
}
