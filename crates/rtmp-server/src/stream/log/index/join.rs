//! The places in a log where a player can begin.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::EntryKind;
use crate::stream::log::headers::Headers;

/// Without video for this long on the stream's timeline, ms, a stream counts
/// as sound only, where a player can join at any message.
pub(super) const SOUND_ONLY_AFTER_MS: u64 = 10_000;

/// The same where no picture has come yet, ms: encoders send sound and
/// pictures soon after each other, and an edge's origin may hold pictures back.
pub(super) const SOUND_FIRST_AFTER_MS: u64 = 1_000;

/// A place where a player can begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JoinPoint {
    /// Offset of its first frame.
    pub offset: u64,
    /// That frame's time, ms.
    pub timestamp: u64,
    /// Kind of that frame. After sound, pictures that follow need a keyframe
    /// first: a publisher's pictures may begin within a group.
    pub kind: EntryKind,
    /// The headers in force there.
    pub headers: Arc<Headers>,
}

/// The video of the present publication, which decides whether a player may
/// join at sound.
///
/// ```text
/// Absent ─ configuration ─▶ Announced ─ picture ─▶ Present
///    └──────────────────── picture ──────────────────▲
///
/// any of them ─ a picture is withheld, or the join point ─▶ Unjoinable
///               given up, and no picture is left to join at
/// Unjoinable ─ keyframe or unflagged picture ─▶ Present
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
enum Video {
    /// There is none: sound can be joined.
    #[default]
    Absent,
    /// A decoder's configuration has come, at this time of the log, ms: sound
    /// can be joined if no picture follows for [`SOUND_FIRST_AFTER_MS`].
    Announced(u64),
    /// The last picture or configuration came at this time of the log, ms:
    /// sound can be joined after [`SOUND_ONLY_AFTER_MS`] without another.
    Present(u64),
    /// Pictures come, and there is none to begin with: players that join get
    /// the sound meanwhile.
    Unjoinable,
}

impl Video {
    fn allows_sound_at(self, timestamp: u64) -> bool {
        match self {
            Self::Absent | Self::Unjoinable => true,
            Self::Announced(last) => timestamp.saturating_sub(last) > SOUND_FIRST_AFTER_MS,
            Self::Present(last) => timestamp.saturating_sub(last) > SOUND_ONLY_AFTER_MS,
        }
    }
}

/// The join points of the present publication.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct JoinPoints {
    video: Video,
    newest: Option<JoinPoint>,
    /// See [`View::later_join`](super::View::later_join).
    later: Option<JoinPoint>,
    /// Number of messages from the newest join point on.
    group_messages: usize,
    /// Number of messages from the later join point on.
    later_messages: usize,
    /// A join point was given up because its group was too long.
    gave_up_long_group: bool,
}

impl JoinPoints {
    pub(super) fn newest(&self) -> Option<&JoinPoint> {
        self.newest.as_ref()
    }

    pub(super) fn later(&self) -> Option<&JoinPoint> {
        self.later.as_ref()
    }

    /// The same join points of another log, where `place` says at which offset
    /// there what lies at an offset here.
    pub(super) fn placed(&self, place: impl Fn(u64) -> u64) -> Self {
        let placed = |join: &JoinPoint| JoinPoint {
            offset: place(join.offset),
            headers: Arc::new(join.headers.placed(|header| place(header.offset))),
            ..*join
        };
        Self {
            newest: self.newest.as_ref().map(placed),
            later: self.later.as_ref().map(placed),
            ..*self
        }
    }

    /// True if a player can join at a message of `kind` that comes next, at
    /// this time of the log.
    pub(super) fn can_join_at(&self, kind: EntryKind, timestamp: u64) -> bool {
        match kind {
            EntryKind::Keyframe | EntryKind::Unflagged => true,
            EntryKind::Audio => self.video.allows_sound_at(timestamp),
            EntryKind::Video | EntryKind::Always | EntryKind::Header(_) | EntryKind::Data => false,
        }
    }

    /// Counts a message that has come at this time of the log, before
    /// [`Self::set`].
    pub(super) fn count(&mut self, kind: EntryKind, timestamp: u64) {
        if kind.is_video() && self.video != Video::Unjoinable {
            self.video = Video::Present(timestamp);
        }
        self.group_messages += 1;
        self.later_messages += 1;
    }

    /// Takes over a join point at the message that was counted last, which came
    /// at this time of the log.
    pub(super) fn set(&mut self, join: JoinPoint, timestamp: u64) {
        let has_keyframe = |join: &JoinPoint| join.kind == EntryKind::Keyframe;
        if join.kind == EntryKind::Unflagged && self.newest.as_ref().is_some_and(has_keyframe) {
            // The whole group is worth more to whoever may begin there.
            self.later = Some(join);
            self.later_messages = 1;
            return;
        }
        if join.kind != EntryKind::Audio {
            self.video = Video::Present(timestamp);
        }
        self.group_messages = 1;
        self.newest = Some(join);
        self.later = None;
    }

    /// A video decoder's configuration has come, at this time of the log.
    pub(super) fn announce_video(&mut self, timestamp: u64) {
        match &mut self.video {
            Video::Absent => self.video = Video::Announced(timestamp),
            Video::Announced(last) | Video::Present(last) => *last = timestamp,
            Video::Unjoinable => {}
        }
    }

    /// A picture has come that is not logged: there was no keyframe before it.
    pub(super) fn withhold_picture(&mut self) {
        let has_picture = |join: &JoinPoint| join.kind != EntryKind::Audio;
        if !self.newest.as_ref().is_some_and(has_picture) {
            self.video = Video::Unjoinable;
        }
    }

    /// Another publication begins: nobody joins in the one before.
    pub(super) fn restart(&mut self) {
        *self = Self {
            gave_up_long_group: self.gave_up_long_group,
            ..Self::default()
        };
    }

    /// Gives up the newest join point if it lies before `floor`, or if its
    /// group has more than `max_messages`; 0: any group may be sent.
    pub(super) fn give_up(&mut self, floor: u64, max_messages: usize) {
        let too_long = max_messages > 0 && self.group_messages > max_messages;
        let given_up = |join: &JoinPoint| too_long || join.offset < floor;
        if self.newest.as_ref().is_some_and(given_up) {
            let later = self.later.take();
            self.newest = later.filter(|join| join.offset >= floor);
            self.group_messages = self.later_messages;
            if self.newest.is_none() {
                self.video = Video::Unjoinable;
                self.gave_up_long_group |= too_long;
            }
        }
    }

    pub(super) fn take_long_group(&mut self) -> bool {
        std::mem::take(&mut self.gave_up_long_group)
    }
}
