//! Where a recording's files begin and end. No I/O, no clock.

use std::time::Duration;

use bytes::Bytes;
use http_flv::tag::TAG_HEADER_BYTES;
use rtmp_proto::wire::media::{MediaClass, MediaHead};
use rtmp_proto::wire::{Message, MessageType};
use serde::{Deserialize, Serialize};

use crate::stream::log::index::EntryKind;
use crate::stream::log::tags::LogTag;
use crate::stream::log::{FlvFraming, Framing, MESSAGE_STREAM};
use crate::stream::{Header, Headers};

/// Length of `PreviousTagSize` behind a tag, in bytes.
const TAG_TRAILER_BYTES: usize = 4;

/// How a recording is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Length of a file; `None`: it ends with the publication.
    pub(crate) segment: Option<Duration>,
    /// True if a file of pictures begins with a keyframe.
    pub(crate) wait_keyframe: bool,
    /// True if each file's time begins with 0.
    pub(crate) starts_at_zero: bool,
}

/// What a recorder does with a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is in no file.
    Discard,
    /// It goes into the present file.
    Append,
    /// The present file ends, and this tag is not in it: it changes what decoders need.
    End,
    /// A file begins with it; the present one, if there is one, ends.
    Begin,
}

/// Sound that comes so much after pictures of its time, ms, keeps its distance at the
/// beginning of a file. Encoders with look-ahead send it up to twelve seconds later; what is
/// older belongs to no picture any more.
const SOUND_DELAYS_MS: std::ops::RangeInclusive<u64> = 100..=12_000;

/// The present file.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct CutFile {
    /// The time that is its 0, ms.
    zero_ms: u64,
    /// Time of its first frame, ms.
    begin_ms: u64,
    /// The latest time in it, ms.
    newest_ms: u64,
    /// Pictures that need others can be decoded: a keyframe has come.
    follows_keyframe: bool,
}

/// Decides which tag goes into which file.
///
/// ```text
///          keyframe, or sound of a stream without pictures
/// Waiting ─────────────────────────────────────────────────▶ File ─┐
///    ▲                                                       │  ▲  │ the length
///    └── publication ends, another video configuration, ─────┘  └──┘ is reached
///        file given up
/// ```
///
/// For each tag: [`Cutter::judge`], then, once that is done, [`Cutter::note`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Cutter {
    plan: Plan,
    /// The headers in force.
    headers: Headers,
    /// The present publication has pictures.
    has_video: bool,
    /// The latest time of its pictures, ms.
    video_ms: u64,
    /// How much older than the pictures before it its newest sound was, ms.
    sound_delay_ms: u64,
    file: Option<CutFile>,
}

impl Cutter {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            plan,
            headers: Headers::default(),
            has_video: false,
            video_ms: 0,
            sound_delay_ms: 0,
            file: None,
        }
    }

    /// What is done with `tag`, which comes next.
    pub(crate) fn judge(&self, tag: &LogTag) -> Verdict {
        match (tag.kind, &self.file) {
            (EntryKind::Always | EntryKind::Header(_), file) => self.judge_header(tag, *file),
            (EntryKind::Data, None) => Verdict::Discard,
            (EntryKind::Data, Some(_)) => Verdict::Append,
            (EntryKind::Keyframe | EntryKind::Unflagged, None) => Verdict::Begin,
            (EntryKind::Audio, None) if !self.has_video => Verdict::Begin,
            (EntryKind::Audio | EntryKind::Video, None) => Verdict::Discard,
            (EntryKind::Video, Some(file)) if !file.follows_keyframe => Verdict::Discard,
            (kind, Some(file)) => match self.is_full(*file, kind, tag.time_ms) {
                true => Verdict::Begin,
                false => Verdict::Append,
            },
        }
    }

    /// True if the present file is to end before a frame of `kind` and this time.
    fn is_full(&self, file: CutFile, kind: EntryKind, time_ms: u64) -> bool {
        let length = Duration::from_millis(time_ms.saturating_sub(file.begin_ms));
        let can_begin = match kind {
            EntryKind::Keyframe | EntryKind::Unflagged => true,
            _ => !self.plan.wait_keyframe || !self.has_video,
        };
        can_begin && self.plan.segment.is_some_and(|segment| length >= segment)
    }

    fn judge_header(&self, tag: &LogTag, file: Option<CutFile>) -> Verdict {
        let Some(header) = header(tag) else {
            return Verdict::Discard;
        };
        // Metadata stands at the beginning of a file, as in SRS.
        let Some(file) = file else {
            return Verdict::Discard;
        };
        if header.class == MediaClass::Metadata || self.headers.has(&header) {
            return Verdict::Discard;
        }
        let replaces = self.headers.has_class(header.class);
        let is_video = matches!(header.class, MediaClass::VideoSequenceHeader { .. });
        match is_video && replaces && file.follows_keyframe {
            true => Verdict::End,
            false => Verdict::Append,
        }
    }

    /// `tag` has been dealt with as `verdict` says.
    pub(crate) fn note(&mut self, tag: &LogTag, verdict: Verdict) {
        if let Some(header) = header(tag) {
            let is_video = matches!(header.class, MediaClass::VideoSequenceHeader { .. });
            self.has_video |= is_video;
            self.headers.set(header);
        }
        let is_keyframe = matches!(tag.kind, EntryKind::Keyframe | EntryKind::Unflagged);
        self.has_video |= is_keyframe || tag.kind == EntryKind::Video;
        match verdict {
            Verdict::Discard => {}
            Verdict::End => self.file = None,
            Verdict::Begin => {
                let before = self.file.filter(|_| !self.plan.wait_keyframe);
                self.file = Some(CutFile {
                    zero_ms: self.zero(tag.time_ms),
                    begin_ms: tag.time_ms,
                    newest_ms: tag.time_ms,
                    follows_keyframe: is_keyframe || before.is_some_and(|it| it.follows_keyframe),
                });
            }
            Verdict::Append => {
                if let Some(file) = &mut self.file {
                    file.follows_keyframe |= is_keyframe;
                    // The time of data may be still to come.
                    if tag.kind != EntryKind::Data {
                        file.newest_ms = file.newest_ms.max(tag.time_ms);
                    }
                }
            }
        }
        match tag.kind {
            EntryKind::Audio => self.sound_delay_ms = self.video_ms.saturating_sub(tag.time_ms),
            EntryKind::Keyframe | EntryKind::Unflagged | EntryKind::Video => {
                self.video_ms = self.video_ms.max(tag.time_ms);
            }
            EntryKind::Always | EntryKind::Header(_) | EntryKind::Data => {}
        }
    }

    /// The time that is 0 in a file whose first frame is of this time: an earlier one where
    /// sound of an earlier time is still to come.
    fn zero(&self, begin_ms: u64) -> u64 {
        match SOUND_DELAYS_MS.contains(&self.sound_delay_ms) {
            true => begin_ms.saturating_sub(self.sound_delay_ms),
            false => begin_ms,
        }
    }

    /// Another publication begins, with headers of its own.
    pub(crate) fn begin_publication(&mut self) {
        *self = Self::new(self.plan);
    }

    /// Tags are missing before the next one: pictures need a keyframe first.
    pub(crate) fn note_gap(&mut self) {
        if let Some(file) = &mut self.file {
            file.follows_keyframe = false;
        }
    }

    /// The present file ends here.
    pub(crate) fn end_file(&mut self) {
        self.file = None;
    }

    /// Length of the present file.
    pub(crate) fn duration(&self) -> Duration {
        let length = self.file.map_or(0, |file| file.newest_ms - file.zero_ms);
        Duration::from_millis(length)
    }

    /// The timestamp in the present file of what is of this time of the stream.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the timestamps of FLV wrap at 2³²"
    )]
    pub(crate) fn timestamp(&self, time_ms: u64) -> u32 {
        self.file_time(time_ms) as u32
    }

    /// The same in a file whose times do not wrap, ms.
    pub(crate) fn file_time(&self, time_ms: u64) -> u64 {
        let zero_ms = match (self.plan.starts_at_zero, self.file) {
            (true, Some(file)) => file.zero_ms,
            _ => 0,
        };
        time_ms.saturating_sub(zero_ms)
    }

    /// The payload of the metadata in force.
    pub(crate) fn metadata(&self) -> Option<&Bytes> {
        let mut headers = self.headers.since(0);
        let metadata = headers.find(|header| header.class == MediaClass::Metadata);
        metadata.map(|header| &header.payload)
    }

    /// The decoders' configurations in force, as tags for the beginning of the present file.
    pub(crate) fn configurations(&self) -> Vec<u8> {
        let mut tags = Vec::new();
        for message in self.configuration_messages() {
            Framing::Flv(FlvFraming::Bare).encode(&message, &mut tags);
        }
        tags
    }

    /// The same as messages.
    pub(crate) fn configuration_messages(&self) -> impl Iterator<Item = Message> {
        let timestamp = self.file.map_or(0, |file| self.timestamp(file.zero_ms));
        let headers = self.headers.since(0);
        let configurations = headers.filter(|header| header.class != MediaClass::Metadata);
        configurations.map(move |header| {
            let mut message = header.message(MESSAGE_STREAM);
            message.timestamp = timestamp;
            message
        })
    }
}

/// The header that `tag` is.
fn header(tag: &LogTag) -> Option<Header> {
    let (EntryKind::Always | EntryKind::Header(_)) = tag.kind else {
        return None;
    };
    let message = tag_message(tag)?;
    let head = MediaHead::parse(&message)?;
    Headers::keeps(head.class, &message).then(|| Header::new(head, &message))
}

/// The message that `tag` has.
pub(crate) fn tag_message(tag: &LogTag) -> Option<Message> {
    let message_type = match tag.bytes.first()? {
        8 => MessageType::AUDIO,
        9 => MessageType::VIDEO,
        _ => MessageType::DATA_AMF0,
    };
    let end = tag.bytes.len().checked_sub(TAG_TRAILER_BYTES)?;
    Some(Message {
        timestamp: 0,
        message_type,
        stream_id: MESSAGE_STREAM,
        payload: (TAG_HEADER_BYTES <= end).then(|| tag.bytes.slice(TAG_HEADER_BYTES..end))?,
    })
}
