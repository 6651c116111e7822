//! What a sequence header says of its stream, for people.

use bytes::Bytes;
use rtmp_proto::wire::message::audio::AudioHead;
use rtmp_proto::wire::message::video::VideoHead;

use super::{AudioConfig, AudioFormat, Resolution, VideoConfig, VideoFormat};

/// The video of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoDescription {
    /// The profile's number (`profile_idc`, `general_profile_idc`, `seq_profile`).
    pub profile: u8,
    /// The level's number (`level_idc`, `general_level_idc`, `seq_level_idx`).
    pub level: u8,
    /// `None` if the sequence header does not say it.
    pub resolution: Option<Resolution>,
}

impl VideoDescription {
    /// Reads the payload of a sequence header's message; `None` if it is broken, or of a
    /// codec that is not known here.
    #[must_use]
    pub fn of_sequence_header(payload: &[u8]) -> Option<Self> {
        let (head, body) = VideoHead::parse_with_body(payload)?;
        let config = VideoConfig::parse(head.codec?, body.data)?;
        let (profile, level) = match &config.format {
            VideoFormat::Avc(avcc) => (avcc.avc_profile_indication, avcc.avc_level_indication),
            VideoFormat::Hevc(hvcc) => (hvcc.general_profile_idc, hvcc.general_level_idc),
            VideoFormat::Av1(av1c) => (av1c.seq_profile, av1c.seq_level_idx_0),
            VideoFormat::Vp9(vpcc) => (vpcc.profile, vpcc.level),
        };
        Some(Self {
            profile,
            level,
            resolution: config.resolution,
        })
    }
}

/// The sound of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioDescription {
    /// Samples a second.
    pub sample_rate: u32,
    /// Channels.
    pub channels: u16,
    /// AAC's audio object type; `None` for other codecs.
    pub object_type: Option<u8>,
}

impl AudioDescription {
    /// Reads the payload of a sequence header's message; `None` if it is broken, or of a
    /// codec without sequence headers.
    #[must_use]
    pub fn of_sequence_header(payload: &[u8]) -> Option<Self> {
        let (head, body) = AudioHead::parse_with_body(payload)?;
        let config = AudioConfig::parse(head.codec?, &Bytes::copy_from_slice(body))?;
        Some(Self {
            sample_rate: config.sample_rate,
            channels: config.channels,
            object_type: match &config.format {
                AudioFormat::Aac(aac) => Some(aac.object_type),
                AudioFormat::Mp3 | AudioFormat::Opus(_) | AudioFormat::Ac3(_) => None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// x264's for 320x180, High profile, level 1.2, as ffmpeg sends it.
    const AVC: &[u8] =
        b"\x17\x00\x00\x00\x00\x01\x64\x00\x0c\xff\xe1\x00\x1a\x67\x64\x00\x0c\xac\xd9\x41\
        \x41\x9f\x9f\x01\x10\x00\x00\x03\x00\x10\x00\x00\x03\x03\x20\xf1\x42\x99\x60\x01\
        \x00\x06\x68\xeb\xe3\xcb\x22\xc0\xfd\xf8\xf8\x00";

    #[test]
    fn a_sequence_header_tells_profile_level_and_size() {
        let video = VideoDescription::of_sequence_header(AVC).unwrap();
        assert_eq!((video.profile, video.level), (100, 12));
        assert_eq!(video.resolution.unwrap().to_string(), "320x180");
        let audio = AudioDescription::of_sequence_header(&[0xaf, 0, 0x12, 0x10]).unwrap();
        assert_eq!(
            (audio.sample_rate, audio.channels, audio.object_type),
            (44_100, 2, Some(2))
        );
        assert_eq!(VideoDescription::of_sequence_header(&AVC[..12]), None);
        assert_eq!(AudioDescription::of_sequence_header(&[0xaf, 0]), None);
        assert_eq!(AudioDescription::of_sequence_header(&[]), None);
    }
}
