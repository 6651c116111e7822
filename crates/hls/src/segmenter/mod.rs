//! Segments and parts, made of a stream's messages.
//!
//! A sample's duration is the time to the next one of its track. A part is therefore ready
//! when the sample that begins the next part comes.

pub(crate) mod track;

mod cutting;
mod groups;
mod intake;
mod output;
mod settings;
pub(crate) mod writer;

pub use output::{Initialization, LeftOut, LeftOutReason, Output, Part, SegmentEnd};
pub use settings::{Container, Settings};

use bytes::Bytes;
use rtmp_proto::wire::media::Codec;
use rtmp_proto::wire::{Message, MessageType};
use serde::{Deserialize, Serialize};

use crate::codec::{AudioConfig, VideoConfig};
use groups::Groups;
use settings::Limits;
use track::{TICKS_PER_MS, Ticks, Track};
use writer::Writer;

pub use crate::codec::Resolution;

/// Times are clamped to this, some thousand years, so that no count overflows.
const MAX_TIME_MS: u64 = 1 << 45;
/// Time that goes back by more than this has jumped.
const MAX_STEP_BACK: Ticks = 1000 * TICKS_PER_MS;
/// Makes segments out of a stream's messages. It can be written down between two messages, and
/// goes on where it is read.
///
/// ```text
///            first keyframe, or sound where there are no pictures
///   Waiting ───────────────────────────────────────────────────▶ Running
///      ▲                                                            │
///      └────────────────────────────────────────────────────────────┘
///             another publication, times that jump, the end
/// ```
#[derive(Debug, Serialize, Deserialize)]
pub struct Segmenter {
    limits: Limits,
    /// The length of all segments so far.
    length: Ticks,
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
    /// The newest keyframe.
    keyframe: Option<Ticks>,
    groups: Groups,
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

#[derive(Debug, Serialize, Deserialize)]
enum State {
    /// There is no segment. What comes since `since` is not wanted yet.
    Waiting { since: Option<Ticks> },
    /// A segment has begun.
    Running(Segment),
}

/// The segment that has begun.
#[derive(Debug, Serialize, Deserialize)]
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
            length: 0,
            writer: Writer::new(settings.container),
            state: State::Waiting { since: None },
            video: Track::default(),
            audio: Track::default(),
            video_track: None,
            audio_track: None,
            newest: [None; 2],
            shift: 0,
            keyframe: None,
            groups: Groups::default(),
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
                self.end_segment_within(end, out);
            }
        }
        self.state = State::Waiting { since: None };
        self.discontinuity = self.initialized.is_some();
        self.keyframe = None;
        self.blocked_since = None;
        self.segment_wanted = false;
    }

    /// The place of a sample that has come with `time`. Times that jump end the segment:
    /// those that go back within their track, and those that are far ahead of all. So does a
    /// pause before a keyframe, if the segment would be too long with it.
    fn arrive(&mut self, kind: Kind, time: Ticks, keyframe: bool, out: &mut Vec<Output>) -> Ticks {
        let shifted = time.saturating_add(self.shift);
        let own = self.newest[kind as usize];
        let newest = self.newest.into_iter().flatten().max().unwrap_or(shifted);
        let back = own > Some(shifted.saturating_add(MAX_STEP_BACK));
        let jumps = shifted > newest + self.limits.jump;
        if back || jumps || (keyframe && self.is_overlong_by_pause(newest, shifted)) {
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
        let time = self.arrive(Kind::Video, time, keyframe, out);
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
                self.end_segment_within(dts, out);
            }
        }
        self.video.promote();
    }

    fn sound(&mut self, data: Bytes, time: Ticks, out: &mut Vec<Output>) {
        if self.audio.newest().is_none() {
            return;
        }
        let time = self.arrive(Kind::Audio, time, false, out);
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
                    self.end_segment_within(time, out);
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
                self.end_segment_within(begins, out);
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
            self.groups.push(group);
            self.fix_target(self.limits.natural_segment(group), out);
        }
    }

    /// Fixes the playlist's target duration, once, by the expected length of a segment.
    fn fix_target(&mut self, expected: Ticks, out: &mut Vec<Output>) {
        if let Some(target) = self.limits.fix_target(expected) {
            out.push(Output::TargetDuration(target));
        }
    }
}
