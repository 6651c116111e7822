//! A generated stream: grey pictures and silence, but well-formed, with the
//! bit rate, frame rate and keyframe interval that were asked for.

use super::shape::Shape;
use super::{MediaMessage, Source, SourceError, aac, h264, metadata};
use crate::{media::message_type, stamp};

/// Size of a keyframe in units of the pictures after it; live encoders make
/// them four to ten times as large.
const KEYFRAME_RATIO: u64 = 6;
/// Bytes that a stamp adds to a picture: a NAL unit and its length field.
const STAMP_BYTES: usize = stamp::NAL_BYTES + 4;

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Generated {
    shape: Shape,
    /// Messages still to be sent before the first picture of a connection.
    preamble: Vec<MediaMessage>,
    /// Pictures and audio frames made so far.
    pictures: u64,
    audio_frames: u64,
    keyframe_bytes: usize,
    interframe_bytes: usize,
    silence: Vec<u8>,
}

impl Generated {
    /// A stream of this shape.
    pub(crate) fn new(shape: Shape) -> Self {
        let gop_bytes = shape.video_bits_per_second * u64::from(shape.gop_frames)
            / (8 * u64::from(shape.frames_per_second));
        let parts = u64::from(shape.gop_frames) - 1 + KEYFRAME_RATIO;
        let interframe = gop_bytes / parts;
        let keyframe = gop_bytes - interframe * (u64::from(shape.gop_frames) - 1);
        let audio_bytes =
            shape.audio_bits_per_second * aac::SAMPLES_PER_FRAME / aac::SAMPLE_RATE / 8;
        let mut generated = Self {
            shape,
            preamble: Vec::new(),
            pictures: 0,
            audio_frames: 0,
            keyframe_bytes: (keyframe as usize).saturating_sub(STAMP_BYTES),
            interframe_bytes: (interframe as usize).saturating_sub(STAMP_BYTES),
            silence: aac::silence(audio_bytes as usize),
        };
        generated.preamble = generated.make_preamble();
        generated
    }

    fn has_audio(&self) -> bool {
        self.shape.audio_bits_per_second > 0
    }

    fn picture_at_ms(&self) -> u64 {
        self.pictures * 1000 / u64::from(self.shape.frames_per_second)
    }

    fn audio_at_ms(&self) -> u64 {
        self.audio_frames * 1000 * aac::SAMPLES_PER_FRAME / aac::SAMPLE_RATE
    }

    /// Metadata and sequence headers, last first.
    fn make_preamble(&self) -> Vec<MediaMessage> {
        let at_ms = self.picture_at_ms();
        let fps = self.shape.frames_per_second;
        let message = |type_id, payload| MediaMessage {
            type_id,
            at_ms,
            payload,
        };
        let mut preamble = vec![message(message_type::VIDEO, h264::sequence_header(fps))];
        if self.has_audio() {
            preamble.push(message(message_type::AUDIO, aac::sequence_header()));
        }
        preamble.push(message(message_type::DATA_AMF0, metadata::of(&self.shape)));
        preamble
    }
}

impl Source for Generated {
    fn next_message(&mut self) -> Result<MediaMessage, SourceError> {
        if let Some(message) = self.preamble.pop() {
            return Ok(message);
        }
        if self.has_audio() && self.audio_at_ms() < self.picture_at_ms() {
            let at_ms = self.audio_at_ms();
            self.audio_frames += 1;
            let payload = self.silence.clone();
            return Ok(MediaMessage {
                type_id: message_type::AUDIO,
                at_ms,
                payload,
            });
        }
        let at_ms = self.picture_at_ms();
        let gop = self.pictures / u64::from(self.shape.gop_frames);
        let index = (self.pictures % u64::from(self.shape.gop_frames)) as u32;
        let size = if index == 0 {
            self.keyframe_bytes
        } else {
            self.interframe_bytes
        };
        let payload = h264::picture(index, gop as u32, size);
        self.pictures += 1;
        Ok(MediaMessage {
            type_id: message_type::VIDEO,
            at_ms,
            payload,
        })
    }

    fn restart(&mut self) -> Result<(), SourceError> {
        // The next picture has to be a keyframe.
        let gop = u64::from(self.shape.gop_frames);
        self.pictures = self.pictures.div_ceil(gop) * gop;
        while self.has_audio() && self.audio_at_ms() < self.picture_at_ms() {
            self.audio_frames += 1;
        }
        self.preamble = self.make_preamble();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{VideoKind, video_kind};

    const SHAPE: Shape = Shape {
        video_bits_per_second: 2_000_000,
        audio_bits_per_second: 64_000,
        frames_per_second: 30,
        gop_frames: 60,
    };

    fn take(source: &mut Generated, count: usize) -> Vec<MediaMessage> {
        (0..count).map(|_| source.next_message().unwrap()).collect()
    }

    fn kinds(messages: &[MediaMessage]) -> Vec<VideoKind> {
        let video = messages
            .iter()
            .filter(|message| message.type_id == message_type::VIDEO);
        video.map(|message| video_kind(&message.payload)).collect()
    }

    #[test]
    fn a_stream_begins_with_metadata_and_both_sequence_headers() {
        let begun = take(&mut Generated::new(SHAPE), 4);
        let types: Vec<u8> = begun.iter().map(|message| message.type_id).collect();
        assert_eq!(types, [18, 8, 9, 9]);
        assert_eq!(
            kinds(&begun),
            [VideoKind::SequenceHeader, VideoKind::Keyframe]
        );
    }

    #[test]
    fn a_second_of_stream_has_the_bits_asked_for() {
        let mut source = Generated::new(SHAPE);
        let seconds = 10;
        let messages: Vec<MediaMessage> = std::iter::from_fn(|| source.next_message().ok())
            .take_while(|message| message.at_ms < seconds * 1000)
            .collect();
        let bits = |type_id, stamp: usize| -> u64 {
            let of_type = messages.iter().filter(|message| message.type_id == type_id);
            of_type
                .map(|message| (message.payload.len() + stamp) as u64 * 8)
                .sum()
        };
        let video = bits(message_type::VIDEO, STAMP_BYTES) / seconds;
        let audio = bits(message_type::AUDIO, 0) / seconds;
        assert!(video.abs_diff(2_000_000) < 20_000, "{video} bit/s of video");
        assert!(audio.abs_diff(64_000) < 2_000, "{audio} bit/s of audio");
    }

    #[test]
    fn keyframes_come_at_the_interval_asked_for() {
        let mut source = Generated::new(Shape {
            audio_bits_per_second: 0,
            ..SHAPE
        });
        let messages = take(&mut source, 2 + 181);
        let keyframes = kinds(&messages)
            .iter()
            .filter(|kind| **kind == VideoKind::Keyframe)
            .count();
        assert_eq!(keyframes, 4);
        assert_eq!(messages.last().unwrap().at_ms, 6000);
    }

    #[test]
    fn time_never_falls_not_even_through_a_restart() {
        let mut source = Generated::new(SHAPE);
        let mut messages = take(&mut source, 100);
        source.restart().unwrap();
        messages.extend(take(&mut source, 100));
        assert!(
            messages
                .windows(2)
                .all(|pair| pair[0].at_ms <= pair[1].at_ms)
        );
    }

    #[test]
    fn a_restart_begins_with_headers_and_a_keyframe() {
        let mut source = Generated::new(SHAPE);
        take(&mut source, 50);
        source.restart().unwrap();
        let messages = take(&mut source, 4);
        assert_eq!(
            kinds(&messages),
            [VideoKind::SequenceHeader, VideoKind::Keyframe]
        );
    }
}
