//! The position at which a player is that keeps a buffer: where it began, how
//! far its buffer reaches, and for how long it had nothing to show.

use std::time::Duration;

use crate::clock::Instant;

/// Pictures of a live stream do not lie further apart.
const MAX_INTERVAL_MS: i64 = 1000;

/// See the module's description. Media times are milliseconds of the
/// container's clock, moved so that they go on through a discontinuity.
#[derive(Debug, Default)]
pub(super) struct PlaybackClock {
    /// From the first picture to the position where playing is to begin.
    lead: Duration,
    /// The first picture that came.
    first_ms: Option<i64>,
    /// Where the buffer ends.
    end_ms: i64,
    /// Where the buffer ended when the part that comes now began.
    part_ms: i64,
    /// The last picture, in media time.
    last_ms: Option<i64>,
    /// From a picture to the next.
    interval_ms: i64,
    /// To add to the container's times.
    shift_ms: i64,
    /// True before the first picture behind a discontinuity.
    is_discontinuous: bool,
    playing: Option<Playing>,
}

#[derive(Debug, Clone, Copy)]
struct Playing {
    from_ms: i64,
    since: Instant,
    stalled: Duration,
}

impl Playing {
    fn position_ms(&self, now: Instant) -> i64 {
        let elapsed = now.since(self.since).saturating_sub(self.stalled);
        self.from_ms + milliseconds(elapsed)
    }

    fn shows_at(&self, present_ms: i64) -> Instant {
        let ahead = u64::try_from(present_ms - self.from_ms).unwrap_or(0);
        self.since + self.stalled + Duration::from_millis(ahead)
    }
}

impl PlaybackClock {
    /// A clock of a player that begins so far behind the first picture that it
    /// loads.
    pub(super) fn new(lead: Duration) -> Self {
        Self {
            lead,
            ..Self::default()
        }
    }

    /// A picture has come, and with it the end of a stall. Returns how long
    /// that was, and when the picture is shown; nothing for one before the
    /// position where playing begins.
    pub(super) fn picture(&mut self, now: Instant, present_ms: i64) -> (Duration, Option<Instant>) {
        if std::mem::take(&mut self.is_discontinuous) {
            self.shift_ms = self.end_ms - present_ms;
        }
        let present_ms = present_ms + self.shift_ms;
        if self.first_ms.is_none() {
            self.first_ms = Some(present_ms);
            self.end_ms = present_ms;
            self.part_ms = present_ms;
        }
        let stall = self.standstill(now);
        if let Some(playing) = &mut self.playing {
            playing.stalled += stall;
        }
        self.end_ms = self.end_ms.max(present_ms);
        let interval_ms = present_ms - self.last_ms.unwrap_or(present_ms);
        if (1..=MAX_INTERVAL_MS).contains(&interval_ms) {
            self.interval_ms = interval_ms;
        }
        self.last_ms = Some(present_ms);
        self.begin_playing(now);
        let playing = self.playing.filter(|playing| present_ms >= playing.from_ms);
        let shown_at = playing.map(|playing| playing.shows_at(present_ms).max(now));
        (stall, shown_at)
    }

    /// A part or segment has ended, of which all pictures were looked at.
    pub(super) fn part_ends(&mut self) {
        if let Some(last_ms) = self.last_ms {
            self.end_ms = self.end_ms.max(last_ms + self.interval_ms);
        }
        self.part_ms = self.end_ms;
    }

    /// A part or segment of this duration has come that was not looked at.
    /// Returns the stall that it ended.
    pub(super) fn part_came(&mut self, now: Instant, duration: Duration) -> Duration {
        let stall = self.standstill(now);
        if let Some(playing) = &mut self.playing {
            playing.stalled += stall;
        }
        self.end_ms = self.end_ms.max(self.part_ms + milliseconds(duration));
        self.part_ms = self.end_ms;
        self.begin_playing(now);
        stall
    }

    /// The next times have nothing to do with those before.
    pub(super) fn discontinuity(&mut self) {
        self.is_discontinuous = self.first_ms.is_some();
    }

    /// For how long there has been nothing to show.
    pub(super) fn standstill(&self, now: Instant) -> Duration {
        let behind = self
            .playing
            .map_or(0, |playing| playing.position_ms(now) - self.end_ms);
        Duration::from_millis(u64::try_from(behind).unwrap_or(0))
    }

    /// Begins to play when the buffer reaches the position.
    fn begin_playing(&mut self, now: Instant) {
        let Some(first_ms) = self.first_ms else {
            return;
        };
        let from_ms = first_ms + milliseconds(self.lead);
        if self.playing.is_none() && self.end_ms >= from_ms {
            self.playing = Some(Playing {
                from_ms,
                since: now,
                stalled: Duration::ZERO,
            });
        }
    }
}

fn milliseconds(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: Instant = Instant::from_nanos(1_000_000_000);

    fn at(milliseconds: u64) -> Instant {
        BEGIN + Duration::from_millis(milliseconds)
    }

    /// A part of thirty pictures that comes at this time.
    fn second(clock: &mut PlaybackClock, came: u64, from_ms: i64) -> Duration {
        let stalls = (0..30).map(|number| clock.picture(at(came), from_ms + number * 1000 / 30).0);
        let stall = stalls.sum();
        clock.part_ends();
        stall
    }

    #[test]
    fn a_player_whose_buffer_never_ends_shows_pictures_at_their_time() {
        let mut clock = PlaybackClock::new(Duration::from_millis(500));
        let (_, shown_at) = clock.picture(at(0), 90_000);
        assert_eq!(shown_at, None);
        let (_, shown_at) = clock.picture(at(1), 90_500);
        assert_eq!(shown_at, Some(at(1)));
        let (stall, shown_at) = clock.picture(at(1), 90_800);
        assert_eq!((stall, shown_at), (Duration::ZERO, Some(at(301))));
    }

    #[test]
    fn a_buffer_that_runs_dry_is_a_stall_until_more_comes() {
        let mut clock = PlaybackClock::new(Duration::ZERO);
        assert_eq!(second(&mut clock, 0, 0), Duration::ZERO);
        assert_eq!(second(&mut clock, 900, 1000), Duration::ZERO);
        let standstill = clock.standstill(at(3500));
        assert!(standstill.as_millis().abs_diff(1500) <= 2, "{standstill:?}");
        let stall = second(&mut clock, 4000, 2000);
        assert!(stall.as_millis().abs_diff(2000) <= 2, "{stall:?}");
        assert_eq!(clock.standstill(at(4900)), Duration::ZERO);
        let (_, shown_at) = clock.picture(at(4900), 3000);
        let late = shown_at.unwrap().since(at(5000));
        assert!(late <= Duration::from_millis(2), "{late:?}");
    }

    #[test]
    fn parts_that_are_only_counted_fill_the_buffer_by_their_duration() {
        let mut clock = PlaybackClock::new(Duration::ZERO);
        second(&mut clock, 0, 0);
        let part = Duration::from_secs(1);
        assert_eq!(clock.part_came(at(900), part), Duration::ZERO);
        let stall = clock.part_came(at(2500), part);
        assert!(stall.as_millis().abs_diff(500) <= 2, "{stall:?}");
    }

    #[test]
    fn times_go_on_through_a_discontinuity() {
        let mut clock = PlaybackClock::new(Duration::ZERO);
        second(&mut clock, 0, 50_000);
        clock.discontinuity();
        assert_eq!(second(&mut clock, 900, 10), Duration::ZERO);
        assert_eq!(clock.standstill(at(1900)), Duration::ZERO);
    }
}
