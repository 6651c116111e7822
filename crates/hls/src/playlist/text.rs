//! The text of playlists (RFC 8216bis §4).

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;

use super::{PART_TARGET_DURATIONS, Playlist, Resource, Segment};

/// Segments older than this many target durations may be left out of an update
/// (RFC 8216bis §4.4.3.8).
const SKIP_TARGET_DURATIONS: u32 = 6;
/// Players stay away from the end by this (RFC 8216bis §4.4.3.8).
const PART_HOLD_BACK: u32 = 3;

/// The form of a media playlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MediaPlaylist {
    /// With parts, for Low-Latency HLS. MPEG-TS has none in any case.
    pub low_latency: bool,
    /// An update for a player that has an earlier one (`_HLS_skip=YES`).
    pub skip: bool,
}

impl Playlist {
    /// The multivariant playlist, whose only variant is at `uri`; `None` while the tracks are
    /// not known.
    #[must_use]
    pub fn multivariant(&self, uri: &str) -> Option<String> {
        let tracks = self.newest_initialization()?;
        let (peak, average) = self.bandwidth();
        let mut text = String::from("#EXTM3U\n");
        let version = if self.has_parts() { 6 } else { 3 };
        line(&mut text, format_args!("#EXT-X-VERSION:{version}"));
        if self.is_independent() {
            text.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
        }
        let mut attributes = format!("BANDWIDTH={peak},AVERAGE-BANDWIDTH={average}");
        append(
            &mut attributes,
            format_args!(",CODECS=\"{}\"", tracks.codecs),
        );
        if let Some(resolution) = tracks.resolution {
            append(&mut attributes, format_args!(",RESOLUTION={resolution}"));
        }
        if let Some(rate) = self.frame_rate {
            append(&mut attributes, format_args!(",FRAME-RATE={rate:.3}"));
        }
        line(&mut text, format_args!("#EXT-X-STREAM-INF:{attributes}"));
        line(&mut text, format_args!("{uri}"));
        Some(text)
    }

    /// The media playlist; `uri` gives the URI of what it refers to, with whatever query it
    /// is to have. `None` while the playlist is not ready.
    #[must_use]
    pub fn media(&self, form: MediaPlaylist, uri: &dyn Fn(Resource) -> String) -> Option<String> {
        self.media_up_to(form, u64::MAX, uri)
    }

    /// The same without the segments after number `newest`, nor the end if there are any.
    #[must_use]
    pub fn media_up_to(
        &self,
        form: MediaPlaylist,
        newest: u64,
        uri: &dyn Fn(Resource) -> String,
    ) -> Option<String> {
        let target = self.target.filter(|_| self.is_ready(form.low_latency))?;
        let low_latency = form.low_latency && self.has_parts();
        let skipped = match form.skip && low_latency {
            true => self.skippable(target),
            false => 0,
        };
        let mut text = String::from("#EXTM3U\n");
        self.write_head(target, low_latency, &mut text);
        if skipped > 0 {
            line(
                &mut text,
                format_args!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}"),
            );
        }
        let parts_from = self.first_with_parts(target);
        let mut before = match skipped {
            0 => InForce::default(),
            _ => self
                .listed()
                .nth(skipped - 1)
                .map_or_else(InForce::default, |(_, it)| InForce {
                    version: Some(it.version),
                    key: it.key,
                }),
        };
        for (number, segment) in self.listed().skip(skipped) {
            if number > newest || (segment.duration.is_none() && !low_latency) {
                break;
            }
            self.write_segment_head(segment, &mut before, uri, &mut text);
            if low_latency && number >= parts_from {
                write_parts(number, segment, uri, &mut text);
            }
            if let Some(duration) = segment.duration {
                line(&mut text, format_args!("#EXTINF:{},", seconds(duration)));
                line(
                    &mut text,
                    format_args!("{}", uri(Resource::Segment(number))),
                );
            }
        }
        if self.ended && newest.saturating_add(1) >= self.next_segment() {
            text.push_str("#EXT-X-ENDLIST\n");
        } else if low_latency {
            let hint = uri(self.next_part());
            line(
                &mut text,
                format_args!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{hint}\""),
            );
        }
        Some(text)
    }

    fn write_head(&self, target: Duration, low_latency: bool, text: &mut String) {
        let version = match (low_latency, self.has_parts()) {
            (true, _) => 9,
            (false, true) => 6,
            (false, false) => 3,
        };
        line(text, format_args!("#EXT-X-VERSION:{version}"));
        if self.is_independent() {
            text.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
        }
        let target_seconds = target.as_secs();
        line(text, format_args!("#EXT-X-TARGETDURATION:{target_seconds}"));
        if low_latency {
            let part = self.settings.segments.part_target;
            let hold_back = seconds(part * PART_HOLD_BACK);
            let mut control = format!("CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={hold_back}");
            if self.settings.window > skip_boundary(target) {
                let until = seconds(skip_boundary(target));
                append(&mut control, format_args!(",CAN-SKIP-UNTIL={until}"));
            }
            line(text, format_args!("#EXT-X-SERVER-CONTROL:{control}"));
            let part = seconds(part);
            line(text, format_args!("#EXT-X-PART-INF:PART-TARGET={part}"));
        }
        let first = self.first_kept + self.removed as u64;
        line(text, format_args!("#EXT-X-MEDIA-SEQUENCE:{first}"));
        let discontinuities = self.discontinuity_sequence;
        if discontinuities > 0 {
            line(
                text,
                format_args!("#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuities}"),
            );
        }
    }

    /// What stands before a segment, behind what is in force `before` it.
    fn write_segment_head(
        &self,
        segment: &Segment,
        before: &mut InForce,
        uri: &dyn Fn(Resource) -> String,
        text: &mut String,
    ) {
        if segment.discontinuity {
            text.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if self.has_parts() && before.version != Some(segment.version) {
            before.version = Some(segment.version);
            // A key that stood before would encrypt it, too (RFC 8216 §4.3.2.4).
            if before.key.take().is_some() {
                text.push_str("#EXT-X-KEY:METHOD=NONE\n");
            }
            let uri = uri(Resource::Initialization(segment.version));
            line(text, format_args!("#EXT-X-MAP:URI=\"{uri}\""));
        }
        if let Some(number) = segment.key.filter(|_| segment.key != before.key) {
            before.key = segment.key;
            let uri = uri(Resource::Key(number));
            line(
                text,
                format_args!("#EXT-X-KEY:METHOD=AES-128,URI=\"{uri}\""),
            );
        }
        let time = segment.wall_clock_ms.map(Timestamp::from_millisecond);
        if let Some(Ok(time)) = time {
            line(text, format_args!("#EXT-X-PROGRAM-DATE-TIME:{time:.3}"));
        }
    }

    /// The first segment whose parts are listed.
    fn first_with_parts(&self, target: Duration) -> u64 {
        let mut newer = Duration::ZERO;
        let mut first = self.next_segment();
        for (number, segment) in self.listed().rev() {
            if newer >= target * PART_TARGET_DURATIONS {
                break;
            }
            newer += segment.length();
            first = number;
        }
        first
    }

    /// How many of the listed segments an update leaves out.
    fn skippable(&self, target: Duration) -> usize {
        if self.settings.window <= skip_boundary(target) {
            return 0;
        }
        let mut newer = Duration::ZERO;
        let mut kept = 0;
        for (_, segment) in self.listed().rev() {
            if newer >= skip_boundary(target) {
                break;
            }
            newer += segment.length();
            kept += 1;
        }
        self.listed().count() - kept
    }

    /// What the next part is called.
    fn next_part(&self) -> Resource {
        match self.listed().next_back() {
            Some((number, segment)) if segment.duration.is_none() => Resource::Part {
                segment: number,
                part: segment.parts.len() as u64,
            },
            _ => Resource::Part {
                segment: self.next_segment(),
                part: 0,
            },
        }
    }

    /// True if each segment, now and later, can be decoded without the ones before it.
    fn is_independent(&self) -> bool {
        self.independent == Some(true)
    }

    /// Bits per second: of the fastest segment so far, and of all that are listed.
    fn bandwidth(&self) -> (u64, u64) {
        let ranges = self.listed().filter_map(|(_, segment)| segment.range());
        let bytes: u64 = ranges.map(|range| range.end - range.start).sum();
        let length: Duration = self.listed().map(|(_, segment)| segment.length()).sum();
        let average = match length.as_secs_f64() {
            0.0 => 0,
            length => (bytes as f64 * 8.0 / length).ceil() as u64,
        };
        (self.peak_bandwidth.max(average), average)
    }
}

/// What a playlist has said of the segments that follow.
#[derive(Debug, Default)]
struct InForce {
    /// `EXT-X-MAP`.
    version: Option<u64>,
    /// `EXT-X-KEY`.
    key: Option<u64>,
}

fn skip_boundary(target: Duration) -> Duration {
    target * SKIP_TARGET_DURATIONS
}

fn write_parts(
    number: u64,
    segment: &Segment,
    uri: &dyn Fn(Resource) -> String,
    text: &mut String,
) {
    for (index, part) in segment.parts.iter().enumerate() {
        let uri = uri(Resource::Part {
            segment: number,
            part: index as u64,
        });
        let duration = seconds(part.duration);
        let independent = if part.independent {
            ",INDEPENDENT=YES"
        } else {
            ""
        };
        line(
            text,
            format_args!("#EXT-X-PART:DURATION={duration},URI=\"{uri}\"{independent}"),
        );
    }
}

/// Seconds with five decimals, finer than any timestamp of RTMP.
fn seconds(duration: Duration) -> String {
    let micros = duration.as_nanos().div_ceil(1000);
    format!("{:.5}", micros as f64 / 1e6)
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    append(text, line);
    text.push('\n');
}

fn append(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more)
        .expect("writing to a string cannot fail");
}
