//! How long segments and parts are.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::track::{TICKS_PER_MS, Ticks, VIDEO_TIMESCALE};

/// How segments are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The segments' container.
    pub container: Container,
    /// No part is longer (`PART-TARGET`); others than a segment's last have at least 85 %
    /// of it (RFC 8216bis §4.4.4.9).
    pub part_target: Duration,
    /// A segment is at least so long (SRS: `hls_fragment`).
    pub fragment: Duration,
    /// A segment without a keyframe ends after so many times `fragment` (SRS:
    /// `hls_aof_ratio`).
    pub max_fragments: f64,
    /// Segments begin with a keyframe (SRS: `hls_wait_keyframe`).
    pub wait_keyframe: bool,
    /// The target duration is not shorter (SRS: `hls_td_ratio`).
    pub min_target: Duration,
    /// Keyframes of this stream have stayed away for longer than they first did: segments may
    /// be as long as `max_fragments` allows from the start.
    pub irregular: bool,
    /// The first segments are shorter: a second, and then as long as all before, so that
    /// there is soon a playlist, and a player that begins with it does not run out.
    pub short_first: bool,
}

/// SRS's defaults, with the part target that RFC 8216bis's authors use.
impl Default for Settings {
    fn default() -> Self {
        Settings {
            container: Container::Fmp4,
            part_target: Duration::from_millis(333),
            fragment: Duration::from_secs(10),
            max_fragments: 2.1,
            wait_keyframe: true,
            min_target: Duration::ZERO,
            irregular: false,
            short_first: false,
        }
    }
}

/// The container of segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Container {
    /// Fragmented MP4 (ISO/IEC 14496-12).
    Fmp4,
    /// MPEG-TS (ISO/IEC 13818-1).
    MpegTs,
}

const SECOND: Ticks = VIDEO_TIMESCALE as Ticks;
/// `EXTINF` is rounded to whole seconds before it is compared with the target duration.
const ROUNDED_AWAY: Ticks = 490 * TICKS_PER_MS;
/// Keyframes that are early by so much, as milliseconds are rounded, are in time.
const TOLERANCE: Ticks = 50 * TICKS_PER_MS;
const MIN_PART: Ticks = 20 * TICKS_PER_MS;
const MAX_FRAGMENT: Ticks = 3600 * SECOND;

/// The settings in ticks, and the target duration.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Limits {
    pub(super) part: Ticks,
    pub(super) fragment: Ticks,
    pub(super) wait_keyframe: bool,
    short_first: bool,
    /// Times that are so far ahead of the newest have jumped.
    pub(super) jump: Ticks,
    /// The target duration, in seconds, once it is fixed.
    target: Option<u64>,
    min_target: u64,
    max_target: u64,
}

impl Limits {
    pub(super) fn new(settings: &Settings) -> Self {
        let ticks = |duration: Duration| {
            let ticks = duration.as_nanos() * u128::from(VIDEO_TIMESCALE) / 1_000_000_000;
            u64::try_from(ticks).unwrap_or(u64::MAX).min(MAX_FRAGMENT)
        };
        let part = ticks(settings.part_target).max(MIN_PART);
        let fragment = ticks(settings.fragment).max(part);
        // A ratio that is no number counts as 1.
        let longest = fragment as f64 * settings.max_fragments.clamp(1.0, 100.0).max(1.0);
        let shortest = whole_seconds(fragment.max(ticks(settings.min_target)));
        let max_target = whole_seconds(longest as Ticks).max(shortest);
        Limits {
            part,
            fragment,
            wait_keyframe: settings.wait_keyframe,
            short_first: settings.short_first,
            jump: fragment.max(SECOND),
            target: None,
            min_target: match settings.irregular {
                true => max_target,
                false => shortest,
            },
            max_target,
        }
    }

    /// The shortest part, but for the last of a segment.
    pub(super) fn shortest_part(&self) -> Ticks {
        (self.part * 85).div_ceil(100)
    }

    /// The shortest segment that ends at a keyframe, where those before have this length
    /// together.
    pub(super) fn shortest_segment(&self, before: Ticks) -> Ticks {
        match self.short_first {
            true => self.fragment.min(before.max(SECOND)),
            false => self.fragment,
        }
    }

    /// How early a keyframe may end a segment.
    pub(super) fn tolerance(&self) -> Ticks {
        TOLERANCE.min(self.fragment / 10)
    }

    /// The longest segment that fits the target duration.
    pub(super) fn longest(&self) -> Ticks {
        self.target.unwrap_or(self.max_target) * SECOND + ROUNDED_AWAY
    }

    /// The longest first segment, and how long a keyframe is waited for.
    pub(super) fn longest_first_segment(&self) -> Ticks {
        self.max_target * SECOND
    }

    /// The length of segments where keyframes come at this interval.
    pub(super) fn natural_segment(&self, group: Ticks) -> Ticks {
        match self.wait_keyframe {
            true => (self.fragment - self.tolerance()).div_ceil(group).max(1) * group,
            false => self.fragment,
        }
    }

    /// Fixes the target duration by the expected length of a segment, if it is not fixed.
    pub(super) fn fix_target(&mut self, expected: Ticks) -> Option<Duration> {
        if self.target.is_some() {
            return None;
        }
        let margin = 100 * TICKS_PER_MS;
        let target = whole_seconds(expected + margin).clamp(self.min_target, self.max_target);
        self.target = Some(target);
        Some(Duration::from_secs(target))
    }
}

/// Rounded, and 1 at least.
fn whole_seconds(ticks: Ticks) -> u64 {
    ((ticks + SECOND / 2) / SECOND).max(1)
}
