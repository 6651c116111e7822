//! Order and completeness of what arrives: one simple rule each for timestamps
//! and for stamped frames.

use std::time::Duration;

use crate::{clock::Instant, stamp::Stamp};

/// Watches the timestamps of one kind of media of one player.
#[derive(Debug, Default, Clone)]
pub struct Timeline {
    last: Option<u32>,
    /// Messages whose timestamp was lower than the one before.
    pub reordered: u64,
    /// Jumps forward by more than the allowed gap.
    pub gaps: u64,
    /// The sum of those jumps.
    pub missing: Duration,
}

impl Timeline {
    /// Takes the timestamp of the next message. Timestamps are 32 bits and
    /// wrap: *later* means less than 2³¹ ms ahead.
    pub fn advance(&mut self, timestamp: u32, allowed_gap: Duration) {
        if let Some(last) = self.last {
            let step = timestamp.wrapping_sub(last) as i32;
            if step < 0 {
                self.reordered += 1;
            } else if Duration::from_millis(step as u64) > allowed_gap {
                self.gaps += 1;
                self.missing += Duration::from_millis(step as u64);
            }
        }
        self.last = Some(timestamp);
    }

    /// Forgets the last timestamp: a new connection may start anywhere.
    pub fn restart(&mut self) {
        self.last = None;
    }
}

/// Counts the frames of our own publishers that one player got and missed.
#[derive(Debug, Default, Clone)]
pub struct FrameCount {
    /// The publisher that is being followed and the last frame that came.
    following: Option<(u32, u32)>,
    /// Frames that arrived, each counted once.
    pub received: u64,
    /// Frames between two that arrived which did not.
    pub lost: u64,
    /// Frames that came again or after a later one.
    pub repeated: u64,
    /// Frames whose bytes were not those that were sent.
    pub corrupt: u64,
}

impl FrameCount {
    /// Takes the stamp of the next frame.
    pub fn advance(&mut self, stamp: &Stamp) {
        match self.following {
            Some((publisher, last)) if publisher == stamp.publisher => {
                if stamp.sequence <= last {
                    self.repeated += 1;
                    return;
                }
                self.lost += u64::from(stamp.sequence - last - 1);
            }
            // A publisher's first frame for this player may be any.
            _ => {}
        }
        self.received += 1;
        self.following = Some((stamp.publisher, stamp.sequence));
    }

    /// Adds to the lost those that should have come by now: all of
    /// `publisher` up to frame `due`.
    pub fn expect_up_to(&mut self, publisher: u32, due: u32) {
        if let Some((following, last)) = self.following
            && following == publisher
        {
            self.lost += u64::from(due.saturating_sub(last));
        }
    }

    /// Forgets the last frame: what passes between two connections is an
    /// outage, not a loss.
    pub fn restart(&mut self) {
        self.following = None;
    }

    /// The publisher whose frames come.
    pub fn publisher(&self) -> Option<u32> {
        self.following.map(|(publisher, _)| publisher)
    }

    /// The share of the frames due that arrived intact, if any were due.
    pub fn delivered(&self) -> Option<f64> {
        let due = self.received + self.lost;
        (due > 0).then(|| self.received.saturating_sub(self.corrupt) as f64 / due as f64)
    }
}

/// A picture that was sent longer ago is one of a film, such as a slate.
const FILM_AGE: Duration = Duration::from_secs(10);

/// When pictures came that were newer than all before, whoever had published them. Those of a
/// film are compared with each other.
#[derive(Debug, Clone, Copy, Default)]
pub struct News {
    /// The newest picture, and that of the film: when each was sent.
    newest: Option<Instant>,
    newest_of_film: Option<Instant>,
    /// When the last one came that was new.
    came_at: Option<Instant>,
    longest_gap: Duration,
}

impl News {
    /// A picture has come at `now`.
    pub fn advance(&mut self, stamp: &Stamp, now: Instant) {
        let newest = match now.since(stamp.sent_at) > FILM_AGE {
            true => &mut self.newest_of_film,
            false => &mut self.newest,
        };
        if newest.is_some_and(|newest| stamp.sent_at <= newest) {
            return;
        }
        *newest = Some(stamp.sent_at);
        if let Some(came_at) = self.came_at.replace(now) {
            self.longest_gap = self.longest_gap.max(now.since(came_at));
        }
    }

    /// The longest time without a new picture between the first one and `now`; `None` if
    /// none has come.
    pub fn longest_gap_up_to(&self, now: Instant) -> Option<Duration> {
        let came_at = self.came_at?;
        Some(self.longest_gap.max(now.since(came_at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn timeline(timestamps: &[u32]) -> Timeline {
        let mut timeline = Timeline::default();
        for timestamp in timestamps {
            timeline.advance(*timestamp, SECOND);
        }
        timeline
    }

    fn frames(sequences: &[u32]) -> FrameCount {
        let mut count = FrameCount::default();
        for &sequence in sequences {
            count.advance(&Stamp {
                boot: 0,
                publisher: 1,
                sequence,
                sent_at: Instant::from_nanos(0),
                checksum: 0,
            });
        }
        count
    }

    #[test]
    fn rising_and_equal_timestamps_are_in_order() {
        let timeline = timeline(&[0, 33, 33, 66, 1066]);
        assert_eq!((timeline.reordered, timeline.gaps), (0, 0));
    }

    #[test]
    fn a_step_back_is_counted_once_not_for_every_message_after_it() {
        assert_eq!(timeline(&[100, 60, 80, 100]).reordered, 1);
    }

    #[test]
    fn a_picture_that_was_sent_before_the_newest_is_not_news() {
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        let mut news = News::default();
        assert_eq!(news.longest_gap_up_to(at(5)), None);
        let mut came = |sent: u64, now: u64| {
            let stamp = Stamp {
                boot: 0,
                publisher: 1,
                sequence: 0,
                sent_at: at(sent),
                checksum: 0,
            };
            news.advance(&stamp, at(now));
        };
        came(100, 110);
        came(140, 150);
        // Another publisher's group, of which only the last is new.
        came(120, 600);
        came(580, 610);
        let gap = |now| news.longest_gap_up_to(at(now));
        assert_eq!(gap(620), Some(Duration::from_millis(460)));
        assert_eq!(gap(1_610), Some(Duration::from_secs(1)));
    }

    #[test]
    fn pictures_of_a_film_are_news_among_each_other() {
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        let mut news = News::default();
        for (sent, now) in [(60_000, 60_010), (1_000, 60_300), (1_040, 60_340)] {
            let stamp = Stamp {
                boot: 0,
                publisher: 1,
                sequence: 0,
                sent_at: at(sent),
                checksum: 0,
            };
            news.advance(&stamp, at(now));
        }
        // The film begins again: what is shown has been shown.
        let again = Stamp {
            boot: 0,
            publisher: 1,
            sequence: 0,
            sent_at: at(1_000),
            checksum: 0,
        };
        news.advance(&again, at(61_000));
        let gap = news.longest_gap_up_to(at(61_000));
        assert_eq!(gap, Some(Duration::from_millis(660)));
    }

    #[test]
    fn a_jump_forward_beyond_the_allowed_gap_is_a_gap() {
        let timeline = timeline(&[0, 1001, 1034]);
        assert_eq!(
            (timeline.gaps, timeline.missing),
            (1, Duration::from_millis(1001))
        );
    }

    #[test]
    fn timestamps_may_pass_the_middle_and_the_end_of_their_range() {
        let middle = timeline(&[0x7fff_fff0, 0x8000_0010]);
        let end = timeline(&[0xffff_fff0, 0x10]);
        assert_eq!(
            (middle.reordered, middle.gaps, end.reordered, end.gaps),
            (0, 0, 0, 0)
        );
    }

    #[test]
    fn frames_between_two_that_came_are_lost() {
        let count = frames(&[7, 8, 11]);
        assert_eq!((count.received, count.lost, count.repeated), (3, 2, 0));
        assert_eq!(count.delivered(), Some(0.6));
    }

    #[test]
    fn a_frame_that_comes_twice_is_repeated_and_not_received_twice() {
        let count = frames(&[7, 8, 8, 7, 9]);
        assert_eq!((count.received, count.lost, count.repeated), (3, 0, 2));
    }

    #[test]
    fn frames_due_at_the_end_that_never_came_are_lost() {
        let mut count = frames(&[7, 8]);
        count.expect_up_to(1, 10);
        count.expect_up_to(2, 99);
        assert_eq!(count.lost, 2);
    }

    #[test]
    fn what_passes_between_two_connections_is_no_loss() {
        let mut count = frames(&[7, 8]);
        count.restart();
        let stamp = Stamp {
            boot: 0,
            publisher: 1,
            sequence: 90,
            sent_at: Instant::from_nanos(0),
            checksum: 0,
        };
        count.advance(&stamp);
        assert_eq!((count.received, count.lost), (3, 0));
    }
}
