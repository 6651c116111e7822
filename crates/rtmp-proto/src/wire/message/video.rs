//! The first bytes of a video message: FLV's video tag header and its
//! enhancement (Enhanced RTMP v2 § "Enhanced Video").

use std::fmt;

/// A four-character code of Enhanced RTMP (`hvc1`, `av01`, `Opus`, …).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FourCc(pub [u8; 4]);

impl fmt::Debug for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// The coding of a video message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum VideoCodec {
    /// FLV's codec ids: 2 H.263, 3 screen, 4 VP6, 7 AVC, 12 HEVC (not FLV's,
    /// but widely sent), …
    Legacy(u8),
    /// A codec of Enhanced RTMP.
    FourCc(FourCc),
}

impl VideoCodec {
    /// H.264 by FLV's codec id.
    pub const AVC: Self = Self::Legacy(7);
    /// H.265 by the unofficial codec id.
    pub const HEVC: Self = Self::Legacy(12);

    /// The name to show to people.
    pub fn name(self) -> String {
        match self {
            Self::Legacy(2) => "H263".into(),
            Self::Legacy(4 | 5) => "VP6".into(),
            Self::AVC => "H264".into(),
            Self::HEVC => "H265".into(),
            Self::Legacy(id) => format!("codec {id}"),
            Self::FourCc(FourCc(code)) => match &code {
                b"avc1" => "H264".into(),
                b"hvc1" => "H265".into(),
                b"vvc1" => "H266".into(),
                b"av01" => "AV1".into(),
                b"vp08" => "VP8".into(),
                b"vp09" => "VP9".into(),
                _ => FourCc(code).to_string(),
            },
        }
    }
}

/// What a video message holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum VideoContent {
    /// The decoder's configuration.
    SequenceHeader,
    /// A picture that needs no other.
    Keyframe,
    /// A picture that needs others.
    InterFrame,
    /// Colour information and the like (enhanced packet type 4).
    Metadata,
    /// End of sequence, a seek's begin or end: nothing to decode.
    Other,
}

/// A video message's head.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct VideoHead {
    /// Coding; `None` in a message that names none (commands, many codecs).
    pub codec: Option<VideoCodec>,
    /// What the message holds.
    pub content: VideoContent,
    /// The (first) track of a multitrack message, else 0.
    pub track: u8,
}

const FRAME_KEY: u8 = 1;
const FRAME_GENERATED_KEY: u8 = 4;
const FRAME_COMMAND: u8 = 5;

impl VideoHead {
    /// Looks at a video message's payload; `None` if it is too short to tell.
    pub fn parse(payload: &[u8]) -> Option<VideoHead> {
        let (&first, rest) = payload.split_first()?;
        if first & 0x80 != 0 {
            return Self::enhanced(first, rest);
        }
        let frame_type = first >> 4;
        let codec = VideoCodec::Legacy(first & 0x0f);
        let content = if frame_type == FRAME_COMMAND {
            VideoContent::Other
        } else if matches!(codec, VideoCodec::AVC | VideoCodec::HEVC) {
            match rest.first()? {
                0 => VideoContent::SequenceHeader,
                1 => picture(frame_type),
                _ => VideoContent::Other,
            }
        } else {
            picture(frame_type)
        };
        Some(VideoHead {
            codec: Some(codec),
            content,
            track: 0,
        })
    }

    fn enhanced(first: u8, rest: &[u8]) -> Option<VideoHead> {
        let frame_type = (first >> 4) & 0x07;
        let head = ExHead::parse(first & 0x0f, rest, Multitrack::VIDEO)?;
        let content = match head.packet_type {
            4 => VideoContent::Metadata,
            _ if frame_type == FRAME_COMMAND => VideoContent::Other,
            0 | 5 => VideoContent::SequenceHeader,
            1 | 3 => picture(frame_type),
            _ => VideoContent::Other,
        };
        let codec = match content {
            VideoContent::Other if frame_type == FRAME_COMMAND => None,
            _ => head.four_cc.map(VideoCodec::FourCc),
        };
        Some(VideoHead {
            codec,
            content,
            track: head.track,
        })
    }
}

fn picture(frame_type: u8) -> VideoContent {
    match frame_type {
        FRAME_KEY | FRAME_GENERATED_KEY => VideoContent::Keyframe,
        _ => VideoContent::InterFrame,
    }
}

/// The packet type that announces several tracks; audio and video differ.
pub(super) struct Multitrack(u8);

impl Multitrack {
    pub(super) const VIDEO: Self = Self(6);
    pub(super) const AUDIO: Self = Self(5);
}

/// What audio's and video's enhanced headers have in common.
pub(super) struct ExHead {
    pub(super) packet_type: u8,
    pub(super) four_cc: Option<FourCc>,
    pub(super) track: u8,
}

const PACKET_MOD_EX: u8 = 7;
const MANY_TRACKS_MANY_CODECS: u8 = 2;

impl ExHead {
    /// Reads on after the first byte, whose packet type is given: modifiers,
    /// which are passed over, then the tracks' head, then the codec.
    pub(super) fn parse(
        mut packet_type: u8,
        mut rest: &[u8],
        multitrack: Multitrack,
    ) -> Option<ExHead> {
        while packet_type == PACKET_MOD_EX {
            let (&short, tail) = rest.split_first()?;
            rest = tail;
            let mut size = usize::from(short) + 1;
            if size == 256 {
                let (long, tail) = rest.split_first_chunk()?;
                rest = tail;
                size = usize::from(u16::from_be_bytes(*long)) + 1;
            }
            let (&next, tail) = rest.get(size..)?.split_first()?;
            packet_type = next & 0x0f;
            rest = tail;
        }
        if packet_type != multitrack.0 {
            let four_cc = rest.first_chunk().copied().map(FourCc);
            return Some(ExHead {
                packet_type,
                four_cc,
                track: 0,
            });
        }
        let (&tracks, tail) = rest.split_first()?;
        rest = tail;
        let mut four_cc = None;
        if tracks >> 4 != MANY_TRACKS_MANY_CODECS {
            let (code, tail) = rest.split_first_chunk()?;
            four_cc = Some(FourCc(*code));
            rest = tail;
        } else {
            rest = rest.get(4..)?;
        }
        Some(ExHead {
            packet_type: tracks & 0x0f,
            four_cc,
            track: *rest.first()?,
        })
    }
}
