//! The state of a stream: its publisher, and whether there is something to
//! play.

use serde::{Deserialize, Serialize};

use super::publishers::Switch;

/// The state of a stream, for those who wait for it, play it or publish it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamState {
    /// The number of the publisher on air, or of the last one.
    pub(crate) on_air: u64,
    /// Number of times that a publisher has gone on air: another one may have been on air
    /// between two of the same.
    pub(crate) turn: u64,
    /// The last switch from one publisher to another that waited.
    pub(crate) switch: Option<Switch>,
    /// The publisher has sent something.
    pub live: bool,
    /// The last turn in which the publisher on air has sent something.
    #[serde(default)]
    pub(crate) sent_turn: u64,
    /// That publisher is there.
    pub present: bool,
    /// Number of those that may be about to publish: a hook is asked about
    /// them, or an origin that the stream is pulled from has them.
    pub expected: usize,
    /// The stream has ended for good: it is on its way out of the registry.
    pub ended: bool,
    /// Number of times that all origins have been asked for it, and none had
    /// it.
    pub failed_rounds: u64,
}

impl StreamState {
    /// True if somebody publishes the stream or may be about to, so that
    /// whoever waits for it waits on.
    #[must_use]
    pub fn has_publisher(&self) -> bool {
        self.present || self.expected > 0
    }

    /// True if the publisher on air has sent something since it is there.
    pub(super) fn has_sent(&self) -> bool {
        self.present && self.sent_turn == self.turn
    }

    /// True if it is known that there is something to play, and that who went on air in
    /// `turn` has sent something.
    pub(super) fn knows_media_of(&self, turn: u64) -> bool {
        self.live && self.sent_turn >= turn
    }
}
