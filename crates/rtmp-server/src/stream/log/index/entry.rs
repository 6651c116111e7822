//! One message of a log, as the index knows it.

use serde::{Deserialize, Serialize};

use crate::stream::track::Track;

/// The kind of a message, for players that leave some messages out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum EntryKind {
    /// A frame of sound.
    Audio,
    /// A picture at which a player can join.
    Keyframe,
    /// A picture that needs others, or another message of the video.
    Video,
    /// A picture of a stream that flags no keyframes: a player can join here
    /// for want of one.
    Unflagged,
    /// Metadata and stream begins: every player gets them.
    Always,
    /// A sequence header and the like of this track: every player gets it that has the
    /// track at all.
    Header(Track),
    /// A cue point, a caption and the like: every player gets it. Its time may
    /// be still to come.
    Data,
}

impl EntryKind {
    /// True for pictures and other messages of the video.
    pub(super) fn is_video(self) -> bool {
        matches!(self, Self::Keyframe | Self::Video | Self::Unflagged)
    }

    pub(super) fn is_frame(self) -> bool {
        self == Self::Audio || self.is_video()
    }
}

/// An entry in the form that takes little room: its fields in their order.
type WrittenEntry = (u64, u64, u64, u64, i32, EntryKind);

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(from = "WrittenEntry", into = "WrittenEntry")]
pub(super) struct Entry {
    pub(super) offset: u64,
    pub(super) timestamp: u64,
    /// Number of pictures in the log before this message.
    pub(super) pictures_before: u64,
    /// Time of arrival on the server's clock, ms: a publisher's may stand still.
    pub(super) arrived: u64,
    /// Distance behind the newest message before it, ms: sound and pictures of
    /// one time may be seconds apart in the log. Negative for data ahead of the
    /// frames.
    pub(super) late: i32,
    pub(super) kind: EntryKind,
}

impl Entry {
    /// The log's time when the message came, ms. Along the log it only rises,
    /// unlike the messages' own timestamps.
    pub(super) fn came_at(&self) -> u64 {
        self.timestamp.saturating_add_signed(self.late.into())
    }
}

impl From<Entry> for WrittenEntry {
    fn from(entry: Entry) -> Self {
        (
            entry.offset,
            entry.timestamp,
            entry.pictures_before,
            entry.arrived,
            entry.late,
            entry.kind,
        )
    }
}

impl From<WrittenEntry> for Entry {
    fn from((offset, timestamp, pictures_before, arrived, late, kind): WrittenEntry) -> Self {
        Self {
            offset,
            timestamp,
            pictures_before,
            arrived,
            late,
            kind,
        }
    }
}
