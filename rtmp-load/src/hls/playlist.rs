//! Reads playlists as a player does (RFC 8216bis §4), and says where they break
//! rules that a player can live with.

mod attributes;

use std::time::Duration;

use attributes::Attributes;

/// The longest playlist that is believed, in bytes.
pub(crate) const MAX_PLAYLIST_BYTES: usize = 1024 * 1024;

/// No live stream has longer segments, in seconds.
const MAX_SECONDS: f64 = 86_400.0;
/// Numbers of segments and bytes are whole numbers in any language up to here.
const MAX_NUMBER: u64 = 1 << 53;

/// A playlist of either kind.
#[derive(Debug)]
pub(crate) enum Playlist {
    /// The URIs of the variants, in their order.
    Multivariant(Vec<String>),
    /// One rendition.
    Media(MediaPlaylist),
}

/// A playlist that cannot be played.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum PlaylistError {
    /// It does not begin as a playlist does.
    #[error("does not begin with #EXTM3U")]
    Header,
    /// A tag that has to be there.
    #[error("has no {0}")]
    Missing(&'static str),
    /// A tag with a value that makes no sense.
    #[error("line {line}: `{text}` makes no sense")]
    Line {
        /// From 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// It leaves out segments that the player does not know.
    #[error("leaves out segments (EXT-X-SKIP) that were not in the playlist before")]
    Skip,
}

/// A range of bytes of a resource, or all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resource {
    /// Its URI as it stands in the playlist.
    pub uri: String,
    /// First byte and number of bytes; a hint's may be open at the end.
    pub range: Option<(u64, Option<u64>)>,
}

/// A part of a segment.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub resource: Resource,
    pub duration: Duration,
    /// True if it begins with a keyframe.
    pub independent: bool,
    /// True if it is not there.
    pub gap: bool,
}

/// A segment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Segment {
    /// `None` while it is being made.
    pub whole: Option<(Resource, Duration)>,
    /// Its parts, as far as they are listed.
    pub parts: Vec<Part>,
    /// The initialization section (`EXT-X-MAP`).
    pub map: Option<Resource>,
    /// True if its times have nothing to do with those before.
    pub discontinuity: bool,
    /// True if it is not there.
    pub gap: bool,
}

/// `EXT-X-SERVER-CONTROL`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ServerControl {
    pub can_block_reload: bool,
    pub can_skip: bool,
    pub hold_back: Option<Duration>,
    pub part_hold_back: Option<Duration>,
}

/// A media playlist. The segment at `segments[i]` has the number
/// `media_sequence + i`; the last may be incomplete.
#[derive(Debug, Clone, Default)]
pub(crate) struct MediaPlaylist {
    pub target: Duration,
    pub part_target: Option<Duration>,
    pub media_sequence: u64,
    pub control: ServerControl,
    pub segments: Vec<Segment>,
    /// The part that comes next.
    pub hint: Option<Resource>,
    /// `EXT-X-ENDLIST`.
    pub ended: bool,
    /// Segments that a delta update leaves out.
    skipped: u64,
}

impl Playlist {
    /// Reads one.
    ///
    /// # Errors
    /// If it cannot be played.
    pub(crate) fn parse(text: &str) -> Result<Self, PlaylistError> {
        let mut lines = text.lines();
        if lines.next().map(str::trim_end) != Some("#EXTM3U") {
            return Err(PlaylistError::Header);
        }
        let mut reader = Reader::default();
        for (index, text) in lines.enumerate() {
            let text = text.trim_end();
            reader.line(text).ok_or_else(|| PlaylistError::Line {
                line: index + 2,
                text: text.to_owned(),
            })?;
        }
        reader.finish()
    }
}

impl MediaPlaylist {
    /// The number of the segment behind the last complete one, and the number
    /// of that segment's parts: the end of what is listed.
    pub(crate) fn end(&self) -> (u64, usize) {
        let count = self.segments.len() as u64;
        match self.segments.last() {
            Some(open) if open.whole.is_none() => {
                (self.media_sequence + count - 1, open.parts.len())
            }
            _ => (self.media_sequence + count, 0),
        }
    }

    /// The segment of a number.
    pub(crate) fn segment(&self, number: u64) -> Option<&Segment> {
        let index = number.checked_sub(self.media_sequence)?;
        self.segments.get(usize::try_from(index).ok()?)
    }

    /// Puts in what a delta update leaves out (RFC 8216bis §6.2.5.1).
    ///
    /// # Errors
    /// If `old` has not all of it.
    pub(crate) fn complete(&mut self, old: Option<&MediaPlaylist>) -> Result<(), PlaylistError> {
        if self.skipped == 0 {
            return Ok(());
        }
        let known = |number| old.and_then(|old| old.segment(number)).cloned();
        let numbers = self.media_sequence..self.media_sequence + self.skipped;
        let mut segments = numbers
            .map(|number| {
                let segment = known(number).filter(|segment| segment.whole.is_some());
                // Parts that old are listed no more.
                let parts = Vec::new();
                segment.map(|segment| Segment { parts, ..segment })
            })
            .collect::<Option<Vec<Segment>>>()
            .ok_or(PlaylistError::Skip)?;
        let map = segments.last().and_then(|last| last.map.clone());
        for segment in &mut self.segments {
            if segment.map.is_some() {
                break;
            }
            segment.map.clone_from(&map);
        }
        segments.append(&mut self.segments);
        self.segments = segments;
        self.skipped = 0;
        Ok(())
    }

    /// What breaks the rules without keeping a player from playing.
    pub(crate) fn oddities(&self) -> Vec<&'static str> {
        let control = &self.control;
        let parts = || self.segments.iter().flat_map(|segment| &segment.parts);
        let too_long = self.segments.iter().any(|segment| {
            let duration = segment.whole.as_ref().map(|(_, duration)| *duration);
            duration
                .is_some_and(|duration| duration.as_secs_f64().round() > self.target.as_secs_f64())
        });
        let part_target = self.part_target.unwrap_or_default();
        let rules = [
            (
                too_long,
                "a segment is longer than EXT-X-TARGETDURATION (RFC 8216bis §4.4.3.1)",
            ),
            (
                parts().any(|part| part.duration > part_target + Duration::from_micros(500)),
                "a part is longer than PART-TARGET (§4.4.4.9)",
            ),
            (
                control.hold_back.is_some_and(|back| back < self.target * 3),
                "HOLD-BACK is less than three target durations (§4.4.3.8)",
            ),
            (
                self.part_target.is_some() && control.part_hold_back.is_none(),
                "there are parts and no PART-HOLD-BACK (§4.4.3.8)",
            ),
            (
                control
                    .part_hold_back
                    .is_some_and(|back| back < part_target * 2),
                "PART-HOLD-BACK is less than twice PART-TARGET (§4.4.3.8)",
            ),
        ];
        rules
            .into_iter()
            .filter_map(|(broken, rule)| broken.then_some(rule))
            .collect()
    }
}

/// Reads line by line.
#[derive(Default)]
struct Reader {
    list: MediaPlaylist,
    has_target: bool,
    variants: Vec<String>,
    /// The next URI is a variant's.
    variant_follows: bool,
    /// The segment whose URI has not come.
    next: Segment,
    duration: Option<Duration>,
    range: Option<(u64, Option<u64>)>,
    map: Option<Resource>,
    /// Where the last range ended, for ranges without a beginning.
    range_end: Option<(String, u64)>,
}

impl Reader {
    /// `None` if the line makes no sense.
    fn line(&mut self, line: &str) -> Option<()> {
        let Some(tag) = line.strip_prefix("#EXT") else {
            if !line.is_empty() && !line.starts_with('#') {
                self.uri(line);
            }
            return Some(());
        };
        let (name, value) = tag.split_once(':').unwrap_or((tag, ""));
        let attributes = || Attributes(value);
        let list = &mut self.list;
        match name {
            "INF" => {
                let number = value.split(',').next()?;
                self.duration = Some(seconds(number)?);
            }
            "-X-STREAM-INF" => self.variant_follows = true,
            "-X-TARGETDURATION" => {
                list.target = seconds(value)?;
                self.has_target = true;
            }
            "-X-MEDIA-SEQUENCE" => list.media_sequence = number(value)?,
            "-X-PART-INF" => {
                list.part_target = Some(attributes().seconds("PART-TARGET")??);
            }
            "-X-SERVER-CONTROL" => {
                let attributes = attributes();
                list.control = ServerControl {
                    can_block_reload: attributes.is_yes("CAN-BLOCK-RELOAD"),
                    can_skip: attributes.get("CAN-SKIP-UNTIL").is_some(),
                    hold_back: attributes.seconds("HOLD-BACK").unwrap_or_default(),
                    part_hold_back: attributes.seconds("PART-HOLD-BACK").unwrap_or_default(),
                };
            }
            "-X-SKIP" => {
                list.skipped = number(attributes().get("SKIPPED-SEGMENTS")?)?;
            }
            "-X-ENDLIST" => list.ended = true,
            "-X-DISCONTINUITY" => self.next.discontinuity = true,
            "-X-GAP" => self.next.gap = true,
            "-X-BYTERANGE" => self.range = Some(byte_range(value)?),
            "-X-MAP" => {
                self.map = Some(self.resource(attributes().get("URI")?, &attributes())?);
            }
            "-X-PART" => {
                let attributes = attributes();
                let part = Part {
                    resource: self.resource(attributes.get("URI")?, &attributes)?,
                    duration: attributes.seconds("DURATION")??,
                    independent: attributes.is_yes("INDEPENDENT"),
                    gap: attributes.is_yes("GAP"),
                };
                self.next.parts.push(part);
            }
            "-X-PRELOAD-HINT" if attributes().get("TYPE") == Some("PART") => {
                let attributes = attributes();
                let start = number(attributes.get("BYTERANGE-START").unwrap_or("0"))?;
                let length = match attributes.get("BYTERANGE-LENGTH") {
                    Some(length) => Some(number(length)?),
                    None => None,
                };
                list.hint = Some(Resource {
                    uri: attributes.get("URI")?.to_owned(),
                    range: (start > 0 || length.is_some()).then_some((start, length)),
                });
            }
            _ => {}
        }
        Some(())
    }

    fn uri(&mut self, uri: &str) {
        if std::mem::take(&mut self.variant_follows) {
            self.variants.push(uri.to_owned());
            return;
        }
        let Some(duration) = self.duration.take() else {
            return;
        };
        let range = self.range.take();
        let resource = self.ranged(uri, range);
        let mut segment = std::mem::take(&mut self.next);
        segment.whole = Some((resource, duration));
        segment.map.clone_from(&self.map);
        self.list.segments.push(segment);
    }

    fn resource(&mut self, uri: &str, attributes: &Attributes<'_>) -> Option<Resource> {
        let range = match attributes.get("BYTERANGE") {
            Some(text) => Some(byte_range(text)?),
            None => None,
        };
        Some(self.ranged(uri, range))
    }

    /// A range without a beginning follows the one before (§4.4.4.2).
    fn ranged(&mut self, uri: &str, range: Option<(u64, Option<u64>)>) -> Resource {
        let range = range.map(|(length, start)| {
            let before = self.range_end.as_ref().filter(|(before, _)| before == uri);
            let start = start.or(before.map(|(_, end)| *end)).unwrap_or(0);
            self.range_end = Some((uri.to_owned(), start + length));
            (start, Some(length))
        });
        Resource {
            uri: uri.to_owned(),
            range,
        }
    }

    fn finish(mut self) -> Result<Playlist, PlaylistError> {
        if !self.variants.is_empty() {
            return Ok(Playlist::Multivariant(self.variants));
        }
        if !self.has_target {
            return Err(PlaylistError::Missing("EXT-X-TARGETDURATION"));
        }
        if !self.next.parts.is_empty() || self.list.hint.is_some() {
            self.next.map = self.map;
            self.list.segments.push(self.next);
        }
        Ok(Playlist::Media(self.list))
    }
}

fn seconds(text: &str) -> Option<Duration> {
    let seconds = text.trim().parse().ok();
    let seconds = seconds.filter(|seconds| (0.0..=MAX_SECONDS).contains(seconds))?;
    Some(Duration::from_secs_f64(seconds))
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| *number <= MAX_NUMBER)
}

/// `length[@start]`.
fn byte_range(text: &str) -> Option<(u64, Option<u64>)> {
    match text.split_once('@') {
        Some((length, start)) => Some((number(length)?, Some(number(start)?))),
        None => Some((number(text)?, None)),
    }
}

#[cfg(test)]
mod tests;
