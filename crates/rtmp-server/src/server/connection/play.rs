//! A play that has been asked for.

use rtmp_proto::session::{PlayRequest, ServerEvent};
use serde::{Deserialize, Serialize};

use crate::stream::Subscription;
use crate::stream::fanout::Request;

/// A play that waits for its stream, or is to be handed to a worker.
pub(super) struct Play {
    pub(super) request: Box<PlayRequest>,
    pub(super) subscription: Subscription,
    pub(super) options: PlayOptions,
}

/// Delivery that a player has asked for while it waited.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct PlayOptions {
    paused: bool,
    audio: bool,
    video: bool,
}

impl Default for PlayOptions {
    fn default() -> Self {
        Self {
            paused: false,
            audio: true,
            video: true,
        }
    }
}

impl PlayOptions {
    /// Records the player's `event`.
    pub(super) fn record(&mut self, event: &ServerEvent) {
        match *event {
            ServerEvent::Pause { paused, .. } => self.paused = paused,
            ServerEvent::ReceiveAudio { receive, .. } => self.audio = receive,
            ServerEvent::ReceiveVideo { receive, .. } => self.video = receive,
            _ => {}
        }
    }

    /// The requests to the worker.
    pub(super) fn requests(self) -> Vec<Request> {
        let options = [
            (!self.audio, Request::Audio(false)),
            (!self.video, Request::Video(false)),
            (self.paused, Request::Pause(true)),
        ];
        let options = options.into_iter().filter(|(wished, _)| *wished);
        options.map(|(_, request)| request).collect()
    }
}
