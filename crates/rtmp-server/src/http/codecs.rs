//! `video` and `audio` of a stream, with SRS's names (`srs_kernel_codec.cpp`).
//!
//! A sequence header is read when somebody asks, not when it comes.

use hls::codec::{AudioDescription, VideoDescription};
use rtmp_proto::wire::media::{Codec, MediaClass};
use serde::Serialize;

use crate::stream::{Header, Stream};

/// Name of whatever SRS has no name for.
const OTHER: &str = "Other";

/// The video of a stream.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct VideoReport {
    codec: String,
    profile: &'static str,
    level: String,
    /// In pixels; 0 if the sequence header does not say it.
    width: u16,
    height: u16,
}

/// The sound of a stream.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct AudioReport {
    codec: String,
    /// Samples a second; 0 if there is no sequence header that says it.
    sample_rate: u32,
    channel: u16,
    profile: &'static str,
}

/// The video and the sound of `stream`, as far as it has them.
pub(super) fn of_stream(stream: &Stream) -> (Option<VideoReport>, Option<AudioReport>) {
    let media = stream.media();
    let headers = stream.headers();
    let header =
        |is_wanted: fn(MediaClass) -> bool| headers.since(0).find(|header| is_wanted(header.class));
    let video = header(|class| matches!(class, MediaClass::VideoSequenceHeader { .. }));
    let audio = header(|class| matches!(class, MediaClass::AudioSequenceHeader { .. }));
    (
        media.video.then(|| VideoReport::new(video)),
        media.audio.then(|| AudioReport::new(audio)),
    )
}

impl VideoReport {
    fn new(header: Option<&Header>) -> Self {
        let description = header.and_then(|it| VideoDescription::of_sequence_header(&it.payload));
        let codec = codec_name(header);
        let (profile, level) = match (&*codec, description) {
            ("H264", Some(it)) => (avc_profile(it.profile), avc_level(it.level)),
            ("HEVC", Some(it)) => (hevc_profile(it.profile), hevc_level(it.level)),
            _ => (OTHER, OTHER.to_owned()),
        };
        let resolution = description.and_then(|it| it.resolution);
        Self {
            codec,
            profile,
            level,
            width: resolution.map_or(0, |it| it.width),
            height: resolution.map_or(0, |it| it.height),
        }
    }
}

impl AudioReport {
    fn new(header: Option<&Header>) -> Self {
        let description = header.and_then(|it| AudioDescription::of_sequence_header(&it.payload));
        Self {
            codec: codec_name(header),
            sample_rate: description.map_or(0, |it| it.sample_rate),
            channel: description.map_or(0, |it| it.channels),
            profile: match description.and_then(|it| it.object_type) {
                Some(1) => "Main",
                Some(2) => "LC",
                Some(3) => "SSR",
                Some(5) => "HE",
                Some(29) => "HEv2",
                _ => OTHER,
            },
        }
    }
}

/// SRS's name of a header's codec, ours where SRS has none.
fn codec_name(header: Option<&Header>) -> String {
    let name = header.and_then(|it| it.codec).map(|it| match it.codec {
        Codec::Video(codec) => codec.name(),
        Codec::Audio(codec) => codec.name(),
    });
    match name.as_deref() {
        Some("H265") => "HEVC".to_owned(),
        Some(name) => name.to_owned(),
        None => OTHER.to_owned(),
    }
}

/// `profile_idc` of ITU-T H.264 Annex A.
fn avc_profile(number: u8) -> &'static str {
    match number {
        66 => "Baseline",
        77 => "Main",
        88 => "Extended",
        100 => "High",
        110 => "High(10)",
        122 => "High(422)",
        144 => "High(444)",
        244 => "High(444+Predictive)",
        _ => OTHER,
    }
}

/// `level_idc` of ITU-T H.264 Annex A: ten times the level.
fn avc_level(number: u8) -> String {
    level(number / 10, number % 10)
}

/// `general_profile_idc` of ITU-T H.265 Annex A.
fn hevc_profile(number: u8) -> &'static str {
    match number {
        1 => "Main",
        2 => "Main10",
        3 => "Main Still Picture",
        4 => "Rext",
        _ => OTHER,
    }
}

/// `general_level_idc` of ITU-T H.265 Annex A: thirty times the level.
fn hevc_level(number: u8) -> String {
    level(number / 30, number % 30 / 3)
}

/// `3.1`, and `3` of 3.0.
fn level(major: u8, minor: u8) -> String {
    match (major, minor) {
        (0, _) => OTHER.to_owned(),
        (major, 0) => major.to_string(),
        (major, minor) => format!("{major}.{minor}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_and_levels_have_srss_names() {
        for (number, name) in [(10, "1"), (31, "3.1"), (40, "4"), (51, "5.1"), (0, OTHER)] {
            assert_eq!(avc_level(number), name);
        }
        for (number, name) in [
            (30, "1"),
            (63, "2.1"),
            (93, "3.1"),
            (120, "4"),
            (186, "6.2"),
        ] {
            assert_eq!(hevc_level(number), name);
        }
        assert_eq!((avc_profile(100), avc_profile(1)), ("High", OTHER));
        assert_eq!((hevc_profile(2), hevc_profile(9)), ("Main10", OTHER));
    }
}
