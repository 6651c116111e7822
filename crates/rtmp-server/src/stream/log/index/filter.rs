//! Messages that a player has asked to do without.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{EntryKind, Index};
use crate::stream::track::{PerTrack, Track};

/// The messages that a player wants of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Filter {
    /// True if it wants sound.
    pub audio: bool,
    /// The pictures that it wants.
    pub video: VideoFilter,
    /// The tracks whose headers it gets, too; a player that has turned a track off may
    /// turn it on again, and needs them.
    pub headers: PerTrack<bool>,
}

/// The pictures that a player wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum VideoFilter {
    /// All of them.
    All,
    /// All from the next keyframe on.
    FromKeyframe,
    /// None.
    None,
}

impl Filter {
    /// The filter that lets everything through.
    pub(crate) const EVERYTHING: Self = Self {
        audio: true,
        video: VideoFilter::All,
        headers: PerTrack::BOTH,
    };

    /// The filter that lets nothing through of the tracks that are not in `tracks`.
    #[must_use]
    pub(crate) fn of_tracks(tracks: PerTrack<bool>) -> Self {
        Self {
            audio: tracks.audio,
            video: match tracks.video {
                true => VideoFilter::All,
                false => VideoFilter::None,
            },
            headers: tracks,
        }
    }

    /// True if it lets the headers of `track` through; of `None`: of the whole stream.
    #[must_use]
    pub(crate) fn keeps_header(&self, track: Option<Track>) -> bool {
        track.is_none_or(|track| *self.headers.of(track))
    }

    fn keeps(&mut self, kind: EntryKind) -> bool {
        match (kind, self.video) {
            (EntryKind::Always | EntryKind::Data, _) => true,
            (EntryKind::Header(track), _) => self.keeps_header(Some(track)),
            (EntryKind::Audio, _) => self.audio,
            (EntryKind::Keyframe | EntryKind::Unflagged, VideoFilter::FromKeyframe) => {
                self.video = VideoFilter::All;
                true
            }
            (EntryKind::Keyframe | EntryKind::Video | EntryKind::Unflagged, VideoFilter::All) => {
                true
            }
            (EntryKind::Video, VideoFilter::FromKeyframe)
            | (EntryKind::Keyframe | EntryKind::Video | EntryKind::Unflagged, VideoFilter::None) => {
                false
            }
        }
    }
}

impl Index {
    /// The first run of messages from `offset` up to `end` that `filter`
    /// keeps; empty, at the end, where it keeps none. `offset` must be the
    /// beginning of a message.
    pub(crate) fn kept(&self, offset: u64, end: u64, filter: &mut Filter) -> Range<u64> {
        let mut messages = self
            .entries
            .range(self.position(offset)..)
            .take_while(|entry| entry.offset < end);
        let Some(first) = messages.find(|entry| filter.keeps(entry.kind)) else {
            return end..end;
        };
        let mut after = messages.skip_while(|entry| filter.keeps(entry.kind));
        first.offset..after.next().map_or(end, |entry| entry.offset)
    }
}
