//! The first bytes of an audio or video message: this program's own reading of
//! the FLV tag header, independent of the servers that it judges.
//!
//! Sources: Adobe's *Video File Format Specification* 10.1 §E.4.3.1 and E.4.2.1,
//! and Veovera's *Enhanced RTMP* v1/v2 for FourCC video.

use crate::clock::Instant;

/// RTMP message types that carry media or data.
pub(crate) mod message_type {
    /// Audio data.
    pub(crate) const AUDIO: u8 = 8;
    /// Video data.
    pub(crate) const VIDEO: u8 = 9;
    /// Data in AMF0, such as `onMetaData`.
    pub(crate) const DATA_AMF0: u8 = 18;
}

/// Audio, video or data that has arrived completely, whatever carried it.
#[derive(Debug)]
pub(crate) struct Unit<'a> {
    /// What it is.
    pub kind: Kind,
    /// The time at which it is decoded, in milliseconds, wrapping at 2³².
    pub timestamp: u32,
    /// Its first bytes, in which a stamp is looked for.
    pub head: &'a [u8],
    /// Checksum of the bytes behind `head`, where checksums were asked for.
    pub tail: Option<crc32fast::Hasher>,
    /// When a player shows it that keeps a buffer; `None` for one that shows
    /// what comes.
    pub shown_at: Option<Instant>,
}

/// What a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Sound.
    Audio,
    /// A video message.
    Video(VideoKind),
    /// Anything else: data, an audio decoder's configuration.
    Other,
}

impl<'a> Unit<'a> {
    /// The body of an RTMP message or FLV tag.
    pub(crate) fn of_flv(
        type_id: u8,
        timestamp: u32,
        head: &'a [u8],
        tail: Option<crc32fast::Hasher>,
    ) -> Self {
        let kind = match type_id {
            message_type::AUDIO if !is_audio_sequence_header(head) => Kind::Audio,
            message_type::VIDEO => Kind::Video(video_kind(head)),
            _ => Kind::Other,
        };
        Self {
            kind,
            timestamp,
            head,
            tail,
            shown_at: None,
        }
    }
}

const AAC: u8 = 10;
const ENHANCED_AUDIO: u8 = 9;
const KEYFRAME: u8 = 1;
const COMMAND_FRAME: u8 = 5;
const CODEC_AVC: u8 = 7;
const CODEC_HEVC: u8 = 12;
const ENHANCED: u8 = 0x80;

/// The kind of a video message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VideoKind {
    /// The decoder's configuration; shows no picture.
    SequenceHeader,
    /// A picture that can be decoded without any other.
    Keyframe,
    /// A picture that needs earlier ones.
    Interframe,
    /// Anything else: end of sequence, metadata, commands, an empty message.
    Other,
}

/// Reads the kind of a video message from its first bytes.
pub(crate) fn video_kind(head: &[u8]) -> VideoKind {
    let Some(&first) = head.first() else {
        return VideoKind::Other;
    };
    let frame_type = first >> 4 & 0x07;
    let holds_picture = if first & ENHANCED != 0 {
        // The low half is a packet type: 0 sequence start, 1 coded frames,
        // 3 coded frames without composition time.
        match first & 0x0f {
            0 => return VideoKind::SequenceHeader,
            1 | 3 => true,
            _ => false,
        }
    } else if matches!(first & 0x0f, CODEC_AVC | CODEC_HEVC) {
        match head.get(1) {
            Some(0) => return VideoKind::SequenceHeader,
            Some(1) => true,
            _ => false,
        }
    } else {
        true
    };
    match frame_type {
        _ if !holds_picture => VideoKind::Other,
        KEYFRAME => VideoKind::Keyframe,
        COMMAND_FRAME => VideoKind::Other,
        _ => VideoKind::Interframe,
    }
}

/// True if an audio message is a decoder's configuration: AAC's, or the start
/// of a sequence in enhanced RTMP.
fn is_audio_sequence_header(head: &[u8]) -> bool {
    match head {
        [first, 0, ..] => first >> 4 == AAC,
        [first, ..] => *first == ENHANCED_AUDIO << 4,
        [] => false,
    }
}

/// True if a video message is AVC pictures as length-prefixed NAL units, into
/// which a stamp can be put.
pub(crate) fn is_avc_picture(head: &[u8]) -> bool {
    head.len() > 5 && head[0] & 0x8f == CODEC_AVC && head[1] == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn video_messages_are_told_apart_by_their_first_two_bytes() {
        let table: &[(&str, &[u8], VideoKind)] = &[
            ("AVC sequence header", &[0x17, 0], VideoKind::SequenceHeader),
            ("AVC keyframe", &[0x17, 1, 0, 0, 0], VideoKind::Keyframe),
            ("AVC interframe", &[0x27, 1, 0, 0, 0], VideoKind::Interframe),
            ("AVC end of sequence", &[0x17, 2], VideoKind::Other),
            (
                "HEVC under codec id 12, keyframe",
                &[0x1c, 1],
                VideoKind::Keyframe,
            ),
            (
                "HEVC under codec id 12, header",
                &[0x1c, 0],
                VideoKind::SequenceHeader,
            ),
            (
                "enhanced HEVC sequence start",
                b"\x90hvc1",
                VideoKind::SequenceHeader,
            ),
            (
                "enhanced HEVC coded keyframe",
                b"\x91hvc1",
                VideoKind::Keyframe,
            ),
            (
                "enhanced AV1 interframe without time",
                b"\xa3av01",
                VideoKind::Interframe,
            ),
            ("enhanced metadata", b"\x94hvc1", VideoKind::Other),
            ("Sorenson keyframe", &[0x12, 0], VideoKind::Keyframe),
            ("Sorenson interframe", &[0x22, 0], VideoKind::Interframe),
            ("command frame", &[0x57, 1], VideoKind::Other),
            ("no bytes at all", &[], VideoKind::Other),
            ("AVC cut after one byte", &[0x17], VideoKind::Other),
        ];
        for (sentence, head, kind) in table {
            assert_eq!(video_kind(head), *kind, "{sentence}");
        }
    }

    #[test]
    fn audio_sequence_headers_are_told_from_sound() {
        let table: &[(&str, &[u8], bool)] = &[
            ("AAC configuration", &[0xaf, 0, 0x12, 0x08], true),
            ("AAC sound", &[0xaf, 1, 0x21], false),
            ("enhanced Opus sequence start", b"\x90Opus", true),
            ("enhanced Opus frames", b"\x91Opus", false),
            ("MP3 whose second byte is zero", &[0x2f, 0], false),
            ("no bytes at all", &[], false),
        ];
        for (sentence, head, expected) in table {
            assert_eq!(is_audio_sequence_header(head), *expected, "{sentence}");
        }
    }
}
