//! The first bytes of a video message: FLV's video tag header and its
//! enhancement (Enhanced RTMP v2 § "Enhanced Video").

use serde::{Deserialize, Serialize};

use super::enhanced::{ExHead, FourCc, Multitrack};

/// The coding of a video message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
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

/// The content of a video message.
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
    /// The content.
    pub content: VideoContent,
    /// The (first) track of a multitrack message, else 0.
    pub track: u8,
}

/// What follows a video message's head.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct VideoBody<'a> {
    /// How much later than it is decoded the picture is shown, in ms.
    pub composition_ms: i32,
    /// A picture, or a decoder's configuration.
    pub data: &'a [u8],
}

impl<'a> VideoBody<'a> {
    /// A body that begins with a composition time of 24 bits; `None` if it is cut off.
    fn composed(bytes: &'a [u8]) -> Option<Self> {
        let (&[a, b, c], data) = bytes.split_first_chunk()?;
        Some(VideoBody {
            composition_ms: i32::from_be_bytes([a, b, c, 0]) >> 8,
            data,
        })
    }

    fn plain(data: &'a [u8]) -> Self {
        VideoBody {
            composition_ms: 0,
            data,
        }
    }
}

const FRAME_KEY: u8 = 1;
const FRAME_GENERATED_KEY: u8 = 4;
const FRAME_COMMAND: u8 = 5;
const CODED_FRAMES: u8 = 1;
/// The codecs whose coded frames begin with a composition time (Enhanced RTMP v2).
const COMPOSED: [&[u8; 4]; 3] = [b"avc1", b"hvc1", b"vvc1"];

impl VideoHead {
    /// Looks at a video message's payload; `None` if it is too short to tell.
    pub fn parse(payload: &[u8]) -> Option<VideoHead> {
        Self::parse_with_body(payload).map(|(head, _)| head)
    }

    /// The same, with what follows the head: a picture, a decoder's configuration. It
    /// is empty if it is cut off. Of a message with several tracks it is the first one's.
    pub fn parse_with_body(payload: &[u8]) -> Option<(VideoHead, VideoBody<'_>)> {
        let (&first, rest) = payload.split_first()?;
        if first & 0x80 != 0 {
            return Self::enhanced(first, rest);
        }
        let frame_type = first >> 4;
        let codec = VideoCodec::Legacy(first & 0x0f);
        let (content, body) = if frame_type == FRAME_COMMAND {
            (VideoContent::Other, VideoBody::plain(rest))
        } else if matches!(codec, VideoCodec::AVC | VideoCodec::HEVC) {
            let (packet_type, rest) = rest.split_first()?;
            let content = match packet_type {
                0 => VideoContent::SequenceHeader,
                1 => picture(frame_type),
                _ => VideoContent::Other,
            };
            let body = VideoBody::composed(rest).unwrap_or(VideoBody::plain(&[]));
            (content, body)
        } else {
            (picture(frame_type), VideoBody::plain(rest))
        };
        let head = VideoHead {
            codec: Some(codec),
            content,
            track: 0,
        };
        Some((head, body))
    }

    fn enhanced(first: u8, rest: &[u8]) -> Option<(VideoHead, VideoBody<'_>)> {
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
        // Only coded frames (1) of these three codecs say when they are shown.
        let composed = head.packet_type == CODED_FRAMES
            && matches!(&head.four_cc, Some(FourCc(code)) if COMPOSED.contains(&code));
        let body = match composed {
            true => VideoBody::composed(head.body).unwrap_or(VideoBody::plain(&[])),
            false => VideoBody::plain(head.body),
        };
        let enhanced = VideoHead {
            codec,
            content,
            track: head.track,
        };
        Some((enhanced, body))
    }
}

fn picture(frame_type: u8) -> VideoContent {
    match frame_type {
        FRAME_KEY | FRAME_GENERATED_KEY => VideoContent::Keyframe,
        _ => VideoContent::InterFrame,
    }
}
