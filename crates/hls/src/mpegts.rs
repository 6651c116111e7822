//! MPEG-TS (ISO/IEC 13818-1) as HLS wants it (RFC 8216 §3.2): one program, whose tables
//! stand at the begin of each segment.

mod packet;
mod payload;

use serde::{Deserialize, Serialize};

use packet::{AUDIO_PID, Counters, PMT_PID, VIDEO_PID};

use crate::codec::{AudioConfig, AudioFormat, VideoConfig, VideoFormat};
use crate::segmenter::track::{Sample, TICKS_PER_MS, Ticks, VIDEO_TIMESCALE};
use crate::segmenter::writer::Tracks;

/// Added to all times, so that the clock is not below zero at the begin of a stream.
const OFFSET: Ticks = 1000 * TICKS_PER_MS;
/// The program clock is behind decoding by this, as decoders want data before its time.
const CLOCK_DELAY: Ticks = 100 * TICKS_PER_MS;
/// Frames of sound share a PES packet of this duration: the program clock is to be
/// repeated within 100 ms (ISO/IEC 13818-1 §2.7.2).
const MAX_SOUND_MS: u32 = 90;

/// True if there is a stream type for the codec.
pub(crate) fn carries_video(config: &VideoConfig) -> bool {
    video_stream_type(config).is_some()
}

/// True if there is a stream type for the codec.
pub(crate) fn carries_audio(config: &AudioConfig) -> bool {
    audio_stream_type(config).is_some()
}

/// ISO/IEC 13818-1 table 2-34.
fn video_stream_type(config: &VideoConfig) -> Option<u8> {
    match config.format {
        VideoFormat::Avc(_) => Some(0x1b),
        VideoFormat::Hevc(_) => Some(0x24),
        VideoFormat::Av1(_) | VideoFormat::Vp9(_) => None,
    }
}

/// ISO/IEC 13818-1 table 2-34; 0x81 is ATSC A/52's.
fn audio_stream_type(config: &AudioConfig) -> Option<u8> {
    const MPEG1_RATES: u32 = 32_000;
    match &config.format {
        AudioFormat::Aac(aac) => payload::fits_adts(aac).then_some(0x0f),
        AudioFormat::Mp3 if config.sample_rate >= MPEG1_RATES => Some(0x03),
        AudioFormat::Mp3 => Some(0x04),
        AudioFormat::Ac3(_) => Some(0x81),
        AudioFormat::Opus(_) => None,
    }
}

/// Writes the packets of one stream. Counters go on from segment to segment.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Multiplexer {
    counters: Counters,
    /// The stream types of the newest program map, and its version.
    map: Option<(Option<u8>, Option<u8>)>,
    version: u8,
}

impl Multiplexer {
    /// The packets of these samples, with the tables before them if they are the `first` of
    /// a segment.
    pub(crate) fn write(
        &mut self,
        tracks: &Tracks<'_>,
        video: &[Sample],
        audio: &[Sample],
        first: bool,
    ) -> Vec<u8> {
        let data: usize = video.iter().chain(audio).map(|it| it.data.len()).sum();
        let mut out = Vec::with_capacity(data + data / 10 + 16 * packet::PACKET_BYTES);
        if first {
            self.write_tables(tracks, &mut out);
        }
        let mut sound = tracks.audio.into_iter().flat_map(|config| {
            let chunks = audio.chunks(frames_in_pes(config, audio));
            chunks.map(move |frames| (config, frames))
        });
        let mut sound = std::iter::from_fn(|| sound.next()).peekable();
        for picture in video {
            while let Some((config, frames)) =
                sound.next_if(|(config, frames)| start(config, frames) < picture.dts)
            {
                self.write_sound(config, frames, false, &mut out);
            }
            if let Some(config) = tracks.video {
                self.write_picture(config, picture, &mut out);
            }
        }
        for (config, frames) in sound {
            self.write_sound(config, frames, tracks.video.is_none(), &mut out);
        }
        out
    }

    fn write_tables(&mut self, tracks: &Tracks<'_>, out: &mut Vec<u8>) {
        let video = tracks.video.and_then(video_stream_type);
        let audio = tracks.audio.and_then(audio_stream_type);
        if self.map.replace((video, audio)) != Some((video, audio)) {
            self.version = (self.version + 1) % 32;
        }
        let association = [0, 1, 0xe0 | (PMT_PID >> 8) as u8, PMT_PID as u8];
        let pat = packet::section(0, 0, &association);
        packet::write_section(0, &mut self.counters.pat, &pat, out);
        let clock_pid = if video.is_some() {
            VIDEO_PID
        } else {
            AUDIO_PID
        };
        let mut map = vec![0xe0 | (clock_pid >> 8) as u8, clock_pid as u8, 0xf0, 0];
        for (stream_type, pid) in [(video, VIDEO_PID), (audio, AUDIO_PID)] {
            if let Some(stream_type) = stream_type {
                let pid = [0xe0 | (pid >> 8) as u8, pid as u8];
                map.extend_from_slice(&[stream_type, pid[0], pid[1], 0xf0, 0]);
            }
        }
        let pmt = packet::section(2, self.version, &map);
        packet::write_section(PMT_PID, &mut self.counters.pmt, &pmt, out);
    }

    fn write_picture(&mut self, config: &VideoConfig, picture: &Sample, out: &mut Vec<u8>) {
        // It cannot be shown before it is decoded; RTMP's times may say so.
        let shown = picture.dts + u64::from(picture.composition.max(0).unsigned_abs());
        let mut pes = packet::pes_header(0xe0, shown + OFFSET, Some(picture.dts + OFFSET));
        payload::append_annex_b(config, picture, &mut pes);
        let start = packet::Start {
            clock: Some(picture.dts + OFFSET - CLOCK_DELAY),
            random_access: picture.keyframe,
        };
        packet::write_pes(VIDEO_PID, &mut self.counters.video, &start, &pes, out);
    }

    /// `clocked`: the program clock is this stream's.
    fn write_sound(
        &mut self,
        config: &AudioConfig,
        frames: &[Sample],
        clocked: bool,
        out: &mut Vec<u8>,
    ) {
        let time = start(config, frames);
        let mut pes = packet::pes_header(payload::sound_stream_id(config), time + OFFSET, None);
        for frame in frames {
            payload::append_sound(config, &frame.data, &mut pes);
        }
        packet::set_pes_length(&mut pes);
        let start = packet::Start {
            clock: clocked.then_some(time + OFFSET - CLOCK_DELAY),
            random_access: true,
        };
        packet::write_pes(AUDIO_PID, &mut self.counters.audio, &start, &pes, out);
    }
}

/// How many frames share a PES packet.
fn frames_in_pes(config: &AudioConfig, frames: &[Sample]) -> usize {
    let duration = frames.first().and_then(|frame| frame.duration).unwrap_or(0);
    let longest = u64::from(config.sample_rate) * u64::from(MAX_SOUND_MS) / 1000;
    usize::try_from(longest / u64::from(duration.max(1))).map_or(1, |frames| frames.clamp(1, 16))
}

/// When frames of sound begin.
fn start(config: &AudioConfig, frames: &[Sample]) -> Ticks {
    let dts = frames.first().map_or(0, |frame| u128::from(frame.dts));
    let rate = u128::from(config.sample_rate.max(1));
    let ticks = (dts * u128::from(VIDEO_TIMESCALE) + rate / 2) / rate;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}
