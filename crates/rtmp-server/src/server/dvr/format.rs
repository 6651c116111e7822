//! The formats of recordings.

use std::time::Duration;

use http_flv::tag::TagKind;
use serde::{Deserialize, Serialize};

use super::file::Patch;
use super::flv;
use super::mp4::{Mp4, as_keyframe};
use crate::config::DvrFormat;
use crate::stream::{Cutter, EntryKind, LogTag, PerTrack, tag_message};

/// The present file's format, with what is to be known until its end.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Format {
    /// FLV, with the media that the file has.
    Flv(PerTrack<bool>),
    /// Fragmented MP4.
    Mp4(Box<Mp4>),
}

impl Format {
    /// The format of a file that begins, and its first bytes. `media` are those that the
    /// stream has.
    pub(super) fn begin(
        format: DvrFormat,
        media: PerTrack<bool>,
        cutter: &Cutter,
    ) -> (Self, Vec<u8>) {
        match format {
            DvrFormat::Flv => {
                let mut beginning = flv::beginning(media, cutter.metadata());
                beginning.extend_from_slice(&cutter.configurations());
                let none = PerTrack {
                    audio: false,
                    video: false,
                };
                (Self::Flv(none), beginning)
            }
            DvrFormat::Mp4 => {
                let mut mp4 = Box::new(Mp4::new());
                let mut beginning = Vec::new();
                for message in cutter.configuration_messages() {
                    mp4.push(&message, 0, &mut beginning);
                }
                (Self::Mp4(mp4), beginning)
            }
        }
    }

    /// Appends `tag` to `out`, with its time in the file; it `is_first` of the file.
    pub(super) fn append(
        &mut self,
        tag: &LogTag,
        cutter: &Cutter,
        is_first: bool,
        out: &mut Vec<u8>,
    ) {
        match self {
            Self::Flv(media) => {
                let begin = out.len();
                out.extend_from_slice(&tag.bytes);
                let [extension, time @ ..] = cutter.timestamp(tag.time_ms).to_be_bytes();
                // FLV specification E.4.1: 24 bits, then the eight above them.
                out[begin + 4..begin + 7].copy_from_slice(&time);
                out[begin + 7] = extension;
                media.audio |= tag.bytes[0] == TagKind::Audio as u8;
                media.video |= tag.bytes[0] == TagKind::Video as u8;
            }
            Self::Mp4(mp4) => {
                let Some(message) = tag_message(tag) else {
                    return;
                };
                let message = match is_first && tag.kind == EntryKind::Unflagged {
                    true => as_keyframe(&message),
                    false => message,
                };
                mp4.push(&message, cutter.file_time(tag.time_ms), out);
            }
        }
    }

    /// Appends what is still queued.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        if let Self::Mp4(mp4) = self {
            mp4.finish(out);
        }
    }

    /// The first bytes of the file that has to follow, if one has to.
    pub(super) fn next_file(&self) -> Option<&[u8]> {
        match self {
            Self::Flv(_) => None,
            Self::Mp4(mp4) => mp4.next(),
        }
    }

    /// That file has begun, with those bytes.
    pub(super) fn begin_next_file(&mut self) {
        if let Self::Mp4(mp4) = self {
            mp4.begin_next();
        }
    }

    /// What is entered at the beginning of a file of `length` bytes, once it has ended.
    pub(super) fn patches(&self, duration: Duration, length: u64) -> Vec<Patch> {
        match self {
            Self::Flv(media) => flv::patches(*media, duration, length).into(),
            Self::Mp4(_) => Vec::new(),
        }
    }
}
