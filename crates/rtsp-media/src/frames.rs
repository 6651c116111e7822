//! Frames of the tracks that are taken.

use retina::codec::{AudioFrame, ParametersRef, VideoFrame};
use retina::rtcp::ReceivedCompoundPacket;
use rtmp_proto::wire::Message;

use super::alignment::{Alignment, Track};
use super::tracks::{SoundCoding, SoundTrack, VideoCoding, VideoTrack, metadata};

/// The tracks that are taken, with their numbers in the description: at most one of pictures,
/// and one of sound.
#[derive(Debug, Default)]
pub struct Tracks {
    video: Option<(usize, VideoTrack)>,
    sound: Option<(usize, SoundTrack)>,
    alignment: Alignment,
}

impl Tracks {
    /// Takes the track of this number, media type and encoding name (RFC 8866 §5.14, §6.6), if
    /// players can take it and it is the first of its kind. Returns false if not.
    pub fn add(&mut self, number: usize, media: &str, encoding: &str, with_g711: bool) -> bool {
        let video = VideoCoding::named(encoding).filter(|_| media == "video");
        let sound = SoundCoding::named(encoding).filter(|_| media == "audio");
        let sound = sound.filter(|sound| with_g711 || !sound.is_g711());
        match (video, sound) {
            (Some(coding), _) if self.video.is_none() => {
                self.video = Some((number, VideoTrack::new(coding)));
            }
            (_, Some(coding)) if self.sound.is_none() => {
                self.sound = Some((number, SoundTrack::new(coding)));
            }
            _ => return false,
        }
        true
    }

    /// Their numbers in the description.
    pub fn taken(&self) -> impl Iterator<Item = (usize, Track)> {
        let video = self.video.as_ref();
        let video = video.map(|(number, _)| (*number, Track::Pictures));
        let sound = self.sound.as_ref();
        let sound = sound.map(|(number, _)| (*number, Track::Sound));
        video.into_iter().chain(sound)
    }

    /// Takes a sender's report into account. Returns the change that
    /// [`Alignment::report`] tells.
    pub fn report(&mut self, packet: &ReceivedCompoundPacket) -> Option<i64> {
        let (_, track) = self
            .taken()
            .find(|(number, _)| *number == packet.stream_id())?;
        self.alignment.report(track, packet)
    }

    /// The messages of a picture; `parameters` are its track's.
    pub fn picture(
        &mut self,
        frame: &VideoFrame,
        parameters: Option<ParametersRef<'_>>,
    ) -> Vec<Message> {
        let Some((_, track)) = &mut self.video else {
            return Vec::new();
        };
        let mut messages = Vec::new();
        let needs_header = frame.has_new_parameters() || !track.has_header();
        if needs_header
            && let Some(ParametersRef::Video(parameters)) = parameters
            && track.set_header(parameters.extra_data())
        {
            messages.push(metadata(track.coding(), parameters.pixel_dimensions()));
        }
        let shown_ms = milliseconds(frame.timestamp());
        let shown_ms = self.alignment.time(Track::Pictures, shown_ms);
        let is_keyframe = frame.is_random_access_point();
        messages.extend(track.picture(is_keyframe, shown_ms, frame.data()));
        messages
    }

    /// The messages of a frame of sound; `parameters` are its track's.
    pub fn sound(
        &mut self,
        frame: &AudioFrame,
        parameters: Option<ParametersRef<'_>>,
    ) -> Vec<Message> {
        let Some((_, track)) = &mut self.sound else {
            return Vec::new();
        };
        if track.needs_header()
            && let Some(ParametersRef::Audio(parameters)) = parameters
        {
            track.set_header(parameters.extra_data());
        }
        let ms = milliseconds(frame.timestamp());
        track.frame(self.alignment.time(Track::Sound, ms), frame.data())
    }
}

/// Time since the beginning of the play, ms; negative for what is older.
pub(super) fn milliseconds(timestamp: retina::Timestamp) -> i64 {
    let rate = i64::from(timestamp.clock_rate().get());
    // At 192 kHz it overflows after a million years.
    timestamp.elapsed().saturating_mul(1_000).div_euclid(rate)
}
