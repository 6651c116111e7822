//! The two kinds of media of a stream that have times of their own.

use rtmp_proto::wire::media::Codec;
use serde::{Deserialize, Serialize};

/// The kind of media that a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Track {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
}

impl Track {
    pub(super) fn of(codec: Codec) -> Self {
        match codec {
            Codec::Audio(_) => Self::Audio,
            Codec::Video(_) => Self::Video,
        }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::Audio => Self::Video,
            Self::Video => Self::Audio,
        }
    }
}

/// A value for each track.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PerTrack<T> {
    pub(crate) audio: T,
    pub(crate) video: T,
}

impl PerTrack<bool> {
    /// Both tracks.
    pub(crate) const BOTH: Self = Self {
        audio: true,
        video: true,
    };
}

impl<T> PerTrack<T> {
    pub(super) fn of(&self, track: Track) -> &T {
        match track {
            Track::Audio => &self.audio,
            Track::Video => &self.video,
        }
    }

    pub(super) fn of_mut(&mut self, track: Track) -> &mut T {
        match track {
            Track::Audio => &mut self.audio,
            Track::Video => &mut self.video,
        }
    }
}
