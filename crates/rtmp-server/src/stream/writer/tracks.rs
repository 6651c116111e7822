//! The tracks of the present publication: how they are coded, which are silent.

use rtmp_proto::wire::media::TrackCodec;
use serde::{Deserialize, Serialize};

use super::staging::Staging;
use crate::stream::log::headers::{Header, Headers};
use crate::stream::track::{PerTrack, Track};

/// A track without a frame for this long on the stream's timeline, ms, may be
/// none of the stream's any more: who joins can do without its headers.
const TRACK_SILENT_MS: u64 = 10_000;

/// The tracks of the present publication.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Tracks {
    /// The coding of the newest frame of each kind.
    codecs: PerTrack<Option<TrackCodec>>,
    /// The newest time of the stream when the last frame or header of each kind
    /// came, ms.
    last_at: PerTrack<u64>,
    /// Headers of tracks that have been silent, or that another publication of
    /// a silent origin may not have: they come back with the next frame of
    /// their track.
    dormant: Headers,
}

impl Tracks {
    /// The tracks of a publication that begins at `newest`, whose headers may
    /// be `dormant`.
    pub(super) fn new(newest: u64, dormant: Headers) -> Self {
        Self {
            codecs: PerTrack::default(),
            last_at: PerTrack {
                audio: newest,
                video: newest,
            },
            dormant,
        }
    }

    /// A frame or header of `track` has come, at the stream's time `newest`.
    pub(super) fn note(&mut self, track: Track, newest: u64) {
        *self.last_at.of_mut(track) = newest;
    }

    /// True if frames of the track have been of another codec so far.
    pub(super) fn are_recoded(&self, codec: TrackCodec) -> bool {
        let known = self.codecs.of(Track::of(codec.codec));
        known.is_some_and(|known| codec.replaces(known))
    }

    /// Takes note of the coding of a frame of `track`; true if it is new.
    fn note_codec(&mut self, track: Track, codec: TrackCodec) -> bool {
        self.codecs.of_mut(track).replace(codec) != Some(codec)
    }

    fn is_silent(&self, track: Track, newest: u64) -> bool {
        newest - *self.last_at.of(track) > TRACK_SILENT_MS
    }

    /// Sees to it that the headers in force are those of the tracks that are
    /// there, as a frame of `track` shows them at the stream's time `newest`.
    /// True if the track is of another codec than its headers were for.
    pub(super) fn follow(
        &mut self,
        track: Track,
        codec: Option<TrackCodec>,
        newest: u64,
        staging: &mut Staging,
    ) -> bool {
        self.note(track, newest);
        let mut recoded = false;
        if let Some(codec) = codec
            && self.note_codec(track, codec)
        {
            self.dormant.keep_codec(codec);
            recoded = staging.change_headers(|headers| headers.keep_codec(codec));
        }
        if self.is_silent(track.other(), newest) {
            staging.change_headers(|headers| {
                let silent = headers.take_track(track.other());
                let changed = !silent.is_empty();
                silent
                    .into_iter()
                    .for_each(|header| self.dormant.set(header));
                changed
            });
        }
        recoded
    }

    /// Takes the dormant headers of `track`, which has a frame again.
    pub(super) fn take_dormant(&mut self, track: Track) -> Vec<Header> {
        self.dormant.take_track(track)
    }
}
