//! Blocking playlist reload (RFC 8216bis §6.2.5.2): may the playlist be sent now?

use super::Playlist;

/// What a player's `_HLS_msn` and `_HLS_part` ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reload {
    /// `_HLS_msn`: the playlist is to have this segment, or the part of it.
    pub segment: Option<u64>,
    /// `_HLS_part`: it is to have this part of the segment.
    pub part: Option<u64>,
}

/// A reload that is answered with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadReload {
    /// `_HLS_part` without `_HLS_msn`.
    PartWithoutSegment,
    /// What is asked for is too far ahead.
    TooFarAhead,
}

impl Playlist {
    /// True if the playlist has what is asked for; if not, the request waits for the next
    /// part, and is judged again. Whether there is a playlist at all, [`is_ready`] says.
    ///
    /// [`is_ready`]: Playlist::is_ready
    ///
    /// # Errors
    /// The request is answered with 400.
    pub fn answers(&self, reload: Reload) -> Result<bool, BadReload> {
        let Some(number) = reload.segment else {
            return match reload.part {
                Some(_) => Err(BadReload::PartWithoutSegment),
                None => Ok(true),
            };
        };
        if self.ended {
            return Ok(true);
        }
        const SEGMENTS_AHEAD: u64 = 2;
        let newest = self.next_segment().saturating_sub(1);
        if number > newest.saturating_add(SEGMENTS_AHEAD) {
            return Err(BadReload::TooFarAhead);
        }
        let segment = match self.segment(number) {
            Some(segment) => segment,
            // It is no more, so that the playlist is beyond it.
            None if number < self.first_kept => return Ok(true),
            None => {
                return match reload.part {
                    Some(part) if part >= self.parts_ahead() => Err(BadReload::TooFarAhead),
                    _ => Ok(false),
                };
            }
        };
        if segment.duration.is_some() {
            return match reload.part {
                // A part behind the last one is the next segment's first.
                Some(part) if part >= segment.parts.len() as u64 => {
                    let next = self.segment(number + 1);
                    Ok(next.is_some_and(|next| !next.parts.is_empty()))
                }
                _ => Ok(true),
            };
        }
        match reload.part {
            None => Ok(false),
            Some(part) => {
                let there = segment.parts.len() as u64;
                if part >= there + self.parts_ahead() {
                    return Err(BadReload::TooFarAhead);
                }
                Ok(part < there)
            }
        }
    }

    /// The draft's advance part limit: three seconds of parts, three at least.
    fn parts_ahead(&self) -> u64 {
        let part = self.settings.segments.part_target.as_secs_f64();
        if part < 1.0 {
            (3.0 / part).ceil() as u64
        } else {
            3
        }
    }
}
