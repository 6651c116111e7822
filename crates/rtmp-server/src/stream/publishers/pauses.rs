//! Pauses of a source that sends seldom, which are no failure.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Time for which pauses are remembered.
pub(in crate::stream) const WINDOW: Duration = Duration::from_secs(20);
/// The longest silence that is taken for a usual pause.
const MAX_USUAL: Duration = Duration::from_secs(5);

/// The silence after which a source has failed: `limit`, or half as much again as it usually
/// pauses, if that is longer. `pauses` are those of the last [`WINDOW`] that are not shorter
/// than `limit`.
///
/// The longest pause does not count: it may have been a failure.
pub(in crate::stream) fn silence_limit(
    limit: Duration,
    pauses: impl Iterator<Item = Duration>,
) -> Duration {
    let (mut longest, mut second) = (Duration::ZERO, Duration::ZERO);
    for pause in pauses.filter(|&pause| pause <= MAX_USUAL) {
        if pause > longest {
            (longest, second) = (pause, longest);
        } else {
            second = second.max(pause);
        }
    }
    limit.max(second * 3 / 2)
}

/// The long pauses between a source's messages.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(in crate::stream) struct Pauses {
    #[serde(with = "crate::hand_over::monotonic")]
    last: Option<Instant>,
    /// Pauses that were not shorter than the limit, with the time of their ends.
    #[serde(with = "crate::hand_over::monotonic")]
    long: Vec<(Instant, Duration)>,
}

impl Pauses {
    /// Those of a source that is about to send, from `now` on.
    pub(in crate::stream) fn since(now: Instant) -> Self {
        Self {
            last: Some(now),
            long: Vec::new(),
        }
    }

    /// Time of the last message.
    pub(in crate::stream) fn last(&self) -> Option<Instant> {
        self.last
    }

    /// Its messages are not told of any more.
    pub(in crate::stream) fn stop(&mut self) {
        self.last = None;
    }

    /// Nobody has listened until `now`: what has not come is no pause.
    pub(in crate::stream) fn excuse(&mut self, now: Instant) {
        if let Some(last) = &mut self.last {
            *last = now;
        }
    }

    /// A message has come; pauses shorter than `limit` do not matter.
    pub(in crate::stream) fn note(&mut self, now: Instant, limit: Duration) {
        let last = self.last.replace(now);
        let pause = last.map(|last| now.saturating_duration_since(last));
        let Some(pause) = pause.filter(|&pause| pause >= limit) else {
            return;
        };
        self.long.retain(|&(end, _)| is_recent(end, now));
        self.long.push((now, pause));
    }

    /// The long ones that are remembered.
    pub(in crate::stream) fn recent(&self, now: Instant) -> impl Iterator<Item = Duration> {
        let recent = self.long.iter();
        recent
            .filter(move |&&(end, _)| is_recent(end, now))
            .map(|&(_, pause)| pause)
    }

    /// True if the source has been silent for `limit`, and for longer than it usually is.
    pub(in crate::stream) fn are_over(&self, now: Instant, limit: Duration) -> bool {
        let Some(last) = self.last else { return true };
        let silence = now.saturating_duration_since(last);
        silence >= limit && silence >= silence_limit(limit, self.recent(now))
    }
}

fn is_recent(end: Instant, now: Instant) -> bool {
    now.saturating_duration_since(end) < WINDOW
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(500);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A source whose messages come after these pauses, in ms, and the time of the last.
    fn source(pauses: &[u64]) -> (Pauses, Instant) {
        let mut now = Instant::now();
        let mut source = Pauses::since(now);
        for &pause in pauses {
            now += ms(pause);
            source.note(now, LIMIT);
        }
        (source, now)
    }

    #[test]
    fn a_source_of_one_picture_a_second_is_not_silent_before_a_second_and_a_half() {
        let (source, now) = source(&[1_000, 3, 1_010, 3, 990]);
        assert!(!source.are_over(now + ms(1_400), LIMIT));
        assert!(source.are_over(now + ms(1_510), LIMIT));
    }

    #[test]
    fn one_failure_does_not_make_the_next_one_last_longer() {
        let (source, now) = source(&[40, 40, 3_000, 40, 40]);
        assert!(!source.are_over(now + ms(499), LIMIT));
        assert!(source.are_over(now + ms(500), LIMIT));
    }

    #[test]
    fn pauses_of_long_ago_do_not_count_nor_do_those_that_nobody_would_wait_for() {
        let (mut source, mut now) = source(&[1_000, 1_000, 1_000, 6_000, 6_000]);
        assert!(!source.are_over(now + ms(1_400), LIMIT));
        for _ in 0..1_000 {
            now += ms(20);
            source.note(now, LIMIT);
        }
        assert!(source.are_over(now + ms(500), LIMIT));
    }

    #[test]
    fn a_source_that_has_sent_nothing_is_silent() {
        assert!(Pauses::default().are_over(Instant::now(), LIMIT));
    }
}
