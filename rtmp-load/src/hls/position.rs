//! Where in a playlist a player begins, and what it loads next.

use std::time::Duration;

use super::{
    error::HlsError,
    playlist::{MediaPlaylist, Resource},
};

/// Hold-back where the playlist names none, in target durations (RFC 8216bis
/// §4.4.3.8).
const HOLD_BACK_TARGETS: u32 = 3;

/// What is being loaded on the connection of media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    Map,
    Segment { duration: Duration },
    Part { duration: Duration },
    Hint,
}

impl Load {
    /// As messages call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Map => "the initialization section",
            Self::Segment { .. } => "a segment",
            Self::Part { .. } => "a part",
            Self::Hint => "the hinted part",
        }
    }
}

/// The next segment or part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cursor {
    pub(super) segment: u64,
    pub(super) part: usize,
}

/// What the cursor points at.
pub(super) struct Found {
    pub(super) resource: Resource,
    pub(super) map: Option<Resource>,
    pub(super) load: Load,
    /// True if its times have nothing to do with those before.
    pub(super) discontinuity: bool,
}

/// Where to begin: at the last segment or independent part that begins not
/// later than the hold-back. With it, the time from there to the hold-back.
pub(super) fn start(list: &MediaPlaylist, in_parts: bool) -> (Cursor, Duration) {
    let hold_back = match list.control.part_hold_back {
        Some(hold_back) if in_parts => hold_back,
        _ => list
            .control
            .hold_back
            .unwrap_or(list.target * HOLD_BACK_TARGETS),
    };
    let mut places = Vec::new();
    let mut time = Duration::ZERO;
    for (number, segment) in (list.media_sequence..).zip(&list.segments) {
        let place = |part| Cursor {
            segment: number,
            part,
        };
        let mut part_time = time;
        if segment.whole.is_some() {
            places.push((place(0), time));
        }
        if in_parts {
            for (index, part) in segment.parts.iter().enumerate() {
                if part.independent {
                    places.push((place(index), part_time));
                }
                part_time += part.duration;
            }
        }
        time = match &segment.whole {
            Some((_, duration)) => time + *duration,
            None => part_time,
        };
    }
    let position = time.saturating_sub(hold_back);
    let place = places.iter().rfind(|(_, time)| *time <= position);
    match place.or(places.first()) {
        Some((cursor, time)) => (*cursor, position.saturating_sub(*time)),
        None => {
            let cursor = Cursor {
                segment: list.media_sequence,
                part: 0,
            };
            (cursor, Duration::ZERO)
        }
    }
}

/// What comes next from the cursor on, and the cursor there: it is moved over
/// what is not there. `missed` is a hint that the server did not keep.
pub(super) fn next(
    list: &MediaPlaylist,
    in_parts: bool,
    mut cursor: Cursor,
    missed: Option<&Resource>,
) -> (Cursor, Option<Found>) {
    let found = loop {
        let Some(segment) = list.segment(cursor.segment) else {
            break None;
        };
        let found = |resource: &Resource, load| Found {
            resource: resource.clone(),
            map: segment.map.clone(),
            load,
            discontinuity: segment.discontinuity && cursor.part == 0,
        };
        let part = segment.parts.get(cursor.part).filter(|_| in_parts);
        match (part, &segment.whole) {
            (Some(part), _) if part.gap => cursor.part += 1,
            (Some(part), _) => {
                let duration = part.duration;
                break Some(found(&part.resource, Load::Part { duration }));
            }
            (None, Some((resource, duration))) if cursor.part == 0 && !segment.gap => {
                let duration = *duration;
                break Some(found(resource, Load::Segment { duration }));
            }
            (None, Some(_)) => {
                cursor = Cursor {
                    segment: cursor.segment + 1,
                    part: 0,
                };
            }
            (None, None) => {
                let is_next = in_parts && cursor.part == segment.parts.len();
                let hint = list.hint.as_ref().filter(|_| is_next);
                let hint = hint.filter(|hint| missed != Some(*hint));
                break hint.map(|hint| found(hint, Load::Hint));
            }
        }
    };
    (cursor, found)
}

/// The end of what is listed.
pub(super) fn end_of(list: &MediaPlaylist) -> Cursor {
    let (segment, part) = list.end();
    Cursor { segment, part }
}

/// A playlist only grows at its end and shrinks at its beginning (RFC 8216bis
/// §6.2.1).
///
/// # Errors
/// If it does otherwise.
pub(super) fn check_order(old: &MediaPlaylist, new: &MediaPlaylist) -> Result<(), HlsError> {
    let backwards = |text| Err(HlsError::Backwards(text));
    if new.media_sequence < old.media_sequence {
        return backwards(format!(
            "EXT-X-MEDIA-SEQUENCE {} after {}",
            new.media_sequence, old.media_sequence
        ));
    }
    let (old_end, new_end) = (end_of(old), end_of(new));
    if new_end < old_end {
        return backwards(format!(
            "it ends at segment {}, part {}, after it had ended at segment {}, part {}",
            new_end.segment, new_end.part, old_end.segment, old_end.part
        ));
    }
    let differs = (new.media_sequence..old_end.segment).find(|number| {
        let uri = |list: &MediaPlaylist| {
            let whole = list.segment(*number)?.whole.as_ref()?;
            Some(whole.0.uri.clone())
        };
        uri(old) != uri(new)
    });
    match differs {
        Some(number) => backwards(format!("segment {number} has another URI than before")),
        None => Ok(()),
    }
}
