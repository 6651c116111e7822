//! Where parts and segments end.

use std::time::Duration;

use super::track::{TICKS_PER_MS, Ticks, VIDEO_TIMESCALE};
use super::writer::Tracks;
use super::{Output, Part, Segment, SegmentEnd, Segmenter, State};

/// Queued samples take no more than this, in bytes, before they become a part.
const MAX_QUEUED_BYTES: usize = 8 << 20;
/// Sound that is ahead of the pictures by so much waits for them no longer.
const MAX_AUDIO_LEAD: Ticks = 500 * TICKS_PER_MS;
/// A picture that comes later than after so many intervals comes after a pause.
const PAUSE_INTERVALS: Ticks = 2;

impl Segmenter {
    /// True if the segment ends where the sample at `time` begins. Any frame of sound is a
    /// keyframe.
    pub(super) fn segment_is_due(&self, time: Ticks, keyframe: bool) -> bool {
        let Some(segment) = self.segment() else {
            return false;
        };
        let length = time.saturating_sub(segment.start);
        if length == 0 {
            return false;
        }
        let longest = self.limits.longest();
        if keyframe || !self.limits.wait_keyframe {
            let next_is_late = keyframe
                && self
                    .groups
                    .longest()
                    .is_some_and(|group| length + group > longest);
            let tolerance = match keyframe && self.video.current.is_some() {
                true => self.limits.tolerance(),
                false => 0,
            };
            let shortest = self.limits.shortest_segment(self.length);
            let is_enough = length + tolerance >= shortest;
            if self.segment_wanted || is_enough || next_is_late {
                return true;
            }
        }
        length + self.video.interval().min(self.limits.part) > longest
    }

    /// True if the segment would be too long with the pause from `newest`, when the newest
    /// sample came, to `time`: an encoder that was away, or a standby that had nothing to
    /// begin with when its turn came. Without the pause it is not.
    pub(super) fn is_overlong_by_pause(&self, newest: Ticks, time: Ticks) -> bool {
        let length = |segment: &Segment| time.saturating_sub(segment.start);
        let is_overlong = self
            .segment()
            .is_some_and(|segment| length(segment) > self.limits.longest());
        let gap = time.saturating_sub(newest);
        is_overlong && gap > PAUSE_INTERVALS * self.video.interval()
    }

    /// Ends parts, as the stream has come to `time`, which is a boundary of samples.
    pub(super) fn advance(&mut self, time: Ticks, out: &mut Vec<Output>) {
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
    pub(super) fn advance_without_pictures(&mut self, time: Ticks, out: &mut Vec<Output>) {
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

    /// Ends the segment at `end`; before that, too, if it would be too long.
    pub(super) fn end_segment_within(&mut self, end: Ticks, out: &mut Vec<Output>) {
        self.end_overlong(end, out);
        self.end_segment(end, out);
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
        self.length += length;
        // A single sample behind a pause may last longer.
        let told = length.min(self.limits.longest());
        out.push(Output::SegmentEnd(SegmentEnd {
            duration: duration(told),
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
