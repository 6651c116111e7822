//! The containers, behind one interface.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::output::{Initialization, LeftOutReason};
use super::settings::Container;
use super::track::Sample;
use crate::codec::{AudioConfig, AudioFormat, VideoConfig};
use crate::fmp4;
use crate::mpegts::{self, Multiplexer};

/// Writes samples into a container.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Writer {
    Fmp4 {
        /// The number of the next fragment.
        sequence: u32,
    },
    MpegTs(Multiplexer),
}

/// The tracks of a part.
pub(crate) struct Tracks<'a> {
    pub(crate) video: Option<&'a VideoConfig>,
    pub(crate) audio: Option<&'a AudioConfig>,
}

impl Writer {
    pub(super) fn new(container: Container) -> Self {
        match container {
            Container::Fmp4 => Writer::Fmp4 { sequence: 1 },
            Container::MpegTs => Writer::MpegTs(Multiplexer::default()),
        }
    }

    /// Checks that the container has a place for the track.
    pub(super) fn check_video(&self, config: &VideoConfig) -> Result<(), LeftOutReason> {
        match self {
            Writer::Fmp4 { .. } => encodes(Some(config), None),
            Writer::MpegTs(_) if mpegts::carries_video(config) => Ok(()),
            Writer::MpegTs(_) => Err(LeftOutReason::Container),
        }
    }

    /// Checks that the container has a place for the track.
    pub(super) fn check_audio(&self, config: &AudioConfig) -> Result<(), LeftOutReason> {
        match self {
            Writer::Fmp4 { .. } => encodes(None, Some(config)),
            Writer::MpegTs(_) if mpegts::carries_audio(config) => Ok(()),
            Writer::MpegTs(_) => Err(LeftOutReason::Container),
        }
    }

    pub(super) fn initialization(&self, tracks: &Tracks<'_>) -> Initialization {
        let video = tracks.video.map(VideoConfig::codecs);
        let (bytes, audio) = match self {
            Writer::Fmp4 { .. } => (
                fmp4::header(tracks.video, tracks.audio).expect("both were encoded when they came"),
                tracks.audio.map(AudioConfig::codecs),
            ),
            Writer::MpegTs(_) => (Vec::new(), tracks.audio.map(codecs_in_mpegts)),
        };
        let codecs: Vec<String> = video.into_iter().chain(audio).collect();
        Initialization {
            bytes: Bytes::from(bytes),
            codecs: codecs.join(","),
            resolution: tracks.video.and_then(|video| video.resolution),
        }
    }

    /// A part of these samples, of which there is one at least. `first` of a segment.
    pub(super) fn write(
        &mut self,
        tracks: &Tracks<'_>,
        video: &[Sample],
        audio: &[Sample],
        first: bool,
    ) -> Vec<u8> {
        match self {
            Writer::Fmp4 { sequence } => {
                let fragment = fmp4::fragment(*sequence, video, audio);
                *sequence = sequence.wrapping_add(1);
                fragment
            }
            Writer::MpegTs(multiplexer) => multiplexer.write(tracks, video, audio, first),
        }
    }
}

/// Whoever has read a configuration can still find that a box does not hold it.
fn encodes(video: Option<&VideoConfig>, audio: Option<&AudioConfig>) -> Result<(), LeftOutReason> {
    let header = fmp4::header(video, audio);
    header.map(drop).map_err(|_| LeftOutReason::SequenceHeader)
}

/// MP3 has another name than in MP4, as there its object type is told.
fn codecs_in_mpegts(config: &AudioConfig) -> String {
    match config.format {
        AudioFormat::Mp3 => "mp4a.40.34".into(),
        _ => config.codecs(),
    }
}
