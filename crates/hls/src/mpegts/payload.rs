//! Elementary streams: pictures in Annex B, sound in ADTS.

use crate::codec::{Aac, AudioConfig, AudioFormat, VideoConfig, VideoFormat};
use crate::segmenter::track::Sample;

const START_CODE: [u8; 4] = [0, 0, 0, 1];
/// The longest frame that ADTS can tell, with its header.
const MAX_ADTS_BYTES: usize = 0x1fff;
const ADTS_HEADER_BYTES: usize = 7;

/// The NAL units of H.264 (ITU-T H.264 table 7-1) or H.265 (table 7-1) that are looked for.
struct Kinds {
    delimiter: u8,
    /// An access unit delimiter that allows for any slices.
    delimiter_unit: &'static [u8],
    /// A sequence parameter set.
    sequence: u8,
    kind: fn(u8) -> u8,
}

const H264: Kinds = Kinds {
    delimiter: 9,
    delimiter_unit: &[0x09, 0xf0],
    sequence: 7,
    kind: |header| header & 0x1f,
};

const H265: Kinds = Kinds {
    delimiter: 35,
    delimiter_unit: &[0x46, 0x01, 0x50],
    sequence: 33,
    kind: |header| header >> 1 & 0x3f,
};

/// Appends a picture's NAL units behind start codes (H.264 annex B), a delimiter before
/// them, and the parameter sets before a keyframe that has none with it.
pub(super) fn append_annex_b(config: &VideoConfig, picture: &Sample, out: &mut Vec<u8>) {
    let kinds = match config.format {
        VideoFormat::Hevc(_) => &H265,
        _ => &H264,
    };
    let length_bytes = config.nal_length_bytes().unwrap_or(4);
    let kind = |unit: &[u8]| unit.first().map_or(0, |&header| (kinds.kind)(header));
    let units = || NalUnits {
        rest: &picture.data,
        length_bytes,
    };
    append_unit(kinds.delimiter_unit, out);
    if picture.keyframe && !units().any(|unit| kind(unit) == kinds.sequence) {
        for set in config.parameter_sets() {
            append_unit(set, out);
        }
    }
    for unit in units().filter(|unit| kind(unit) != kinds.delimiter) {
        append_unit(unit, out);
    }
}

fn append_unit(unit: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&START_CODE);
    out.extend_from_slice(unit);
}

/// The NAL units of a sample, each behind its length. What is cut off is no unit.
struct NalUnits<'a> {
    rest: &'a [u8],
    length_bytes: usize,
}

impl<'a> Iterator for NalUnits<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let (length, rest) = self.rest.split_at_checked(self.length_bytes)?;
            let length = length
                .iter()
                .fold(0, |all, &byte| all << 8 | usize::from(byte));
            let (unit, rest) = rest.split_at_checked(length)?;
            self.rest = rest;
            if !unit.is_empty() {
                return Some(unit);
            }
        }
    }
}

/// True if ADTS has numbers for this configuration (ISO/IEC 14496-3 §1.A.2.2).
pub(super) fn fits_adts(aac: &Aac) -> bool {
    (1..=4).contains(&aac.core_object_type)
        && aac.frequency_index < 13
        && aac.channel_configuration < 8
}

/// The stream id of sound (ISO/IEC 13818-1 table 2-22): AC-3 is a private stream (ETSI TS 101
/// 154 §6.2).
pub(super) fn sound_stream_id(config: &AudioConfig) -> u8 {
    match config.format {
        AudioFormat::Ac3(_) => 0xbd,
        _ => 0xc0,
    }
}

/// Appends a frame of sound.
pub(super) fn append_sound(config: &AudioConfig, frame: &[u8], out: &mut Vec<u8>) {
    if let AudioFormat::Aac(aac) = &config.format {
        let length = frame.len() + ADTS_HEADER_BYTES;
        if length > MAX_ADTS_BYTES {
            return;
        }
        out.extend_from_slice(&adts_header(aac, length));
    }
    out.extend_from_slice(frame);
}

/// ISO/IEC 14496-3 §1.A.2.2.1, without a checksum. `length` has 13 bits.
fn adts_header(aac: &Aac, length: usize) -> [u8; ADTS_HEADER_BYTES] {
    let channels = aac.channel_configuration;
    [
        0xff,
        0xf1,
        (aac.core_object_type - 1) << 6 | aac.frequency_index << 2 | channels >> 2,
        (channels & 3) << 6 | (length >> 11) as u8,
        (length >> 3) as u8,
        (length << 5) as u8 | 0x1f,
        0xfc,
    ]
}
