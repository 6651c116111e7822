//! The configuration of a video decoder.

use std::fmt::Write;

use mp4_atom::{Atom, Av1c, Avcc, Hvcc, VpcC};
use rtmp_proto::wire::message::FourCc;
use rtmp_proto::wire::message::video::VideoCodec;
use serde::{Deserialize, Serialize};

use super::{Resolution, atom_format, size};

/// The configuration of a video decoder, and what a playlist says of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct VideoConfig {
    pub(crate) format: VideoFormat,
    /// `None` if its sequence header does not say it.
    pub(crate) resolution: Option<Resolution>,
}

/// The decoder configuration record of each codec, as its container's box has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum VideoFormat {
    /// H.264 (ISO/IEC 14496-15 §5.3.3.1).
    Avc(#[serde(with = "atom_format")] Avcc),
    /// H.265 (ISO/IEC 14496-15 §8.3.3.1).
    Hevc(#[serde(with = "atom_format")] Hvcc),
    /// AV1 (AV1 Codec ISO Media File Format Binding §2.3).
    Av1(#[serde(with = "atom_format")] Av1c),
    /// VP9 (VP Codec ISO Media File Format Binding).
    Vp9(#[serde(with = "atom_format")] VpcC),
}

/// The kinds of NAL units that are asked for (ITU-T H.264 table 7-1, H.265 table 7-1).
const H264_SPS: u8 = 7;
const H265_VPS: u8 = 32;
const H265_SPS: u8 = 33;
const H265_PPS: u8 = 34;

impl VideoConfig {
    /// True if sequence headers of this codec can be read.
    pub(crate) fn knows(codec: VideoCodec) -> bool {
        Kind::of(codec).is_some()
    }

    /// Reads a sequence header's body; `None` if it is broken or of another codec.
    pub(crate) fn parse(codec: VideoCodec, mut body: &[u8]) -> Option<Self> {
        let body = &mut body;
        let format = match Kind::of(codec)? {
            Kind::Avc => VideoFormat::Avc(Avcc::decode_body(body).ok()?),
            Kind::Hevc => VideoFormat::Hevc(Hvcc::decode_body(body).ok()?),
            Kind::Av1 => VideoFormat::Av1(Av1c::decode_body(body).ok()?),
            Kind::Vp9 => VideoFormat::Vp9(parse_vpcc(body)?),
        };
        let resolution = match &format {
            VideoFormat::Avc(avcc) => {
                let sets = &avcc.sequence_parameter_sets;
                let set = sets.iter().find(|set| unit_kind_h264(set) == H264_SPS)?;
                size::of_h264(set)
            }
            VideoFormat::Hevc(hvcc) => {
                let mut sets = hvcc.arrays.iter().filter(|it| it.nal_unit_type == H265_SPS);
                size::of_h265(sets.find_map(|array| array.nalus.first())?)
            }
            VideoFormat::Av1(av1c) => size::of_av1(&av1c.config_obus),
            VideoFormat::Vp9(_) => None,
        };
        Some(VideoConfig { format, resolution })
    }

    /// True if it is of this codec.
    pub(crate) fn is_of(&self, codec: VideoCodec) -> bool {
        let kind = match &self.format {
            VideoFormat::Avc(_) => Kind::Avc,
            VideoFormat::Hevc(_) => Kind::Hevc,
            VideoFormat::Av1(_) => Kind::Av1,
            VideoFormat::Vp9(_) => Kind::Vp9,
        };
        Kind::of(codec) == Some(kind)
    }

    /// Takes the size from a keyframe, where only that has it.
    pub(crate) fn learn_from(&mut self, keyframe: &[u8]) {
        if matches!(self.format, VideoFormat::Vp9(_)) && self.resolution.is_none() {
            self.resolution = size::of_vp9(keyframe);
        }
    }

    /// The codec for `CODECS` (RFC 6381, and the bindings of AV1 and VP9).
    pub(crate) fn codecs(&self) -> String {
        match &self.format {
            VideoFormat::Avc(avcc) => format!(
                "avc1.{:02x}{:02x}{:02x}",
                avcc.avc_profile_indication, avcc.profile_compatibility, avcc.avc_level_indication
            ),
            VideoFormat::Hevc(hvcc) => codecs_of_hevc(hvcc),
            VideoFormat::Av1(av1c) => {
                let depth = match (av1c.high_bitdepth, av1c.twelve_bit) {
                    (true, true) => 12,
                    (true, false) => 10,
                    _ => 8,
                };
                let tier = if av1c.seq_tier_0 { 'H' } else { 'M' };
                let (profile, level) = (av1c.seq_profile, av1c.seq_level_idx_0);
                format!("av01.{profile}.{level:02}{tier}.{depth:02}")
            }
            VideoFormat::Vp9(vpcc) => {
                let (profile, level, depth) = (vpcc.profile, vpcc.level, vpcc.bit_depth);
                format!("vp09.{profile:02}.{level:02}.{depth:02}")
            }
        }
    }

    /// The bytes of a NAL unit's length; `None` if the codec has no NAL units.
    pub(crate) fn nal_length_bytes(&self) -> Option<usize> {
        match &self.format {
            VideoFormat::Avc(avcc) => Some(avcc.length_size.into()),
            VideoFormat::Hevc(hvcc) => Some(usize::from(hvcc.length_size_minus_one & 3) + 1),
            VideoFormat::Av1(_) | VideoFormat::Vp9(_) => None,
        }
    }

    /// The parameter sets, in the order in which a decoder needs them.
    pub(crate) fn parameter_sets(&self) -> Vec<&[u8]> {
        match &self.format {
            VideoFormat::Avc(avcc) => {
                let sets = avcc.sequence_parameter_sets.iter();
                let sets = sets.chain(&avcc.picture_parameter_sets);
                sets.map(Vec::as_slice).collect()
            }
            VideoFormat::Hevc(hvcc) => {
                let of_kind = |kind| {
                    hvcc.arrays
                        .iter()
                        .filter(move |it| it.nal_unit_type == kind)
                };
                let arrays = [H265_VPS, H265_SPS, H265_PPS].into_iter().flat_map(of_kind);
                let units = arrays.flat_map(|array| &array.nalus);
                units.map(Vec::as_slice).collect()
            }
            VideoFormat::Av1(_) | VideoFormat::Vp9(_) => Vec::new(),
        }
    }
}

/// The codecs whose sequence headers can be read.
#[derive(PartialEq, Eq)]
enum Kind {
    Avc,
    Hevc,
    Av1,
    Vp9,
}

impl Kind {
    fn of(codec: VideoCodec) -> Option<Kind> {
        match codec {
            VideoCodec::AVC => Some(Kind::Avc),
            VideoCodec::HEVC => Some(Kind::Hevc),
            VideoCodec::FourCc(FourCc(code)) => match &code {
                b"avc1" => Some(Kind::Avc),
                b"hvc1" => Some(Kind::Hevc),
                b"av01" => Some(Kind::Av1),
                b"vp09" => Some(Kind::Vp9),
                _ => None,
            },
            VideoCodec::Legacy(_) => None,
        }
    }
}

/// `vpcC`'s content. Enhanced RTMP has it with the version and the flags of a full box;
/// some leave them out.
fn parse_vpcc(body: &[u8]) -> Option<VpcC> {
    const VERSION_AND_FLAGS: [u8; 4] = [1, 0, 0, 0];
    if body.starts_with(&VERSION_AND_FLAGS) {
        return VpcC::decode_body(&mut &body[..]).ok();
    }
    let full = [&VERSION_AND_FLAGS, body].concat();
    VpcC::decode_body(&mut full.as_slice()).ok()
}

fn unit_kind_h264(unit: &[u8]) -> u8 {
    unit.first().map_or(0, |header| header & 0x1f)
}

/// ISO/IEC 14496-15 annex E.3.
fn codecs_of_hevc(hvcc: &Hvcc) -> String {
    let space = ["", "A", "B", "C"][usize::from(hvcc.general_profile_space & 3)];
    let compatibility = u32::from_be_bytes(hvcc.general_profile_compatibility_flags);
    let tier = if hvcc.general_tier_flag { 'H' } else { 'L' };
    let mut text = format!(
        "hvc1.{space}{}.{:X}.{tier}{}",
        hvcc.general_profile_idc,
        compatibility.reverse_bits(),
        hvcc.general_level_idc
    );
    let constraints = hvcc.general_constraint_indicator_flags;
    let used = constraints.iter().rposition(|&byte| byte != 0);
    for byte in &constraints[..used.map_or(0, |last| last + 1)] {
        // Writing to a string cannot fail.
        let _ = write!(text, ".{byte:X}");
    }
    text
}
