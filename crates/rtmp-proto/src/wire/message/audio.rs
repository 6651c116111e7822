//! The first bytes of an audio message: FLV's audio tag header and its
//! enhancement (Enhanced RTMP v2 § "Enhanced Audio").

use serde::{Deserialize, Serialize};

use super::enhanced::{ExHead, FourCc, Multitrack};

/// The coding of an audio message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum AudioCodec {
    /// FLV's sound formats: 2 MP3, 7 and 8 G.711, 10 AAC, 11 Speex, …
    Legacy(u8),
    /// A codec of Enhanced RTMP.
    FourCc(FourCc),
}

impl AudioCodec {
    /// AAC by FLV's sound format.
    pub const AAC: Self = Self::Legacy(10);

    /// The name to show to people.
    pub fn name(self) -> String {
        match self {
            Self::Legacy(2 | 14) => "MP3".into(),
            Self::Legacy(7 | 8) => "G711".into(),
            Self::AAC => "AAC".into(),
            Self::Legacy(11) => "Speex".into(),
            Self::Legacy(13) => "Opus".into(),
            Self::Legacy(format) => format!("format {format}"),
            Self::FourCc(FourCc(code)) => match &code {
                b"mp4a" => "AAC".into(),
                b"Opus" => "Opus".into(),
                b"fLaC" => "FLAC".into(),
                b"ac-3" => "AC-3".into(),
                b"ec-3" => "E-AC-3".into(),
                b".mp3" => "MP3".into(),
                _ => FourCc(code).to_string(),
            },
        }
    }
}

/// The content of an audio message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AudioContent {
    /// The decoder's configuration.
    SequenceHeader,
    /// Sound.
    Frame,
    /// The channels that there are (enhanced packet type 4).
    ChannelConfiguration,
    /// End of sequence: nothing to decode.
    Other,
}

/// An audio message's head.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AudioHead {
    /// Coding; `None` in a message of many codecs.
    pub codec: Option<AudioCodec>,
    /// The content.
    pub content: AudioContent,
    /// The (first) track of a multitrack message, else 0.
    pub track: u8,
}

const FORMAT_EX_HEADER: u8 = 9;

impl AudioHead {
    /// Looks at an audio message's payload; `None` if it is too short to tell.
    pub fn parse(payload: &[u8]) -> Option<AudioHead> {
        Self::parse_with_body(payload).map(|(head, _)| head)
    }

    /// The same, with what follows the head: a frame, a decoder's configuration. Of a
    /// message with several tracks it is the first one's.
    pub fn parse_with_body(payload: &[u8]) -> Option<(AudioHead, &[u8])> {
        let (&first, rest) = payload.split_first()?;
        let format = first >> 4;
        if format == FORMAT_EX_HEADER {
            let head = ExHead::parse(first & 0x0f, rest, Multitrack::AUDIO)?;
            let content = match head.packet_type {
                0 => AudioContent::SequenceHeader,
                1 => AudioContent::Frame,
                4 => AudioContent::ChannelConfiguration,
                _ => AudioContent::Other,
            };
            let codec = head.four_cc.map(AudioCodec::FourCc);
            let track = head.track;
            let enhanced = AudioHead {
                codec,
                content,
                track,
            };
            return Some((enhanced, head.body));
        }
        let codec = AudioCodec::Legacy(format);
        let (content, body) = match (codec, rest.split_first()) {
            (AudioCodec::AAC, None) => return None,
            (AudioCodec::AAC, Some((0, body))) => (AudioContent::SequenceHeader, body),
            (AudioCodec::AAC, Some((_, body))) => (AudioContent::Frame, body),
            _ => (AudioContent::Frame, rest),
        };
        let head = AudioHead {
            codec: Some(codec),
            content,
            track: 0,
        };
        Some((head, body))
    }
}
