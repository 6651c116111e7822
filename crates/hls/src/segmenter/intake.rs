//! What messages say: decoders' configurations and samples, and what is left out.

use bytes::Bytes;
use rtmp_proto::wire::media::Codec;
use rtmp_proto::wire::message::audio::{AudioCodec, AudioContent, AudioHead};
use rtmp_proto::wire::message::video::{VideoCodec, VideoContent, VideoHead};

use super::track::Ticks;
use super::{LeftOut, LeftOutReason, Output, Segmenter};
use crate::codec::{AudioConfig, VideoConfig};

/// No decoder's configuration is longer, in bytes.
const MAX_SEQUENCE_HEADER_BYTES: usize = 64 << 10;
/// So many codecs are reported as left out.
const MAX_LEFT_OUT: usize = 16;

impl Segmenter {
    pub(super) fn push_video(&mut self, payload: &Bytes, time: Ticks, out: &mut Vec<Output>) {
        let Some((head, body)) = VideoHead::parse_with_body(payload) else {
            return;
        };
        let Some(codec) = head.codec else {
            return;
        };
        if *self.video_track.get_or_insert(head.track) != head.track {
            self.leave_out(Codec::Video(codec), LeftOutReason::AnotherTrack, out);
            return;
        }
        match head.content {
            VideoContent::SequenceHeader => self.configure_video(codec, body.data, out),
            VideoContent::Keyframe | VideoContent::InterFrame => {
                if !VideoConfig::knows(codec) {
                    self.leave_out(Codec::Video(codec), LeftOutReason::Codec, out);
                } else if !body.data.is_empty()
                    && self.video.newest().is_some_and(|it| it.is_of(codec))
                {
                    let keyframe = head.content == VideoContent::Keyframe;
                    let data = payload.slice_ref(body.data);
                    self.picture(data, time, body.composition_ms, keyframe, out);
                }
            }
            VideoContent::Metadata | VideoContent::Other => {}
        }
    }

    pub(super) fn push_audio(&mut self, payload: &Bytes, time: Ticks, out: &mut Vec<Output>) {
        let Some((head, body)) = AudioHead::parse_with_body(payload) else {
            return;
        };
        let Some(codec) = head.codec else {
            return;
        };
        if *self.audio_track.get_or_insert(head.track) != head.track {
            self.leave_out(Codec::Audio(codec), LeftOutReason::AnotherTrack, out);
            return;
        }
        let data = payload.slice_ref(body);
        match head.content {
            AudioContent::SequenceHeader => self.configure_audio(codec, &data, out),
            AudioContent::Frame => {
                if !AudioConfig::knows(codec) {
                    self.leave_out(Codec::Audio(codec), LeftOutReason::Codec, out);
                } else if !data.is_empty() {
                    if let Some(config) = AudioConfig::of_frame(codec, &data) {
                        self.take_audio_config(codec, config, out);
                    }
                    if self.audio.newest().is_some_and(|it| it.is_of(codec)) {
                        self.sound(data, time, out);
                    }
                }
            }
            AudioContent::ChannelConfiguration | AudioContent::Other => {}
        }
    }

    fn configure_video(&mut self, codec: VideoCodec, body: &[u8], out: &mut Vec<Output>) {
        let config = match bounded(body).and_then(|body| VideoConfig::parse(codec, body)) {
            Some(config) => self.writer.check_video(&config).map(|()| config),
            None if VideoConfig::knows(codec) => Err(LeftOutReason::SequenceHeader),
            None => Err(LeftOutReason::Codec),
        };
        match config {
            Ok(config) => {
                if self.video.newest().map(|it| &it.format) != Some(&config.format) {
                    self.video.next = Some(config);
                }
            }
            Err(reason) => {
                self.leave_out(Codec::Video(codec), reason, out);
                // An empty one changes nothing.
                if !body.is_empty() && self.video.newest().is_some() {
                    // Pictures end here, too.
                    self.finish(out);
                    self.video.reset();
                }
            }
        }
    }

    fn configure_audio(&mut self, codec: AudioCodec, body: &Bytes, out: &mut Vec<Output>) {
        match bounded(body).and_then(|_| AudioConfig::parse(codec, body)) {
            Some(config) => self.take_audio_config(codec, config, out),
            None if !AudioConfig::knows(codec) => {
                self.leave_out(Codec::Audio(codec), LeftOutReason::Codec, out);
                self.end_sound(out);
            }
            None if AudioConfig::needs_sequence_header(codec) => {
                self.leave_out(Codec::Audio(codec), LeftOutReason::SequenceHeader, out);
                if !body.is_empty() {
                    self.end_sound(out);
                }
            }
            None => {}
        }
    }

    fn take_audio_config(&mut self, codec: AudioCodec, config: AudioConfig, out: &mut Vec<Output>) {
        if self.audio.newest() == Some(&config) {
            return;
        }
        match self.writer.check_audio(&config) {
            Ok(()) => self.audio.next = Some(config),
            Err(reason) => {
                self.leave_out(Codec::Audio(codec), reason, out);
                self.end_sound(out);
            }
        }
    }

    /// Sound ends here: what comes is of a configuration that is left out.
    fn end_sound(&mut self, out: &mut Vec<Output>) {
        if self.audio.newest().is_some() {
            self.finish(out);
            self.audio.reset();
        }
    }

    fn leave_out(&mut self, codec: Codec, reason: LeftOutReason, out: &mut Vec<Output>) {
        if !self.left_out.contains(&codec) && self.left_out.len() < MAX_LEFT_OUT {
            self.left_out.push(codec);
            out.push(Output::LeftOut(LeftOut { codec, reason }));
        }
    }
}

/// A sequence header's body, unless it is too long.
fn bounded(body: &[u8]) -> Option<&[u8]> {
    (body.len() <= MAX_SEQUENCE_HEADER_BYTES).then_some(body)
}
