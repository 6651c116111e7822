//! What messages are known by, and the newest ones that have gone on air.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use rtmp_proto::wire::MessageType;
use rtmp_proto::wire::media::{MediaClass, MediaHead};
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::stream::MediaMessage;

/// The most messages of one kind that are remembered: half a minute of sound.
const MAX_MARKS: usize = 2_048;

/// The kinds of messages that keep their order among each other. Encoders, and servers on
/// the way, may interleave the kinds in different ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Video,
    Audio,
    /// Metadata, cue points and the like.
    Data,
}

impl Kind {
    pub(super) const COUNT: usize = 3;

    fn of(message_type: MessageType) -> Self {
        match message_type {
            MessageType::VIDEO => Self::Video,
            MessageType::AUDIO => Self::Audio,
            _ => Self::Data,
        }
    }
}

/// Hashes payloads, with keys that no publisher knows. Unlike the standard library's, another
/// program goes on with them.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Hashing(u64, u64);

impl Default for Hashing {
    fn default() -> Self {
        let random = RandomState::new();
        Self(random.hash_one(0), random.hash_one(1))
    }
}

impl Hashing {
    fn hash(self, payload: &[u8]) -> u64 {
        SipHasher13::new_with_keys(self.0, self.1).hash(payload)
    }
}

/// What a message is known by: two of the same bytes and, on one clock, of the same time
/// are the same message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) kind: Kind,
    /// Hash of the payload.
    hash: u64,
    pub(super) timestamp: u32,
    /// It is a keyframe, which hardly ever has the bytes of another one.
    pub(super) is_keyframe: bool,
    /// It is a picture or sound, no header.
    pub(super) is_frame: bool,
}

impl Mark {
    pub(super) fn new(message: &MediaMessage, head: MediaHead, hashing: Hashing) -> Self {
        let message = message.message();
        Self {
            kind: Kind::of(message.message_type),
            hash: hashing.hash(&message.payload),
            timestamp: message.timestamp,
            is_keyframe: matches!(head.class, MediaClass::Keyframe { .. }),
            is_frame: matches!(
                head.class,
                MediaClass::Keyframe { .. } | MediaClass::InterFrame { .. } | MediaClass::Audio
            ),
        }
    }

    /// The same on a clock that is behind its own by `ahead` ms.
    pub(super) fn on_clock(self, ahead: u32) -> Self {
        Self {
            timestamp: self.timestamp.wrapping_sub(ahead),
            ..self
        }
    }

    /// True if the payloads are alike.
    pub(super) fn has_bytes_of(&self, other: &Self) -> bool {
        (self.kind, self.hash) == (other.kind, other.hash)
    }
}

/// The newest messages of one kind that have gone on air, by their number in the order of
/// the log.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Marks {
    /// Number of the first one that is remembered.
    first: u64,
    #[serde(with = "written")]
    marks: VecDeque<Mark>,
}

impl Marks {
    /// The number that the next one will have.
    pub(super) fn end(&self) -> u64 {
        self.first + self.marks.len() as u64
    }

    pub(super) fn push(&mut self, mark: Mark) {
        if self.marks.len() == MAX_MARKS {
            self.marks.pop_front();
            self.first += 1;
        }
        self.marks.push_back(mark);
    }

    /// The one with this number.
    pub(super) fn get(&self, number: u64) -> Option<&Mark> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.marks.get(place)
    }

    /// The number of the first one that is `mark`, from `from` on.
    pub(super) fn find(&self, mark: &Mark, from: u64) -> Option<u64> {
        let skipped = usize::try_from(from.saturating_sub(self.first)).ok()?;
        let place = self.marks.iter().skip(skipped).position(|it| it == mark)?;
        Some(self.first + (skipped + place) as u64)
    }

    /// True if a message of this time comes after all that have gone on air.
    pub(super) fn are_before(&self, timestamp: u32) -> bool {
        let newest = self.marks.back();
        newest.is_none_or(|newest| timestamp.wrapping_sub(newest.timestamp).cast_signed() > 0)
    }

    /// Time between a message of this time and the newest one.
    pub(super) fn distance(&self, timestamp: u32) -> Duration {
        let newest = self.marks.back().map_or(timestamp, |it| it.timestamp);
        let ms = newest.wrapping_sub(timestamp).cast_signed().unsigned_abs();
        Duration::from_millis(ms.into())
    }

    /// All of them with their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Mark)> {
        let numbers = self.first..;
        numbers.zip(&self.marks)
    }
}

/// The newest messages that have gone on air.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Taken([Marks; Kind::COUNT]);

impl Taken {
    pub(super) fn of(&self, kind: Kind) -> &Marks {
        &self.0[kind as usize]
    }

    pub(super) fn push(&mut self, mark: Mark) {
        self.0[mark.kind as usize].push(mark);
    }

    /// True if a leg can be recognised by `mark`: a picture, or sound where there are none.
    pub(super) fn tell_streams_apart_by(&self, mark: &Mark) -> bool {
        mark.is_frame && (mark.kind == Kind::Video || self.of(Kind::Video).end() == 0)
    }
}

/// Marks as one string of bytes, for there are thousands, and everybody stands still meanwhile
/// (`#[serde(with = "written")]`).
pub(super) mod written {
    use bytes::Bytes;
    use rtmp_proto::wire::bytes_format;
    use serde::de::{Deserializer, Error};
    use serde::ser::Serializer;

    use super::{Kind, Mark};

    /// Bytes of a mark: hash, time, kind with flags.
    type Written = [u8; 8 + 4 + 1];

    const KIND: u8 = 3;
    const IS_KEYFRAME: u8 = 4;
    const IS_FRAME: u8 = 8;

    fn write(mark: &Mark) -> Written {
        let flag = |flag, is_set| if is_set { flag } else { 0 };
        let flags = flag(IS_KEYFRAME, mark.is_keyframe) | flag(IS_FRAME, mark.is_frame);
        let mut written = Written::default();
        written[..8].copy_from_slice(&mark.hash.to_le_bytes());
        written[8..12].copy_from_slice(&mark.timestamp.to_le_bytes());
        written[12] = mark.kind as u8 | flags;
        written
    }

    fn read(written: &Written) -> Option<Mark> {
        let (hash, rest) = written.split_first_chunk()?;
        let (timestamp, rest) = rest.split_first_chunk()?;
        let flags = *rest.first()?;
        let kinds = [Kind::Video, Kind::Audio, Kind::Data];
        Some(Mark {
            kind: *kinds.get(usize::from(flags & KIND))?,
            hash: u64::from_le_bytes(*hash),
            timestamp: u32::from_le_bytes(*timestamp),
            is_keyframe: flags & IS_KEYFRAME != 0,
            is_frame: flags & IS_FRAME != 0,
        })
    }

    pub(in crate::stream::merge) fn serialize<'a, M, S: Serializer>(
        marks: &'a M,
        serializer: S,
    ) -> Result<S::Ok, S::Error>
    where
        &'a M: IntoIterator<Item = &'a Mark>,
    {
        let written: Vec<u8> = marks.into_iter().flat_map(write).collect();
        bytes_format::serialize(&written, serializer)
    }

    pub(in crate::stream::merge) fn deserialize<
        'de,
        M: FromIterator<Mark>,
        D: Deserializer<'de>,
    >(
        deserializer: D,
    ) -> Result<M, D::Error> {
        let written: Bytes = bytes_format::deserialize(deserializer)?;
        let (written, []) = written.as_chunks() else {
            return Err(D::Error::custom("part of a mark"));
        };
        let marks: Option<M> = written.iter().map(read).collect();
        marks.ok_or_else(|| D::Error::custom("a mark of an unknown kind"))
    }
}
