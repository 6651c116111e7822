//! Segments and parts, made of a stream's messages.
//!
//! A sample's duration is the time to the next one of its track. A part is therefore ready
//! when the sample that begins the next part comes.

pub(crate) mod track;

mod output;
mod settings;
pub(crate) mod writer;

pub use output::{Initialization, LeftOut, LeftOutReason, Output, Part, SegmentEnd};
pub use settings::{Container, Settings};

use std::time::Duration;

use bytes::Bytes;
use rtmp_proto::wire::media::Codec;
use rtmp_proto::wire::message::audio::{AudioCodec, AudioContent, AudioHead};
use rtmp_proto::wire::message::video::{VideoCodec, VideoContent, VideoHead};
use rtmp_proto::wire::{Message, MessageType};

use crate::codec::{AudioConfig, VideoConfig};
use settings::Limits;
use track::{TICKS_PER_MS, Ticks, Track, VIDEO_TIMESCALE};
use writer::{Tracks, Writer};

pub use crate::codec::Resolution;

/// Times are clamped to this, some thousand years, so that no count overflows.
const MAX_TIME_MS: u64 = 1 << 45;
/// Queued samples take no more than this, in bytes, before they become a part.
const MAX_QUEUED_BYTES: usize = 8 << 20;
/// Time that goes back by more than this has jumped.
const MAX_STEP_BACK: Ticks = 1000 * TICKS_PER_MS;
/// Sound that is ahead of the pictures by so much waits for them no longer.
const MAX_AUDIO_LEAD: Ticks = 500 * TICKS_PER_MS;
/// So many codecs are reported as left out.
const MAX_LEFT_OUT: usize = 16;

/// Makes segments out of a stream's messages.
///
/// ```text
///            first keyframe, or sound where there are no pictures
///   Waiting ───────────────────────────────────────────────────▶ Running
///      ▲                                                            │
///      └────────────────────────────────────────────────────────────┘
///             another publication, times that jump, the end
/// ```
#[derive(Debug)]
pub struct Segmenter {
    limits: Limits,
    writer: Writer,
    state: State,
    video: Track<VideoConfig>,
    audio: Track<AudioConfig>,
    /// The tracks of a multitrack message that are taken: the first that come.
    video_track: Option<u8>,
    audio_track: Option<u8>,
    /// The newest time of each kind of samples.
    newest: [Option<Ticks>; 2],
    /// Added to the stream's times, after they went back.
    shift: Ticks,
    /// The newest keyframe, and the time from the one before it.
    keyframe: Option<Ticks>,
    group: Option<Ticks>,
    /// Since when pictures have been waiting for a keyframe.
    blocked_since: Option<Ticks>,
    /// Samples of a track wait for the next segment.
    segment_wanted: bool,
    /// The next segment does not go on where the one before ended.
    discontinuity: bool,
    /// What the newest initialization is made of.
    initialized: Option<(Option<VideoConfig>, Option<AudioConfig>)>,
    left_out: Vec<Codec>,
}

/// The kinds of samples.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Video,
    Audio,
}

#[derive(Debug)]
enum State {
    /// There is no segment. What comes since `since` is not wanted yet.
    Waiting { since: Option<Ticks> },
    /// A segment has begun.
    Running(Segment),
}

/// The segment that has begun.
#[derive(Debug)]
struct Segment {
    start: Ticks,
    /// Where the next part begins.
    part_start: Ticks,
    /// Parts so far.
    parts: u32,
    /// Pictures so far.
    pictures: u32,
}

impl Segment {
    fn new(start: Ticks) -> Self {
        Segment {
            start,
            part_start: start,
            parts: 0,
            pictures: 0,
        }
    }
}

impl Segmenter {
    /// A segmenter that has seen nothing.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Segmenter {
            limits: Limits::new(settings),
            writer: Writer::new(settings.container),
            state: State::Waiting { since: None },
            video: Track::default(),
            audio: Track::default(),
            video_track: None,
            audio_track: None,
            newest: [None; 2],
            shift: 0,
            keyframe: None,
            group: None,
            blocked_since: None,
            segment_wanted: false,
            discontinuity: false,
            initialized: None,
            left_out: Vec::new(),
        }
    }

    /// Takes a message. `time_ms` is its place on the stream's timeline, which rises over
    /// publications, and does not wrap. Messages that are no audio or video are passed over.
    pub fn push(&mut self, message: &Message, time_ms: u64, out: &mut Vec<Output>) {
        let time = time_ms.min(MAX_TIME_MS) * TICKS_PER_MS;
        match message.message_type {
            MessageType::VIDEO => self.push_video(&message.payload, time, out),
            MessageType::AUDIO => self.push_audio(&message.payload, time, out),
            _ => {}
        }
    }

    /// Another publication begins: the segment ends, and a discontinuity follows.
    pub fn begin_publication(&mut self, out: &mut Vec<Output>) {
        self.finish(out);
        self.video.reset();
        self.audio.reset();
        self.video_track = None;
        self.audio_track = None;
    }

    /// The stream pauses or ends: what is queued becomes the last part of its segment.
    pub fn finish(&mut self, out: &mut Vec<Output>) {
        if matches!(self.state, State::Running(_)) {
            let end = self.video.finish().max(self.audio.finish());
            if let Some(end) = end {
                self.advance(end, out);
                self.end_overlong(end, out);
                self.end_segment(end, out);
            }
        }
        self.state = State::Waiting { since: None };
        self.discontinuity = self.initialized.is_some();
        self.keyframe = None;
        self.blocked_since = None;
        self.segment_wanted = false;
    }

    fn push_video(&mut self, payload: &Bytes, time: Ticks, out: &mut Vec<Output>) {
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
                } else if !body.data.is_empty() && self.video.newest().is_some() {
                    let keyframe = head.content == VideoContent::Keyframe;
                    let data = payload.slice_ref(body.data);
                    self.picture(data, time, body.composition_ms, keyframe, out);
                }
            }
            VideoContent::Metadata | VideoContent::Other => {}
        }
    }

    fn push_audio(&mut self, payload: &Bytes, time: Ticks, out: &mut Vec<Output>) {
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
                    self.sound(data, time, out);
                }
            }
            AudioContent::ChannelConfiguration | AudioContent::Other => {}
        }
    }

    fn configure_video(&mut self, codec: VideoCodec, body: &[u8], out: &mut Vec<Output>) {
        let reason = match VideoConfig::parse(codec, body) {
            Some(config) if self.writer.carries_video(&config) => {
                if self.video.newest().map(|it| &it.format) != Some(&config.format) {
                    self.video.next = Some(config);
                }
                return;
            }
            Some(_) => LeftOutReason::Container,
            None if VideoConfig::knows(codec) => LeftOutReason::SequenceHeader,
            None => LeftOutReason::Codec,
        };
        self.leave_out(Codec::Video(codec), reason, out);
    }

    fn configure_audio(&mut self, codec: AudioCodec, body: &Bytes, out: &mut Vec<Output>) {
        match AudioConfig::parse(codec, body) {
            Some(config) => self.take_audio_config(codec, config, out),
            None if !AudioConfig::knows(codec) => {
                self.leave_out(Codec::Audio(codec), LeftOutReason::Codec, out);
            }
            None if AudioConfig::needs_sequence_header(codec) => {
                self.leave_out(Codec::Audio(codec), LeftOutReason::SequenceHeader, out);
            }
            None => {}
        }
    }

    fn take_audio_config(&mut self, codec: AudioCodec, config: AudioConfig, out: &mut Vec<Output>) {
        if !self.writer.carries_audio(&config) {
            self.leave_out(Codec::Audio(codec), LeftOutReason::Container, out);
        } else if self.audio.newest() != Some(&config) {
            self.audio.next = Some(config);
        }
    }

    fn leave_out(&mut self, codec: Codec, reason: LeftOutReason, out: &mut Vec<Output>) {
        if !self.left_out.contains(&codec) && self.left_out.len() < MAX_LEFT_OUT {
            self.left_out.push(codec);
            out.push(Output::LeftOut(LeftOut { codec, reason }));
        }
    }

    /// The place of a sample that has come with `time`. Times that jump end the segment:
    /// those that go back within their track, and those that are far ahead of all.
    fn arrive(&mut self, kind: Kind, time: Ticks, out: &mut Vec<Output>) -> Ticks {
        let shifted = time.saturating_add(self.shift);
        let own = self.newest[kind as usize];
        let newest = self.newest.into_iter().flatten().max().unwrap_or(shifted);
        let back = own > Some(shifted.saturating_add(MAX_STEP_BACK));
        if back || shifted > newest + self.limits.jump {
            self.finish(out);
        }
        if back {
            self.shift = newest.saturating_sub(time);
            self.newest = [Some(newest); 2];
            return newest;
        }
        self.newest[kind as usize] = own.max(Some(shifted));
        shifted
    }

    fn picture(
        &mut self,
        data: Bytes,
        time: Ticks,
        composition_ms: i32,
        keyframe: bool,
        out: &mut Vec<Output>,
    ) {
        let time = self.arrive(Kind::Video, time, out);
        let waiting = matches!(self.state, State::Waiting { .. });
        let joining = waiting || self.video.next.is_some();
        if joining && !keyframe {
            let since = *self.blocked_since.get_or_insert(time);
            if time.saturating_sub(since) < self.limits.longest_first_segment() {
                return;
            }
        }
        self.blocked_since = None;
        if keyframe {
            self.note_keyframe(time, &data, out);
        }
        if waiting {
            self.video.promote();
            self.audio.promote();
        }
        let dts = self.video.begin_picture(time);
        match waiting {
            true => self.run(dts),
            false => self.place_picture(dts, keyframe, out),
        }
        if let State::Running(segment) = &mut self.state {
            segment.pictures += 1;
        }
        self.video.push(data, dts, composition_ms, keyframe);
    }

    /// Ends parts and segments as a picture that begins at `dts` makes it due.
    fn place_picture(&mut self, dts: Ticks, keyframe: bool, out: &mut Vec<Output>) {
        let joins = self.segment().is_some_and(|segment| segment.parts == 0);
        if !(joins && self.video.current.is_none()) {
            self.advance(dts, out);
            if self.video.next.is_some() || self.segment_is_due(dts, keyframe) {
                self.end_segment(dts, out);
            }
        }
        self.video.promote();
    }

    fn sound(&mut self, data: Bytes, time: Ticks, out: &mut Vec<Output>) {
        if self.audio.newest().is_none() {
            return;
        }
        let time = self.arrive(Kind::Audio, time, out);
        match &mut self.state {
            State::Waiting { since } => {
                let since = *since.get_or_insert(time);
                let patience = self.limits.longest_first_segment();
                if self.video.newest().is_some() && time.saturating_sub(since) < patience {
                    return;
                }
                self.audio.promote();
            }
            State::Running(_) if self.audio.next.is_some() => {
                if self.video.current.is_none() && self.audio.current.is_some() {
                    self.audio.finish();
                    self.advance(time, out);
                    self.end_segment(time, out);
                }
                if !self.join_sound() {
                    return;
                }
            }
            State::Running(_) => {}
        }
        let Some((dts, begins)) = self.audio.begin_frame(time, &data) else {
            return;
        };
        if matches!(self.state, State::Waiting { .. }) {
            self.run(begins);
        } else if self.video.current.is_some() {
            self.advance_without_pictures(begins, out);
        } else {
            self.fix_target(self.limits.fragment, out);
            self.advance(begins, out);
            if self.segment_is_due(begins, true) {
                self.end_segment(begins, out);
            }
        }
        if self.audio.current.is_some() || self.join_sound() {
            self.audio.push(data, dts);
        }
    }

    /// Makes sound part of the segment; false if that has to wait for the next one.
    fn join_sound(&mut self) -> bool {
        let joins = self.segment().is_some_and(|segment| segment.parts == 0);
        match joins {
            true => self.audio.promote(),
            false => self.segment_wanted = true,
        }
        joins
    }

    fn run(&mut self, start: Ticks) {
        self.state = State::Running(Segment::new(start));
    }

    fn segment(&self) -> Option<&Segment> {
        match &self.state {
            State::Running(segment) => Some(segment),
            State::Waiting { .. } => None,
        }
    }

    fn note_keyframe(&mut self, time: Ticks, data: &[u8], out: &mut Vec<Output>) {
        if let Some(config) = self.video.next.as_mut() {
            config.learn_from(data);
        }
        if let Some(last) = self.keyframe.replace(time) {
            let group = time.saturating_sub(last).max(1);
            self.group = Some(group);
            self.fix_target(self.limits.natural_segment(group), out);
        }
    }

    /// Fixes the playlist's target duration, once, by the expected length of a segment.
    fn fix_target(&mut self, expected: Ticks, out: &mut Vec<Output>) {
        if let Some(target) = self.limits.fix_target(expected) {
            out.push(Output::TargetDuration(target));
        }
    }

    /// True if the segment ends where the sample at `time` begins. Any frame of sound is a
    /// keyframe.
    fn segment_is_due(&self, time: Ticks, keyframe: bool) -> bool {
        let Some(segment) = self.segment() else {
            return false;
        };
        let length = time.saturating_sub(segment.start);
        if length == 0 {
            return false;
        }
        let longest = self.limits.longest();
        if keyframe || !self.limits.wait_keyframe {
            let next_is_late = keyframe && self.group.is_some_and(|group| length + group > longest);
            let tolerance = match keyframe && self.video.current.is_some() {
                true => self.limits.tolerance(),
                false => 0,
            };
            let is_enough = length + tolerance >= self.limits.fragment;
            if self.segment_wanted || is_enough || next_is_late {
                return true;
            }
        }
        length + self.video.interval() > longest
    }

    /// Ends parts, as the stream has come to `time`, which is a boundary of samples.
    fn advance(&mut self, time: Ticks, out: &mut Vec<Output>) {
        while let Some(segment) = self.segment() {
            let start = segment.part_start;
            let elapsed = time.saturating_sub(start);
            let fits = elapsed <= self.limits.part;
            if fits && elapsed < self.limits.shortest_part() && !self.is_full() {
                return;
            }
            let boundary = match fits {
                true => time,
                false => self.boundary_after(start, time),
            };
            if !self.end_overlong(boundary, out) && !self.cut(boundary, out) {
                return;
            }
        }
    }

    /// Ends parts where only sound comes, and pictures do not.
    fn advance_without_pictures(&mut self, time: Ticks, out: &mut Vec<Output>) {
        while let Some(segment) = self.segment() {
            let start = segment.part_start;
            if time <= start + self.limits.part + MAX_AUDIO_LEAD && !self.is_full() {
                return;
            }
            let boundary = self.boundary_after(start, time);
            if !self.end_overlong(boundary, out) && !self.cut(boundary, out) {
                return;
            }
        }
    }

    /// Ends the segment where its next part begins, if it would be too long with that part,
    /// which ends at `end`.
    fn end_overlong(&mut self, end: Ticks, out: &mut Vec<Output>) -> bool {
        let Some(segment) = self.segment() else {
            return false;
        };
        let part_start = segment.part_start;
        let is_overlong = end.saturating_sub(segment.start) > self.limits.longest();
        if is_overlong && part_start > segment.start {
            self.end_segment(part_start, out);
            return true;
        }
        false
    }

    fn is_full(&self) -> bool {
        self.video.queued_bytes() + self.audio.queued_bytes() > MAX_QUEUED_BYTES
    }

    /// The end of a part that begins at `start` and cannot last until `time`: where a
    /// picture begins, else sound, else where the part target is reached.
    fn boundary_after(&self, start: Ticks, time: Ticks) -> Ticks {
        let shortest = start + self.limits.shortest_part();
        let longest = start + self.limits.part;
        let fits = |time: &Ticks| (shortest..=longest).contains(time);
        let picture = self.video.times().filter(fits).max();
        let sound = || self.audio.times().filter(fits).max();
        let boundary = picture.or_else(sound).unwrap_or(longest);
        let times = || self.video.times().chain(self.audio.times());
        if times().any(|time| time < boundary) {
            return boundary;
        }
        // A picture lasts longer than a part: the next part has one sample.
        let first = times().min().unwrap_or(start);
        times().filter(|&time| time > first).min().unwrap_or(time)
    }

    /// Makes a part of the samples before `end`; false if there are none.
    fn cut(&mut self, end: Ticks, out: &mut Vec<Output>) -> bool {
        let State::Running(segment) = &mut self.state else {
            return false;
        };
        let video = self.video.take_before(end);
        let audio = self.audio.take_before(end);
        if video.is_empty() && audio.is_empty() {
            return false;
        }
        let first = segment.parts == 0;
        let elapsed = end.saturating_sub(segment.part_start);
        segment.parts += 1;
        segment.part_start = end.max(segment.part_start);
        let independent = match video.first() {
            Some(picture) => picture.keyframe,
            None => self.video.current.is_none(),
        };
        if first {
            self.open_segment(out);
        }
        let tracks = Tracks {
            video: self.video.current.as_ref(),
            audio: self.audio.current.as_ref(),
        };
        let bytes = self.writer.write(&tracks, &video, &audio, first);
        out.push(Output::Part(Part {
            bytes: bytes.into(),
            duration: duration(elapsed.min(self.limits.part)),
            independent,
        }));
        true
    }

    /// What stands before the first part of a segment.
    fn open_segment(&mut self, out: &mut Vec<Output>) {
        let tracks = (self.video.current.clone(), self.audio.current.clone());
        let changed = self.initialized.as_ref() != Some(&tracks);
        if self.discontinuity || (changed && self.initialized.is_some()) {
            out.push(Output::Discontinuity);
        }
        self.discontinuity = false;
        if changed {
            let initialization = self.writer.initialization(&Tracks {
                video: tracks.0.as_ref(),
                audio: tracks.1.as_ref(),
            });
            out.push(Output::Initialization(initialization));
            self.initialized = Some(tracks);
        }
    }

    /// Ends the segment at `end`, and begins the next one there.
    fn end_segment(&mut self, end: Ticks, out: &mut Vec<Output>) {
        let audio_changes = self.segment_wanted && self.audio.next.is_some();
        if audio_changes || !self.audio.seen {
            self.audio.finish();
        }
        if !self.video.seen {
            self.video.finish();
        }
        self.cut(end, out);
        let State::Running(segment) = &mut self.state else {
            return;
        };
        let end = end.max(segment.part_start);
        let ended = std::mem::replace(segment, Segment::new(end));
        if ended.parts == 0 {
            return;
        }
        let length = end - ended.start;
        out.push(Output::SegmentEnd(SegmentEnd {
            duration: duration(length),
            pictures: ended.pictures,
        }));
        self.fix_target(length, out);
        if audio_changes {
            self.audio.promote();
        } else if !self.audio.seen {
            self.audio.retire();
        }
        if !self.video.seen {
            self.video.retire();
        }
        self.audio.seen = false;
        self.video.seen = false;
        self.segment_wanted = false;
    }
}

/// A duration in ticks.
fn duration(ticks: Ticks) -> Duration {
    let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(VIDEO_TIMESCALE);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
