//! Fragmented MP4 (ISO/IEC 14496-12) as CMAF wants it (ISO/IEC 23000-19): a header for
//! `EXT-X-MAP`, and fragments of a `moof` and a `mdat`, one for each part.

use mp4_atom::{
    Audio, Av01, Avc1, Codec, Dinf, Dref, Encode, FourCC, Ftyp, Hdlr, Hvc1, Mdhd, Mdia, Mfhd, Minf,
    Moof, Moov, Mp4a, Mvex, Mvhd, Smhd, Stbl, Stco, Stsd, Tfdt, Tfhd, Tkhd, Traf, Trak, Trex, Trun,
    TrunEntry, Url, Visual, Vmhd, Vp09, esds,
};

use crate::codec::{AudioConfig, AudioFormat, Resolution, VideoConfig, VideoFormat};
use crate::segmenter::track::{Sample, VIDEO_TIMESCALE};

const VIDEO_TRACK: u32 = 1;
const AUDIO_TRACK: u32 = 2;

/// Sample flags (ISO/IEC 14496-12 §8.8.3.1): it depends on no other.
const INDEPENDENT: u32 = 0x0200_0000;
/// It depends on others, and is no sync sample.
const DEPENDENT: u32 = 0x0101_0000;

/// MP4's object types of `esds` (ISO/IEC 14496-1 §7.2.6.6).
const OBJECT_AAC: u8 = 0x40;
const OBJECT_MP3: u8 = 0x6b;

/// The header of a segment's tracks: `ftyp` and `moov`.
///
/// # Errors
/// A track's configuration has values that no box can hold.
pub(crate) fn header(
    video: Option<&VideoConfig>,
    audio: Option<&AudioConfig>,
) -> mp4_atom::Result<Vec<u8>> {
    let ftyp = Ftyp {
        major_brand: FourCC::new(b"iso6"),
        minor_version: 0,
        compatible_brands: vec![FourCC::new(b"iso6"), FourCC::new(b"cmfc")],
    };
    let trak = video
        .map(video_track)
        .into_iter()
        .chain(audio.map(audio_track));
    let trak: Vec<Trak> = trak.collect();
    let moov = Moov {
        mvhd: Mvhd {
            timescale: 1000,
            rate: 1.into(),
            volume: 1.into(),
            next_track_id: AUDIO_TRACK + 1,
            ..Mvhd::default()
        },
        mvex: Some(Mvex {
            mehd: None,
            trex: trak
                .iter()
                .map(|trak| defaults(trak.tkhd.track_id))
                .collect(),
        }),
        trak,
        ..Moov::default()
    };
    let mut out = Vec::new();
    ftyp.encode(&mut out)?;
    moov.encode(&mut out)?;
    Ok(out)
}

fn defaults(track_id: u32) -> Trex {
    Trex {
        track_id,
        default_sample_description_index: 1,
        default_sample_flags: if track_id == AUDIO_TRACK {
            INDEPENDENT
        } else {
            DEPENDENT
        },
        ..Trex::default()
    }
}

fn video_track(config: &VideoConfig) -> Trak {
    let (width, height) = match config.resolution {
        Some(Resolution { width, height }) => (width, height),
        None => (0, 0),
    };
    let visual = Visual {
        data_reference_index: 1,
        width,
        height,
        ..Visual::default()
    };
    let codec = match config.format.clone() {
        VideoFormat::Avc(avcc) => Codec::Avc1(Avc1 {
            visual,
            avcc,
            ..Avc1::default()
        }),
        VideoFormat::Hevc(hvcc) => Codec::Hvc1(Hvc1 {
            visual,
            hvcc,
            ..Hvc1::default()
        }),
        VideoFormat::Av1(av1c) => Codec::Av01(Av01 {
            visual,
            av1c,
            ..Av01::default()
        }),
        VideoFormat::Vp9(vpcc) => Codec::Vp09(Vp09 {
            visual,
            vpcc,
            ..Vp09::default()
        }),
    };
    let tkhd = Tkhd {
        width: width.into(),
        height: height.into(),
        ..track_header(VIDEO_TRACK)
    };
    let vmhd = Some(Vmhd::default());
    let minf = Minf {
        vmhd,
        ..media_information(codec)
    };
    track(tkhd, VIDEO_TIMESCALE, b"vide", minf)
}

fn audio_track(config: &AudioConfig) -> Trak {
    let audio = Audio {
        data_reference_index: 1,
        channel_count: config.channels,
        sample_size: 16,
        // It has 16 bits; a higher rate stands in the decoder's configuration only.
        sample_rate: u16::try_from(config.sample_rate).unwrap_or(0).into(),
    };
    let codec = match &config.format {
        AudioFormat::Aac(aac) => mp4a(audio, OBJECT_AAC, Some(&aac.config)),
        AudioFormat::Mp3 => mp4a(audio, OBJECT_MP3, None),
        AudioFormat::Opus(dops) => Codec::Opus(mp4_atom::Opus {
            audio,
            dops: dops.clone(),
            btrt: None,
        }),
        AudioFormat::Ac3(dac3) => Codec::Ac3(mp4_atom::Ac3 {
            audio,
            dac3: dac3.clone(),
        }),
    };
    let tkhd = Tkhd {
        volume: 1.into(),
        ..track_header(AUDIO_TRACK)
    };
    let smhd = Some(Smhd::default());
    let minf = Minf {
        smhd,
        ..media_information(codec)
    };
    track(tkhd, config.sample_rate, b"soun", minf)
}

fn mp4a(audio: Audio, object_type_indication: u8, config: Option<&[u8]>) -> Codec {
    const AUDIO_STREAM: u8 = 5;
    let es_desc = esds::EsDescriptor {
        dec_config: esds::DecoderConfig {
            object_type_indication,
            stream_type: AUDIO_STREAM,
            dec_specific: config.map(|config| esds::DecoderSpecific {
                raw: config.to_vec(),
                ..Default::default()
            }),
            ..Default::default()
        },
        ..Default::default()
    };
    Codec::Mp4a(Mp4a {
        audio,
        esds: mp4_atom::Esds { es_desc },
        btrt: None,
        taic: None,
    })
}

fn track_header(track_id: u32) -> Tkhd {
    Tkhd {
        track_id,
        enabled: true,
        in_movie: true,
        ..Tkhd::default()
    }
}

fn media_information(codec: Codec) -> Minf {
    Minf {
        dinf: Dinf {
            dref: Dref {
                entries: vec![Url::default().into()],
            },
        },
        stbl: Stbl {
            stsd: Stsd {
                codecs: vec![codec],
            },
            stco: Some(Stco::default()),
            ..Stbl::default()
        },
        ..Minf::default()
    }
}

fn track(tkhd: Tkhd, timescale: u32, handler: &[u8; 4], minf: Minf) -> Trak {
    Trak {
        tkhd,
        mdia: Mdia {
            mdhd: Mdhd {
                timescale,
                language: "und".into(),
                ..Mdhd::default()
            },
            hdlr: Hdlr {
                handler: FourCC::new(handler),
                name: String::new(),
            },
            minf,
        },
        ..Trak::default()
    }
}

/// A fragment of these samples, of which at least one kind is not empty. `sequence` rises
/// from fragment to fragment.
pub(crate) fn fragment(sequence: u32, video: &[Sample], audio: &[Sample]) -> Vec<u8> {
    let runs = [(VIDEO_TRACK, video), (AUDIO_TRACK, audio)];
    let runs = runs.iter().filter(|(_, samples)| !samples.is_empty());
    let mut moof = Moof {
        mfhd: Mfhd {
            sequence_number: sequence,
        },
        traf: runs
            .clone()
            .map(|(track_id, samples)| fragment_of_track(*track_id, samples))
            .collect(),
    };
    let data = bytes(video) + bytes(audio);
    let mut out = Vec::with_capacity(MOOF_BYTES + (video.len() + audio.len()) * 16 + data);
    // Once to know its length, which the offsets do not change.
    encode(&moof, &mut out);
    let mut offset = out.len() + MDAT_HEADER_BYTES;
    for (traf, (_, samples)) in moof.traf.iter_mut().zip(runs) {
        traf.trun[0].data_offset = Some(i32::try_from(offset).expect("a part is bounded"));
        offset += bytes(samples);
    }
    out.clear();
    encode(&moof, &mut out);
    let size = u32::try_from(MDAT_HEADER_BYTES + data).expect("a part is bounded");
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(b"mdat");
    for sample in video.iter().chain(audio) {
        out.extend_from_slice(&sample.data);
    }
    out
}

const MDAT_HEADER_BYTES: usize = 8;
/// A `moof` of two tracks without samples takes this at most.
const MOOF_BYTES: usize = 200;

fn encode(moof: &Moof, out: &mut Vec<u8>) {
    moof.encode(out).expect("a part is bounded");
}

fn bytes(samples: &[Sample]) -> usize {
    samples.iter().map(|sample| sample.data.len()).sum()
}

fn fragment_of_track(track_id: u32, samples: &[Sample]) -> Traf {
    let is_video = track_id == VIDEO_TRACK;
    let composed = samples.iter().any(|sample| sample.composition != 0);
    let entries = samples.iter().map(|sample| TrunEntry {
        duration: Some(sample.duration.unwrap_or_default()),
        size: Some(u32::try_from(sample.data.len()).expect("a part is bounded")),
        flags: is_video.then_some(match sample.keyframe {
            true => INDEPENDENT,
            false => DEPENDENT,
        }),
        cts: composed.then_some(sample.composition.into()),
    });
    Traf {
        tfhd: Tfhd {
            track_id,
            default_base_is_moof: true,
            ..Tfhd::default()
        },
        tfdt: samples.first().map(|first| Tfdt {
            base_media_decode_time: first.dts,
        }),
        trun: vec![Trun {
            data_offset: Some(0),
            samples: entries.collect::<Vec<_>>().into(),
        }],
        ..Traf::default()
    }
}
