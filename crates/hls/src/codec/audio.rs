//! The configuration of an audio decoder.

use bytes::Bytes;
use mp4_atom::{Ac3SpecificBox, Dops, OpusChannelMapping};
use rtmp_proto::wire::message::FourCc;
use rtmp_proto::wire::message::audio::AudioCodec;
use serde::{Deserialize, Serialize};

use super::atom_format;
use super::bits::Bits;

/// The configuration of an audio decoder, and what a playlist says of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct AudioConfig {
    pub(crate) format: AudioFormat,
    /// Samples per second; the timescale of the track.
    pub(crate) sample_rate: u32,
    pub(crate) channels: u16,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum AudioFormat {
    Aac(Aac),
    /// MPEG-1 or MPEG-2 audio, layer III (ISO/IEC 11172-3, 13818-3).
    Mp3,
    /// RFC 6716; the box of "Encapsulation of Opus in ISO Base Media File Format".
    Opus(#[serde(with = "atom_format")] Dops),
    /// ETSI TS 102 366.
    Ac3(#[serde(with = "atom_format")] Ac3SpecificBox),
}

/// AAC's `AudioSpecificConfig` (ISO/IEC 14496-3 §1.6.2.1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Aac {
    /// As it came.
    #[serde(with = "rtmp_proto::wire::bytes_format")]
    pub(crate) config: Bytes,
    /// The audio object type: 2 is AAC LC, 5 and 29 are HE-AAC.
    pub(crate) object_type: u8,
    /// The object type of what ADTS carries: without the extension of HE-AAC.
    pub(crate) core_object_type: u8,
    /// The core's sampling frequency index; 15 if it has none.
    pub(crate) frequency_index: u8,
    pub(crate) channel_configuration: u8,
    frame_samples: u32,
}

const FREQUENCIES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];
const EXPLICIT_FREQUENCY: u8 = 15;
const SBR: u8 = 5;
const PARAMETRIC_STEREO: u8 = 29;

impl AudioConfig {
    /// True if this codec's sound can be read.
    pub(crate) fn knows(codec: AudioCodec) -> bool {
        Kind::of(codec).is_some()
    }

    /// True if a decoder cannot do without this codec's sequence header.
    pub(crate) fn needs_sequence_header(codec: AudioCodec) -> bool {
        matches!(Kind::of(codec), Some(Kind::Aac | Kind::Opus))
    }

    /// Reads a sequence header's body; `None` if it is broken, or if the codec has none
    /// that is needed.
    pub(crate) fn parse(codec: AudioCodec, body: &Bytes) -> Option<Self> {
        match Kind::of(codec)? {
            Kind::Aac => parse_aac(body),
            Kind::Opus => parse_opus_head(body),
            Kind::Mp3 | Kind::Ac3 => None,
        }
    }

    /// What the head of a frame says, of codecs without a sequence header; else `None`.
    pub(crate) fn of_frame(codec: AudioCodec, frame: &[u8]) -> Option<Self> {
        match Kind::of(codec)? {
            Kind::Mp3 => {
                let head = Mp3Head::parse(frame)?;
                Some(AudioConfig {
                    format: AudioFormat::Mp3,
                    sample_rate: head.sample_rate,
                    channels: head.channels,
                })
            }
            Kind::Ac3 => parse_ac3(frame),
            Kind::Aac | Kind::Opus => None,
        }
    }

    /// True if it is of this codec.
    pub(crate) fn is_of(&self, codec: AudioCodec) -> bool {
        let kind = match &self.format {
            AudioFormat::Aac(_) => Kind::Aac,
            AudioFormat::Mp3 => Kind::Mp3,
            AudioFormat::Opus(_) => Kind::Opus,
            AudioFormat::Ac3(_) => Kind::Ac3,
        };
        Kind::of(codec) == Some(kind)
    }

    /// How many samples a frame decodes to.
    pub(crate) fn frame_samples(&self, frame: &[u8]) -> u32 {
        match &self.format {
            AudioFormat::Aac(aac) => aac.frame_samples,
            AudioFormat::Mp3 => Mp3Head::parse(frame).map_or(1152, |head| head.samples),
            AudioFormat::Opus(_) => opus_samples(frame),
            AudioFormat::Ac3(_) => 1536,
        }
    }

    /// The codec for `CODECS` (RFC 6381) in fragmented MP4.
    pub(crate) fn codecs(&self) -> String {
        match &self.format {
            AudioFormat::Aac(aac) => format!("mp4a.40.{}", aac.object_type),
            AudioFormat::Mp3 => "mp4a.6B".into(),
            AudioFormat::Opus(_) => "opus".into(),
            AudioFormat::Ac3(_) => "ac-3".into(),
        }
    }
}

/// The codecs whose sound can be read.
#[derive(PartialEq, Eq)]
enum Kind {
    Aac,
    Mp3,
    Opus,
    Ac3,
}

impl Kind {
    fn of(codec: AudioCodec) -> Option<Kind> {
        match codec {
            AudioCodec::AAC => Some(Kind::Aac),
            // 14 is MP3 at 8 kHz.
            AudioCodec::Legacy(2 | 14) => Some(Kind::Mp3),
            AudioCodec::FourCc(FourCc(code)) => match &code {
                b"mp4a" => Some(Kind::Aac),
                b".mp3" => Some(Kind::Mp3),
                b"Opus" => Some(Kind::Opus),
                b"ac-3" => Some(Kind::Ac3),
                _ => None,
            },
            AudioCodec::Legacy(_) => None,
        }
    }
}

fn parse_aac(config: &Bytes) -> Option<AudioConfig> {
    let mut bits = Bits::new(config);
    let object_type = read_object_type(&mut bits)?;
    let (frequency_index, sample_rate) = read_frequency(&mut bits)?;
    let channel_configuration = bits.read(4)? as u8;
    let mut core_object_type = object_type;
    if matches!(object_type, SBR | PARAMETRIC_STEREO) {
        read_frequency(&mut bits)?;
        core_object_type = read_object_type(&mut bits)?;
    }
    // `frameLengthFlag` of the GASpecificConfig, which these object types have.
    let short = matches!(core_object_type, 1..=4) && bits.flag().unwrap_or(false);
    let channels = match channel_configuration {
        // Told within a program config element, which decoders read.
        0 => 2,
        7 => 8,
        channels => channels.into(),
    };
    let format = AudioFormat::Aac(Aac {
        config: config.clone(),
        object_type,
        core_object_type,
        frequency_index,
        channel_configuration,
        frame_samples: if short { 960 } else { 1024 },
    });
    Some(AudioConfig {
        format,
        sample_rate,
        channels,
    })
}

fn read_object_type(bits: &mut Bits<'_>) -> Option<u8> {
    const ESCAPE: u32 = 31;
    let object_type = match bits.read(5)? {
        ESCAPE => 32 + bits.read(6)?,
        object_type => object_type,
    };
    u8::try_from(object_type).ok().filter(|&it| it > 0)
}

fn read_frequency(bits: &mut Bits<'_>) -> Option<(u8, u32)> {
    let index = bits.read(4)? as u8;
    let frequency = match index {
        EXPLICIT_FREQUENCY => bits.read(24)?,
        index => *FREQUENCIES.get(usize::from(index))?,
    };
    (7_000..=192_000)
        .contains(&frequency)
        .then_some((index, frequency))
}

/// The head of a frame of layer III (ISO/IEC 11172-3 §2.4.2.3, 13818-3 §2.4.2.3).
struct Mp3Head {
    sample_rate: u32,
    channels: u16,
    samples: u32,
}

impl Mp3Head {
    fn parse(frame: &[u8]) -> Option<Self> {
        const LAYER_3: u32 = 1;
        const MPEG_1: u32 = 3;
        const MPEG_2: u32 = 2;
        const MPEG_2_5: u32 = 0;
        const MONO: u32 = 3;
        let mut bits = Bits::new(frame);
        if bits.read(11)? != 0x7ff {
            return None;
        }
        let version = bits.read(2)?;
        if bits.read(2)? != LAYER_3 {
            return None;
        }
        bits.skip(1 + 4)?;
        let rate = [44_100, 48_000, 32_000].get(bits.read(2)? as usize)?;
        let (sample_rate, samples) = match version {
            MPEG_1 => (*rate, 1152),
            MPEG_2 => (rate / 2, 576),
            MPEG_2_5 => (rate / 4, 576),
            _ => return None,
        };
        bits.skip(2)?;
        let channels = if bits.read(2)? == MONO { 1 } else { 2 };
        Some(Mp3Head {
            sample_rate,
            channels,
            samples,
        })
    }
}

/// Opus's identification header (RFC 7845 §5.1), as Enhanced RTMP carries it.
fn parse_opus_head(head: &[u8]) -> Option<AudioConfig> {
    let rest = head.strip_prefix(b"OpusHead")?;
    let (
        &[
            version,
            channels,
            skip_low,
            skip_high,
            r0,
            r1,
            r2,
            r3,
            gain_low,
            gain_high,
            family,
        ],
        table,
    ) = rest.split_first_chunk()?;
    if version >> 4 != 0 || channels == 0 {
        return None;
    }
    let channel_mapping = match family {
        0 if channels <= 2 => None,
        0 => return None,
        family => {
            let (&[stream_count, coupled_count], mapping) = table.split_first_chunk()?;
            Some(OpusChannelMapping {
                family,
                stream_count,
                coupled_count,
                channel_mapping: mapping.get(..channels.into())?.to_vec(),
            })
        }
    };
    let format = AudioFormat::Opus(Dops {
        output_channel_count: channels,
        pre_skip: u16::from_le_bytes([skip_low, skip_high]),
        input_sample_rate: u32::from_le_bytes([r0, r1, r2, r3]),
        output_gain: i16::from_le_bytes([gain_low, gain_high]),
        channel_mapping,
    });
    Some(AudioConfig {
        format,
        sample_rate: OPUS_RATE,
        channels: channels.into(),
    })
}

/// Opus counts in this rate, whatever its input had (RFC 7845 §4).
const OPUS_RATE: u32 = 48_000;

/// The samples of a packet of Opus at 48 kHz (RFC 6716 §3.1).
fn opus_samples(packet: &[u8]) -> u32 {
    let Some(&toc) = packet.first() else {
        return 0;
    };
    let frame = match toc >> 3 {
        config @ 0..=11 => [480, 960, 1920, 2880][usize::from(config % 4)],
        config @ 12..=15 => [480, 960][usize::from(config % 2)],
        config => [120, 240, 480, 960][usize::from(config % 4)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => packet.get(1).map_or(1, |count| u32::from(count & 0x3f)),
    };
    const MAX_PACKET: u32 = OPUS_RATE * 120 / 1000;
    (frame * frames).min(MAX_PACKET)
}

/// The head of a frame of AC-3 (ETSI TS 102 366 §4.3, annex F.4).
fn parse_ac3(frame: &[u8]) -> Option<AudioConfig> {
    let mut bits = Bits::new(frame);
    if bits.read(16)? != 0x0b77 {
        return None;
    }
    bits.skip(16)?;
    let fscod = bits.read(2)? as u8;
    let frame_size_code = bits.read(6)? as u8;
    let bsid = bits.read(5)? as u8;
    let bsmod = bits.read(3)? as u8;
    let acmod = bits.read(3)? as u8;
    let sample_rate = *[48_000, 44_100, 32_000].get(usize::from(fscod))?;
    if bsid > 8 || frame_size_code > 37 {
        return None;
    }
    // Mix levels, each where the channels make it needed.
    if acmod & 1 != 0 && acmod != 1 {
        bits.skip(2)?;
    }
    if acmod & 4 != 0 {
        bits.skip(2)?;
    }
    if acmod == 2 {
        bits.skip(2)?;
    }
    let lfeon = bits.flag()?;
    let channels = [2, 1, 2, 3, 3, 4, 4, 5][usize::from(acmod)] + u16::from(lfeon);
    let format = AudioFormat::Ac3(Ac3SpecificBox {
        fscod,
        bsid,
        bsmod,
        acmod,
        lfeon,
        bit_rate_code: frame_size_code / 2,
    });
    Some(AudioConfig {
        format,
        sample_rate,
        channels,
    })
}
