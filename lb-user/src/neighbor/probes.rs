//! Probes of neighbours for their MAC addresses. No netlink here, and no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::table::Key;

/// Interval at which a neighbour whose MAC address is known is asked whether it still
/// has it: long before the kernel's entries go stale (30 s on average).
pub(super) const CONFIRM_INTERVAL: Duration = Duration::from_millis(600);

/// Time limit of its answer; one that does not answer is asked for anew, at
/// whatever MAC address. A MAC address that changes in silence is so followed
/// after [`CONFIRM_INTERVAL`] and this at the latest, and one round trip.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_millis(250);

/// Interval at which the kernel is told that a neighbour is wanted that it does not
/// know. It asks three times by itself (`mcast_solicit`, arp(7)).
pub(super) const RESOLVE_INTERVAL: Duration = Duration::from_secs(1);

/// A probe of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    /// Confirms its MAC address: one packet to that alone.
    Confirm,
    /// Resolves its MAC address anew, by a packet to everybody: what the kernel knows
    /// counts no longer.
    Renew,
    /// Resolves its MAC address, by a packet to everybody, unless that is under way.
    Resolve,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProbeState {
    /// It has confirmed its MAC address.
    Confirmed { ask_at: Instant },
    /// It has been asked to.
    Probed { at: Instant },
    /// Everybody is asked for it.
    Resolving { again_at: Instant },
}

/// The probes of all neighbours in question.
///
/// ```text
///            CONFIRM_INTERVAL            ANSWER_LIMIT
///  Confirmed ───────────────▶ Probed ────────────────▶ Resolving ⟲ RESOLVE_INTERVAL
///      ▲          answer         │                         │
///      └─────────────────────────┴──────── answer ─────────┘
/// ```
///
/// A neighbour without a known MAC address is always in `Resolving`.
#[derive(Debug, Default)]
pub(super) struct Probes {
    states: BTreeMap<Key, ProbeState>,
}

impl Probes {
    /// The probes to send at `now`, to neighbours whose MAC addresses are known and
    /// such that are unknown. Others are in question no longer.
    pub(super) fn due(
        &mut self,
        now: Instant,
        known: &BTreeSet<Key>,
        unknown: &BTreeSet<Key>,
    ) -> Vec<(Key, Probe)> {
        self.states
            .retain(|key, _| known.contains(key) || unknown.contains(key));
        let known = known.iter().map(|key| (*key, true));
        let all = known.chain(unknown.iter().map(|key| (*key, false)));
        all.filter_map(|(key, is_known)| Some((key, self.due_of(now, key, is_known)?)))
            .collect()
    }

    fn due_of(&mut self, now: Instant, key: Key, is_known: bool) -> Option<Probe> {
        let (state, question) = match self.states.get(&key) {
            Some(ProbeState::Resolving { again_at }) if now < *again_at => return None,
            Some(ProbeState::Confirmed { ask_at }) if is_known && now < *ask_at => return None,
            Some(ProbeState::Probed { at }) if is_known && now < *at + ANSWER_LIMIT => return None,
            Some(ProbeState::Probed { .. }) if is_known => (resolving(now), Probe::Renew),
            Some(ProbeState::Confirmed { .. }) | None if is_known => {
                (ProbeState::Probed { at: now }, Probe::Confirm)
            }
            _ => (resolving(now), Probe::Resolve),
        };
        self.states.insert(key, state);
        Some(question)
    }

    /// When [`Probes::due`] has something to ask next, if nothing happens.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let at = |state: &ProbeState| match *state {
            ProbeState::Confirmed { ask_at } => ask_at,
            ProbeState::Probed { at } => at + ANSWER_LIMIT,
            ProbeState::Resolving { again_at } => again_at,
        };
        self.states.values().map(at).min()
    }

    /// A neighbour has confirmed its MAC address at `now`.
    pub(super) fn confirmed(&mut self, now: Instant, key: Key) {
        if let Some(state) = self.states.get_mut(&key) {
            let asked_at = match *state {
                ProbeState::Probed { at } => at,
                ProbeState::Confirmed { .. } | ProbeState::Resolving { .. } => now,
            };
            let ask_at = asked_at + CONFIRM_INTERVAL;
            *state = ProbeState::Confirmed { ask_at };
        }
    }

    /// The kernel has learnt a MAC address, and not by asking for it.
    pub(super) fn learnt(&mut self, now: Instant, key: Key) {
        if let Some(state @ ProbeState::Resolving { .. }) = self.states.get_mut(&key) {
            *state = ProbeState::Confirmed { ask_at: now };
        }
    }

    /// The kernel cannot have a neighbour confirm what it does not know itself:
    /// it is asking everybody, or has tidied its entry away.
    pub(super) fn unknown_to_kernel(&mut self, now: Instant, key: Key) {
        self.states.insert(key, resolving(now));
    }
}

fn resolving(now: Instant) -> ProbeState {
    ProbeState::Resolving {
        again_at: now + RESOLVE_INTERVAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(1);
    const ROUND_TRIP: Duration = Duration::from_millis(2);
    const KEY: Key = (2, std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    /// One neighbour, a kernel that asks it, and made-up time.
    struct Segment {
        probes: Probes,
        now: Instant,
        begun: Instant,
        /// The neighbour's MAC address, and the one that is known.
        has: u8,
        known: Option<u8>,
        /// Answers on their way: when they come, and what they say.
        answers: Vec<(Instant, u8)>,
        is_silent: bool,
        asked: [u32; 3],
    }

    impl Segment {
        fn new() -> Self {
            let now = Instant::now();
            Self {
                probes: Probes::default(),
                now,
                begun: now,
                has: 1,
                known: None,
                answers: Vec::new(),
                is_silent: false,
                asked: [0; 3],
            }
        }

        fn step(&mut self) {
            self.now += STEP;
            if self.answers.first().is_some_and(|(at, _)| *at <= self.now) {
                self.known = Some(self.answers.remove(0).1);
                self.probes.confirmed(self.now, KEY);
            }
            let keys = |wanted: bool| wanted.then_some(KEY).into_iter().collect();
            let is_known = self.known.is_some();
            let due = self.probes.due(self.now, &keys(is_known), &keys(!is_known));
            for (_, question) in due {
                self.asked[question as usize] += 1;
                let is_heard = question != Probe::Confirm || self.known == Some(self.has);
                if is_heard && !self.is_silent {
                    self.answers.push((self.now + ROUND_TRIP, self.has));
                }
            }
            let next = self.probes.next_at().expect("it is in question");
            assert!(next > self.now, "all that is due has been asked");
        }

        fn run(&mut self, time: Duration) {
            let until = self.now + time;
            while self.now < until {
                self.step();
            }
        }
    }

    #[test]
    fn a_mac_address_that_changes_in_silence_is_followed_within_a_second() {
        let mut longest = Duration::ZERO;
        // Whenever it changes within an interval.
        for before_ms in (0..CONFIRM_INTERVAL.as_millis() as u64).step_by(7) {
            let mut segment = Segment::new();
            segment.run(Duration::from_secs(1) + Duration::from_millis(before_ms));
            assert_eq!(segment.known, Some(1));
            segment.has = 2;
            let changed_at = segment.now;
            while segment.known != Some(2) {
                segment.step();
                let passed = segment.now - changed_at;
                assert!(passed < Duration::from_secs(1), "changed after {before_ms}");
                longest = longest.max(passed);
            }
            let [_, renewals, _] = segment.asked;
            assert_eq!(renewals, 1, "one question to everybody");
        }
        assert!(longest > CONFIRM_INTERVAL, "{longest:?}: the worst was met");
    }

    #[test]
    fn a_neighbour_that_answers_is_asked_alone_and_at_the_interval() {
        let mut segment = Segment::new();
        segment.run(CONFIRM_INTERVAL * 100);
        let [confirmations, renewals, searches] = segment.asked;
        assert_eq!((renewals, searches), (0, 1), "found once, at the start");
        assert!((99..=100).contains(&confirmations), "{confirmations}");
    }

    #[test]
    fn one_that_does_not_answer_is_sought_without_beginning_anew_each_time() {
        let mut segment = Segment::new();
        segment.run(Duration::from_secs(1));
        segment.is_silent = true;
        segment.run(Duration::from_secs(20));
        let [_, renewals, searches] = segment.asked;
        // To begin anew would keep the kernel from ever giving it up.
        assert_eq!(renewals, 1);
        assert!((19..=21).contains(&searches), "once a second: {searches}");
        // The kernel has given it up; it comes back.
        segment.known = None;
        segment.is_silent = false;
        segment.run(RESOLVE_INTERVAL + ROUND_TRIP);
        assert_eq!(segment.known, Some(1));
    }

    #[test]
    fn what_the_kernel_hears_meanwhile_is_confirmed_at_once() {
        let mut segment = Segment::new();
        segment.is_silent = true;
        segment.run(Duration::from_millis(100));
        segment.is_silent = false;
        segment.known = Some(1);
        segment.probes.learnt(segment.now, KEY);
        segment.run(ROUND_TRIP * 2);
        assert_eq!(segment.asked, [1, 0, 1]);
        assert!(segment.now - segment.begun < RESOLVE_INTERVAL);
    }

    #[test]
    fn one_that_is_in_question_no_longer_is_not_asked() {
        let mut segment = Segment::new();
        segment.run(Duration::from_secs(1));
        let none = BTreeSet::new();
        assert_eq!(segment.probes.due(segment.now, &none, &none), []);
        assert_eq!(segment.probes.next_at(), None);
        segment.probes.confirmed(segment.now, KEY);
        assert_eq!(segment.probes.next_at(), None, "an answer too late");
    }
}
