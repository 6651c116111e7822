//! Automatic validation of sources: when it begins and when it ends. No I/O; time is an
//! argument.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// Time over which half-open connections are added up: IPVS forgets one after that
/// (SYN_RECV).
const HALF_OPEN_TIME: Duration = Duration::from_secs(60);

/// Time for which there must be fewer SYNs before validation ends.
const QUIET_TIME: Duration = Duration::from_secs(30);

/// Counters of the data plane, all since it was loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// Connections entered by a SYN.
    pub(super) opened: u64,
    /// Those whose handshake is complete.
    pub(super) completed: u64,
    /// SYNs that were not entered: challenged, or over the rate of their network.
    pub(super) refused: u64,
    /// Sources that have answered a challenge.
    pub(super) proven: u64,
}

/// What is seen of a flood.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// SYNs per second.
    pub(super) syns_per_s: u64,
    /// Connections of the last minute whose handshake is not complete. The table may hold
    /// fewer: it evicts.
    pub(super) half_open: u64,
}

/// The load at which validation begins. It ends when there is less than half of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Thresholds {
    pub(super) syns_per_s: u64,
    pub(super) half_open: u64,
}

/// The loads of the last minute, and whether they are a flood.
///
/// ```text
///   Idle ── a threshold is reached ──▶ Active ── less than half for 30 s ──▶ Idle
/// ```
#[derive(Debug)]
pub(super) struct Automatic {
    state: State,
    readings: VecDeque<(Instant, Reading)>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Idle,
    Active {
        since: Instant,
        /// The counters at that time; `None` before the first reading.
        before: Option<Reading>,
        /// Highest rate of SYNs so far.
        peak_per_s: u64,
        /// Since when there is less than half; `None`: there is more.
        quiet_since: Option<Instant>,
    },
}

/// A change of state, in words for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Begun {
        load: Load,
        thresholds: Thresholds,
    },
    Ended {
        after: Duration,
        peak_per_s: u64,
        refused: u64,
        proven: u64,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begun { load, thresholds } => write!(
                f,
                "SYN validation begins: {} SYNs per second (from {} on), {} half-open connections \
                 (from {} on)",
                load.syns_per_s, thresholds.syns_per_s, load.half_open, thresholds.half_open
            ),
            Self::Ended {
                after,
                peak_per_s,
                refused,
                proven,
            } => write!(
                f,
                "SYN validation ends after {} s: at most {peak_per_s} SYNs per second, {refused} \
                 SYNs refused, {proven} sources proven",
                after.as_secs()
            ),
        }
    }
}

impl Automatic {
    /// `is_active`: an earlier agent has left validation on.
    pub(super) fn new(is_active: bool, now: Instant) -> Self {
        let state = if is_active {
            State::Active {
                since: now,
                before: None,
                peak_per_s: 0,
                quiet_since: None,
            }
        } else {
            State::Idle
        };
        Self {
            state,
            readings: VecDeque::new(),
        }
    }

    /// True if sources are to be validated.
    pub(super) fn is_active(&self) -> bool {
        matches!(self.state, State::Active { .. })
    }

    /// Ends validation without a word, since another mode is in force.
    pub(super) fn reset(&mut self) {
        self.state = State::Idle;
    }

    /// The load as last read.
    pub(super) fn load(&self) -> Load {
        let mut latest = self.readings.iter().rev();
        let (Some((at, last)), Some((before_at, before))) = (latest.next(), latest.next()) else {
            return Load::default();
        };
        let elapsed_ms = at.saturating_duration_since(*before_at).as_millis().max(1) as u64;
        let syns = |reading: &Reading| reading.opened + reading.refused;
        let unfinished = |reading: &Reading| reading.opened.saturating_sub(reading.completed);
        let first = self.readings.front().map_or(*last, |(_, first)| *first);
        Load {
            syns_per_s: syns(last).saturating_sub(syns(before)) * 1000 / elapsed_ms,
            half_open: unfinished(last).saturating_sub(unfinished(&first)),
        }
    }

    /// Takes note of the counters.
    pub(super) fn record(&mut self, reading: Reading, now: Instant) {
        self.readings.push_back((now, reading));
        let is_old = |at: Instant| now.saturating_duration_since(at) > HALF_OPEN_TIME;
        while self.readings.len() > 2 && is_old(self.readings[0].0) {
            self.readings.pop_front();
        }
    }

    /// Decides by what was last read.
    pub(super) fn decide(&mut self, thresholds: Thresholds, now: Instant) -> Option<Change> {
        let load = self.load();
        let last = self
            .readings
            .back()
            .map_or_else(Reading::default, |(_, it)| *it);
        let is_flood =
            load.syns_per_s >= thresholds.syns_per_s || load.half_open >= thresholds.half_open;
        let is_quiet = load.syns_per_s < thresholds.syns_per_s.div_ceil(2)
            && load.half_open < thresholds.half_open.div_ceil(2);
        match &mut self.state {
            State::Idle if is_flood => {
                self.state = State::Active {
                    since: now,
                    before: Some(last),
                    peak_per_s: load.syns_per_s,
                    quiet_since: None,
                };
                Some(Change::Begun { load, thresholds })
            }
            State::Idle => None,
            State::Active {
                since,
                before,
                peak_per_s,
                quiet_since,
            } => {
                let before = *before.get_or_insert(last);
                *peak_per_s = load.syns_per_s.max(*peak_per_s);
                if !is_quiet {
                    *quiet_since = None;
                    return None;
                }
                let quiet_since = *quiet_since.get_or_insert(now);
                if now.saturating_duration_since(quiet_since) < QUIET_TIME {
                    return None;
                }
                let ended = Change::Ended {
                    after: now.saturating_duration_since(*since),
                    peak_per_s: *peak_per_s,
                    refused: last.refused.saturating_sub(before.refused),
                    proven: last.proven.saturating_sub(before.proven),
                };
                self.state = State::Idle;
                Some(ended)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds {
        syns_per_s: 1000,
        half_open: 5000,
    };

    /// A data plane whose counters grow by the second.
    struct Bed {
        automatic: Automatic,
        reading: Reading,
        now: Instant,
    }

    impl Bed {
        fn new() -> Self {
            let now = Instant::now();
            let mut bed = Self {
                automatic: Automatic::new(false, now),
                reading: Reading::default(),
                now,
            };
            assert_eq!(bed.second(0, 0), None, "one reading is no rate");
            bed
        }

        /// A second with so many SYNs, of which so many complete their handshake.
        fn second(&mut self, syns: u64, completed: u64) -> Option<Change> {
            self.now += Duration::from_secs(1);
            if self.automatic.is_active() {
                self.reading.refused += syns - completed;
                self.reading.opened += completed;
                self.reading.proven += completed;
            } else {
                self.reading.opened += syns;
            }
            self.reading.completed += completed;
            self.automatic.record(self.reading, self.now);
            self.automatic.decide(THRESHOLDS, self.now)
        }
    }

    #[test]
    fn it_begins_with_a_rate_and_ends_half_a_minute_after_it() {
        let mut bed = Bed::new();
        assert_eq!(bed.second(999, 999), None);
        let load = Load {
            syns_per_s: 2000,
            half_open: 1990,
        };
        let thresholds = THRESHOLDS;
        let begun = Change::Begun { load, thresholds };
        assert_eq!(bed.second(2000, 10), Some(begun));
        assert!(bed.automatic.is_active());
        for _ in 0..100 {
            assert_eq!(bed.second(3000, 1), None);
        }
        // A pause is no end.
        for _ in 0..29 {
            assert_eq!(bed.second(499, 0), None);
        }
        assert_eq!(bed.second(500, 0), None);
        for _ in 0..30 {
            assert_eq!(bed.second(0, 0), None);
        }
        let ended = Change::Ended {
            after: Duration::from_secs(161),
            peak_per_s: 3000,
            refused: 100 * 2999 + 29 * 499 + 500,
            proven: 100,
        };
        assert_eq!(bed.second(0, 0), Some(ended));
        assert!(!bed.automatic.is_active());
    }

    #[test]
    fn a_later_agent_reports_what_came_since_its_start() {
        let mut bed = Bed::new();
        bed.automatic = Automatic::new(true, bed.now);
        bed.reading.refused = 1_000_000;
        assert_eq!(bed.second(0, 0), None);
        assert_eq!(bed.second(7, 0), None);
        let ended = (0..60).find_map(|_| bed.second(0, 0));
        let Some(Change::Ended { refused, .. }) = ended else {
            panic!("it ends");
        };
        assert_eq!(refused, 7);
    }

    #[test]
    fn it_begins_when_slow_syns_pile_up() {
        let mut bed = Bed::new();
        let begins = (1..60).find(|_| bed.second(200, 50).is_some());
        assert_eq!(begins, Some(34), "at 150 more per second");
    }

    #[test]
    fn many_viewers_who_complete_their_handshakes_are_no_flood_of_half_open_ones() {
        let mut bed = Bed::new();
        for _ in 0..300 {
            assert_eq!(bed.second(990, 990), None);
        }
    }

    #[test]
    fn half_open_connections_older_than_a_minute_do_not_count() {
        let mut bed = Bed::new();
        for _ in 0..600 {
            assert_eq!(bed.second(80, 0), None);
        }
        assert_eq!(bed.automatic.load().half_open, 60 * 80);
    }
}
