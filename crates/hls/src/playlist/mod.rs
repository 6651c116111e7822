//! A stream's playlists: the window of its newest segments, and what players ask of it.

mod reload;
mod resource;
mod text;

pub use reload::{BadReload, Reload};
pub use resource::Resource;
pub use text::MediaPlaylist;

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::encryption::KEY_BYTES;
use crate::segmenter::{Container, Initialization, Output, Part, SegmentEnd, Settings};

/// A playlist has at least so many target durations of segments (RFC 8216 §6.2.2).
const MIN_TARGET_DURATIONS: u32 = 3;
/// Parts are listed in the newest so many target durations (RFC 8216bis §6.2.2).
const PART_TARGET_DURATIONS: u32 = 3;

/// A publisher that makes segments of milliseconds makes no endless playlist.
const MAX_LISTED: usize = 500;
/// Nor are so many kept.
const MAX_KEPT: usize = 1000;

/// How a playlist is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlaylistSettings {
    /// How its segments are made.
    pub segments: Settings,
    /// How much of the stream the playlist lists (SRS: `hls_window`).
    pub window: Duration,
    /// The media sequence number of the first segment, and the version of the first
    /// initialization section.
    pub first_segment: u64,
}

/// The playlists of one stream. They can be written down, and go on where they are read.
///
/// It is told of each output of the segmenter, in order. The bytes of parts are appended
/// to one log; the playlist counts where they lie, from offset 0 on.
#[derive(Debug, Serialize, Deserialize)]
pub struct Playlist {
    settings: PlaylistSettings,
    target: Option<Duration>,
    /// From the oldest that is still kept to the newest, which may be unfinished.
    segments: VecDeque<Segment>,
    /// How many of `segments` are listed no more.
    removed: usize,
    /// The media sequence number of the first of `segments`.
    first_kept: u64,
    /// Discontinuities before the first listed segment.
    discontinuity_sequence: u64,
    initializations: VecDeque<Versioned>,
    /// What the next segment begins with.
    discontinuity: bool,
    /// The length of the log.
    end: u64,
    /// The duration of all segments so far, by which removed ones age.
    elapsed: Duration,
    /// Bits per second of the fastest segment so far.
    peak_bandwidth: u64,
    frame_rate: Option<f64>,
    /// `EXT-X-INDEPENDENT-SEGMENTS`, once it is fixed.
    independent: Option<bool>,
    /// A segment has come that does not keep to it.
    has_broken_promise: bool,
    /// The keys of listed segments and of the next one, by the number of the first segment
    /// that each encrypts.
    keys: VecDeque<(u64, [u8; KEY_BYTES])>,
    ended: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Versioned {
    version: u64,
    initialization: Initialization,
}

/// A segment of the playlist.
#[derive(Debug, Serialize, Deserialize)]
struct Segment {
    parts: Vec<ListedPart>,
    /// `EXTINF`; `None` while parts are to come.
    duration: Option<Duration>,
    discontinuity: bool,
    /// The version of its initialization.
    version: u64,
    /// The number of the key that encrypts it.
    key: Option<u64>,
    /// Its first picture's wall-clock time, in ms since 1970.
    wall_clock_ms: Option<i64>,
    /// When it may be forgotten, in `elapsed`, once it is listed no more.
    kept_until: Duration,
}

/// A part of a listed segment.
#[derive(Debug, Serialize, Deserialize)]
struct ListedPart {
    range: Range<u64>,
    duration: Duration,
    independent: bool,
}

impl Segment {
    /// Its place in the log.
    fn range(&self) -> Option<Range<u64>> {
        Some(self.parts.first()?.range.start..self.parts.last()?.range.end)
    }

    /// Its duration so far.
    fn length(&self) -> Duration {
        let parts = || self.parts.iter().map(|part| part.duration).sum();
        self.duration.unwrap_or_else(parts)
    }

    fn begins_independent(&self) -> bool {
        self.parts.first().is_some_and(|part| part.independent)
    }
}

/// What a resource is, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// These bytes.
    Bytes(Bytes),
    /// This range of the log.
    Log(Range<u64>),
    /// It will be made: the playlist announces it, or the segment is unfinished.
    Later,
}

impl Playlist {
    /// A playlist without segments.
    #[must_use]
    pub fn new(settings: PlaylistSettings) -> Self {
        Playlist {
            target: None,
            segments: VecDeque::new(),
            removed: 0,
            first_kept: settings.first_segment,
            discontinuity_sequence: 0,
            initializations: VecDeque::new(),
            discontinuity: false,
            end: 0,
            elapsed: Duration::ZERO,
            peak_bandwidth: 0,
            frame_rate: None,
            independent: None,
            has_broken_promise: false,
            keys: VecDeque::new(),
            ended: false,
            settings,
        }
    }

    /// Takes an output of the segmenter. `now_ms` is the wall clock, in ms since 1970,
    /// where `EXT-X-PROGRAM-DATE-TIME` is wanted.
    pub fn push(&mut self, output: &Output, now_ms: Option<i64>) {
        match output {
            Output::TargetDuration(target) => self.target = Some(*target),
            Output::Discontinuity => self.discontinuity = true,
            Output::Initialization(initialization) => {
                let newest = self.initializations.back();
                self.initializations.push_back(Versioned {
                    version: newest
                        .map_or(self.settings.first_segment, |newest| newest.version + 1),
                    initialization: initialization.clone(),
                });
            }
            Output::Key(key) => {
                let number = self.next_segment();
                self.keys.push_back((number, *key));
            }
            Output::Part(part) => self.push_part(part, now_ms),
            Output::SegmentEnd(end) => self.end_segment(end),
            Output::LeftOut(_) => {}
        }
        if self.independent.is_none() && self.target.is_some() && !self.segments.is_empty() {
            let Settings {
                wait_keyframe,
                irregular,
                ..
            } = self.settings.segments;
            let mut segments = self.segments.iter();
            let begin_well = segments.all(Segment::begins_independent);
            self.independent = Some(begin_well && wait_keyframe && !irregular);
        }
    }

    /// True if a segment has had to begin without a keyframe though the playlist says that
    /// none does (`EXT-X-INDEPENDENT-SEGMENTS`). It must not say anything else (RFC 8216
    /// §6.2.1): another playlist is to take its place.
    #[must_use]
    pub fn has_broken_promise(&self) -> bool {
        self.has_broken_promise
    }

    /// The stream has ended for good (`EXT-X-ENDLIST`). Nothing is pushed any more.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// True if a playlist of this form can be given out: there is something to play, and
    /// the target duration is fixed.
    #[must_use]
    pub fn is_ready(&self, low_latency: bool) -> bool {
        let parts_count = low_latency && self.has_parts();
        self.target.is_some()
            && self
                .listed()
                .any(|(_, segment)| parts_count || segment.duration.is_some())
    }

    /// `EXT-X-TARGETDURATION`, once it is fixed.
    #[must_use]
    pub fn target_duration(&self) -> Option<Duration> {
        self.target
    }

    /// The first offset of the log that is still needed.
    #[must_use]
    pub fn log_start(&self) -> u64 {
        let first = self.segments.iter().find_map(Segment::range);
        first.map_or(self.end, |range| range.start)
    }

    /// The first offset of the log that a listed segment has: what is before may be given up
    /// where memory is short.
    #[must_use]
    pub fn listed_start(&self) -> u64 {
        let first = self.listed().find_map(|(_, segment)| segment.range());
        first.map_or(self.end, |range| range.start)
    }

    /// Finds a resource; `None` if there is none of this name, or no more.
    #[must_use]
    pub fn find(&self, resource: Resource) -> Option<Found> {
        match resource {
            Resource::Initialization(version) => {
                let mut all = self.initializations.iter();
                let found = all.find(|it| it.version == version)?;
                Some(Found::Bytes(found.initialization.bytes.clone()))
            }
            Resource::Key(number) => {
                let mut keys = self.keys.iter();
                let (_, key) = keys.find(|(known, _)| *known == number)?;
                Some(Found::Bytes(Bytes::copy_from_slice(key)))
            }
            Resource::Segment(number) => match self.segment(number) {
                Some(segment) if segment.duration.is_some() => segment.range().map(Found::Log),
                Some(_) => Some(Found::Later),
                None => self.is_next(number).then_some(Found::Later),
            },
            Resource::Part { segment, part } => match self.segment(segment) {
                Some(found) => {
                    let index = usize::try_from(part).ok()?;
                    match found.parts.get(index) {
                        Some(part) => Some(Found::Log(part.range.clone())),
                        None if found.duration.is_none() && index == found.parts.len() => {
                            Some(Found::Later)
                        }
                        None => None,
                    }
                }
                None => (self.is_next(segment) && part == 0).then_some(Found::Later),
            },
        }
        .filter(|found| *found != Found::Later || !self.ended)
    }

    /// The newest part; `None` before the first.
    #[must_use]
    pub fn newest(&self) -> Option<Resource> {
        let (number, segment) = self.listed().next_back()?;
        let part = segment.parts.len().checked_sub(1)? as u64;
        Some(Resource::Part {
            segment: number,
            part,
        })
    }

    /// The media sequence number of the next segment to begin.
    #[must_use]
    pub fn next_segment(&self) -> u64 {
        self.first_kept + self.segments.len() as u64
    }

    fn is_next(&self, number: u64) -> bool {
        let unfinished = self.segments.back().is_some_and(|it| it.duration.is_none());
        !unfinished && number == self.next_segment()
    }

    fn segment(&self, number: u64) -> Option<&Segment> {
        let index = usize::try_from(number.checked_sub(self.first_kept)?).ok()?;
        self.segments.get(index)
    }

    /// The listed segments with their media sequence numbers, the unfinished one among
    /// them.
    fn listed(&self) -> impl DoubleEndedIterator<Item = (u64, &Segment)> {
        let numbered = self.segments.iter().enumerate().skip(self.removed);
        numbered.map(|(index, segment)| (self.first_kept + index as u64, segment))
    }

    /// True if playlists list parts: MPEG-TS's are pieces of no use alone.
    fn has_parts(&self) -> bool {
        self.settings.segments.container == Container::Fmp4
    }

    fn newest_initialization(&self) -> Option<&Initialization> {
        let newest = self.initializations.back();
        newest.map(|newest| &newest.initialization)
    }

    fn push_part(&mut self, part: &Part, now_ms: Option<i64>) {
        let begins = self.segments.back().is_none_or(|it| it.duration.is_some());
        if begins {
            self.has_broken_promise |= self.independent == Some(true) && !part.independent;
            let wall_clock_ms = self.wall_clock(now_ms, part.duration);
            self.segments.push_back(Segment {
                parts: Vec::new(),
                duration: None,
                discontinuity: std::mem::take(&mut self.discontinuity),
                version: self
                    .initializations
                    .back()
                    .map_or(self.settings.first_segment, |it| it.version),
                key: self.keys.back().map(|(number, _)| *number),
                wall_clock_ms,
                kept_until: Duration::ZERO,
            });
        }
        let start = self.end;
        self.end += part.bytes.len() as u64;
        if let Some(segment) = self.segments.back_mut() {
            segment.parts.push(ListedPart {
                range: start..self.end,
                duration: part.duration,
                independent: part.independent,
            });
        }
    }

    /// The wall-clock time at which the next segment begins, whose first part is this long
    /// and has ended now. It goes on from the segment before: it does not jitter, and segments
    /// that come all at once, as a GOP cache does, follow one another. hls.js loses its place
    /// where two have one time. Only a publisher that was silent puts it forward.
    fn wall_clock(&self, now_ms: Option<i64>, first_part: Duration) -> Option<i64> {
        const MAX_SILENCE_MS: i64 = 500;
        let begun = now_ms? - millis(first_part);
        let going_on = self.segments.back().and_then(|last| {
            let time = last.wall_clock_ms? + millis(last.duration?);
            (!self.discontinuity).then_some(time)
        });
        let agreed = going_on.filter(|time| begun - time <= MAX_SILENCE_MS);
        Some(agreed.unwrap_or(begun))
    }

    fn end_segment(&mut self, end: &SegmentEnd) {
        let Some(segment) = self.segments.back_mut() else {
            return;
        };
        segment.duration = Some(end.duration);
        self.elapsed += end.duration;
        // RFC 8216 §4.3.4.2: shorter ones do not count for the peak.
        let shortest = self.target.unwrap_or_default() / 2;
        let seconds = end.duration.as_secs_f64();
        if end.duration >= shortest && seconds > 0.0 {
            let bytes = segment.range().map_or(0, |range| range.end - range.start);
            let bandwidth = (bytes as f64 * 8.0 / seconds).ceil() as u64;
            self.peak_bandwidth = self.peak_bandwidth.max(bandwidth);
            if end.pictures > 0 {
                self.frame_rate = Some(f64::from(end.pictures) / seconds);
            }
        }
        self.remove_old(self.settings.window);
    }

    /// Takes the oldest segments out of the window, where memory is short: three target
    /// durations stay.
    pub fn shorten(&mut self) {
        self.remove_old(Duration::ZERO);
    }

    /// Takes segments out of the window, and forgets those that no player can want.
    fn remove_old(&mut self, window: Duration) {
        let shortest = self.target.unwrap_or_default() * MIN_TARGET_DURATIONS;
        let window = window.max(shortest);
        let mut listed: Duration = self.listed().map(|(_, segment)| segment.length()).sum();
        let count = self.segments.len();
        while let Some(oldest) = self.segments.get_mut(self.removed) {
            let length = oldest.length();
            let left = listed.saturating_sub(length);
            if left < window && count - self.removed <= MAX_LISTED {
                break;
            }
            // RFC 8216 §6.2.2: it stays for its duration and that of the playlist.
            oldest.kept_until = self.elapsed + length + listed;
            self.discontinuity_sequence += u64::from(oldest.discontinuity);
            listed = left;
            self.removed += 1;
        }
        while self.removed > 0
            && let Some(oldest) = self.segments.front()
            && (oldest.kept_until <= self.elapsed || self.segments.len() > MAX_KEPT)
        {
            self.segments.pop_front();
            self.removed -= 1;
            self.first_kept += 1;
        }
        let oldest = self.segments.front().map(|segment| segment.version);
        while self.initializations.len() > 1
            && self.initializations.front().map(|it| it.version) < oldest
        {
            self.initializations.pop_front();
        }
        let oldest = self.segments.front().and_then(|segment| segment.key);
        while self.keys.len() > 1 && self.keys.front().map(|(number, _)| *number) < oldest {
            self.keys.pop_front();
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
