//! Frames of the tracks that are taken.

use retina::codec::{AudioFrame, ParametersRef, VideoFrame};
use retina::rtcp::ReceivedCompoundPacket;
use rtmp_proto::wire::Message;

use super::alignment::{Alignment, Track};
use super::continuity::{Continuity, Jump};
use super::tracks::{SoundCoding, SoundTrack, VideoCoding, VideoTrack, metadata};

/// The tracks that are taken, with their numbers in the description: at most one of pictures,
/// and one of sound.
#[derive(Debug, Default)]
pub struct Tracks {
    video: Option<(usize, VideoTrack)>,
    sound: Option<(usize, SoundTrack)>,
    pictures_times: Continuity,
    sound_times: Continuity,
    alignment: Alignment,
    /// What is added to the times of both, so that the first one is not negative: a server may
    /// count from a later time than that of what it sends first.
    start_ms: Option<i64>,
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
    ///
    /// # Errors
    /// Its time has jumped.
    pub fn picture(
        &mut self,
        frame: &VideoFrame,
        parameters: Option<ParametersRef<'_>>,
    ) -> Result<Vec<Message>, Jump> {
        let shown_ms = self.time(Track::Pictures, frame.timestamp())?;
        let Some((_, track)) = &mut self.video else {
            return Ok(Vec::new());
        };
        let mut messages = Vec::new();
        let needs_header = frame.has_new_parameters() || !track.has_header();
        if needs_header
            && let Some(ParametersRef::Video(parameters)) = parameters
            && track.set_header(parameters.extra_data())
        {
            messages.push(metadata(track.coding(), parameters.pixel_dimensions()));
        }
        let is_keyframe = frame.is_random_access_point();
        messages.extend(track.picture(is_keyframe, shown_ms, frame.data()));
        Ok(messages)
    }

    /// The messages of a frame of sound; `parameters` are its track's.
    ///
    /// # Errors
    /// Its time has jumped.
    pub fn sound(
        &mut self,
        frame: &AudioFrame,
        parameters: Option<ParametersRef<'_>>,
    ) -> Result<Vec<Message>, Jump> {
        let ms = self.time(Track::Sound, frame.timestamp())?;
        let Some((_, track)) = &mut self.sound else {
            return Ok(Vec::new());
        };
        if track.needs_header()
            && let Some(ParametersRef::Audio(parameters)) = parameters
        {
            track.set_header(parameters.extra_data());
        }
        Ok(track.frame(ms, frame.data()))
    }

    /// The time of a frame of `track`, in ms, on the timeline of both.
    fn time(&mut self, track: Track, timestamp: retina::Timestamp) -> Result<i64, Jump> {
        let ms = milliseconds(timestamp);
        let times = match track {
            Track::Pictures => &mut self.pictures_times,
            Track::Sound => &mut self.sound_times,
        };
        times.note(track, ms)?;
        let start_ms = *self.start_ms.get_or_insert(ms.min(0).saturating_neg());
        Ok(self.alignment.time(track, ms.saturating_add(start_ms)))
    }
}

/// Time since the beginning of the play, ms; negative for what is older.
pub(super) fn milliseconds(timestamp: retina::Timestamp) -> i64 {
    let rate = i64::from(timestamp.clock_rate().get());
    // At 192 kHz it overflows after a million years.
    timestamp.elapsed().saturating_mul(1_000).div_euclid(rate)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use retina::codec::{CodecItem, Depacketizer};
    use retina::rtp::PacketMeta;
    use retina::testutil::DepacketizeBuf;
    use retina::{PacketContext, Timestamp};

    use super::*;

    /// A packet of sound of each of these times.
    fn frames(times: &[i64]) -> Vec<AudioFrame> {
        let mut packets = Depacketizer::new("audio", "pcma", 8_000, None, None).unwrap();
        let mut buffer = DepacketizeBuf::new(1 << 16);
        let mut frames = Vec::new();
        for (number, ms) in (0_u16..).zip(times) {
            let rate = NonZeroU32::new(8_000).unwrap();
            let meta = PacketMeta {
                ctx: PacketContext::dummy(),
                stream_id: 0,
                timestamp: Timestamp::new(ms * 8, rate, 0).unwrap(),
                sequence_number: number,
                ssrc: 0,
                mark: true,
                loss: 0,
            };
            buffer.push(&mut packets, meta, &[0; 160]).unwrap();
            while let Some(item) = packets.pull() {
                let CodecItem::AudioFrame(frame) = item.unwrap() else {
                    panic!("it is sound");
                };
                frames.push(frame);
            }
        }
        frames
    }

    /// The times of the messages until time jumps, and the jump.
    fn times(times: &[i64]) -> (Vec<u32>, Option<Jump>) {
        let mut tracks = Tracks::default();
        assert!(tracks.add(0, "audio", "pcma", true));
        let mut found = Vec::new();
        for frame in frames(times) {
            match tracks.sound(&frame, None) {
                Ok(messages) => found.extend(messages.iter().map(|it| it.timestamp)),
                Err(jump) => return (found, Some(jump)),
            }
        }
        (found, None)
    }

    #[test]
    fn a_play_that_begins_before_its_reference_begins_at_zero() {
        // Such as where a sender's report of a later time has come first.
        assert_eq!(times(&[-40, -20, 0, 20]), (vec![0, 20, 40, 60], None));
        // What is older still does not wrap.
        assert_eq!(times(&[-40, -60, 0]), (vec![0, 0, 40], None));
        assert_eq!(times(&[40, 60]), (vec![40, 60], None));
    }

    #[test]
    fn a_jump_ends_the_stream() {
        let (found, jump) = times(&[0, 20, 40_020]);
        assert_eq!(found, [0, 20]);
        let jump = jump.expect("a jump");
        assert_eq!((jump.newest_ms, jump.next_ms), (20, 40_020));
    }
}
