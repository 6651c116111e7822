//! The return of a server that has been down: held out while it flaps, then
//! with a share of new connections that grows. No I/O; time is an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Settings for servers that come back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecoveryPlan {
    /// Time for which its share grows; zero: it has all of it at once.
    pub slow_start: Duration,
    /// When it is held out; `None`: never.
    pub flap: Option<FlapControl>,
}

/// When a server that comes and goes is held out, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlapControl {
    /// Changes of state that it may make within the window.
    pub limit: u32,
    /// Time for which a change counts.
    pub window: Duration,
    /// Duration of the first hold-down; twice as long each time after,
    /// until it has kept quiet for a window.
    pub hold_down: Duration,
    /// The longest hold-down.
    pub hold_down_max: Duration,
}

/// A whole share is this many parts; one that grows begins with one of them.
pub const PARTS: u32 = 10;

/// Number of steps in which a share grows.
const STEPS: u32 = PARTS - 1;

/// The return of one server of one service.
///
/// ```text
///        down         up, slow_start            time
///  full ─────▶ (down) ──────────────▶ rising ───────▶ full
///
///           more changes than flap_limit within flap_window
///  not held ────────────────────────────────────────────────▶ held ──▶ not held
///                                                        time, or no other serves
/// ```
#[derive(Debug, Clone, Default)]
pub struct Recovery {
    /// When its checks came to fail or succeed, within the window.
    changes: VecDeque<Instant>,
    /// Set while it is held out.
    hold: Option<Hold>,
    /// Duration of the last hold-down, as long as that counts: the next one is twice as
    /// long.
    last_hold: Option<Duration>,
    /// Since when its share grows.
    rising_since: Option<Instant>,
    /// The parts that it gets while its share grows.
    parts: Option<u32>,
    /// True if it has been down: a server that starts is not coming back.
    has_failed: bool,
}

#[derive(Debug, Clone)]
struct Hold {
    until: Instant,
    reason: String,
}

impl Recovery {
    /// Why the server is held out though its checks succeed; `None` if it is not.
    pub fn hold_reason(&self) -> Option<&String> {
        self.hold.as_ref().map(|hold| &hold.reason)
    }

    /// The part of its share that it gets, in parts of [`PARTS`].
    pub fn parts(&self) -> u32 {
        self.parts.unwrap_or(PARTS)
    }

    /// True while its share grows.
    pub fn is_rising(&self) -> bool {
        self.rising_since.is_some()
    }

    /// When to call [`tick`](Self::tick), if ever.
    pub fn deadline(&self, plan: &RecoveryPlan) -> Option<Instant> {
        let hold = self.hold.as_ref().map(|hold| hold.until);
        let step = self
            .rising_since
            .map(|since| since + plan.slow_start * self.parts() / STEPS);
        hold.into_iter().chain(step).min()
    }

    /// The server's checks have come to succeed, or to fail.
    pub fn changed(&mut self, plan: &RecoveryPlan, now: Instant) {
        let Some(control) = plan.flap else { return };
        self.forget(&control, now);
        self.changes.push_back(now);
        // More than this many say no more.
        if self.changes.len() > control.limit as usize + 1 {
            self.changes.pop_front();
        }
        if self.hold.is_none() && self.changes.len() > control.limit as usize {
            self.hold_out(&control, now);
        }
    }

    /// Puts an end to the hold.
    pub fn release(&mut self) {
        self.hold = None;
    }

    /// The server has gone down.
    pub fn gone_down(&mut self) {
        self.has_failed = true;
        self.rising_since = None;
        self.parts = None;
    }

    /// The server has come up; if it was down before, its share grows.
    pub fn come_up(&mut self, plan: &RecoveryPlan, now: Instant) {
        if self.has_failed && !plan.slow_start.is_zero() {
            self.rising_since = Some(now);
            self.parts = Some(1);
        }
    }

    /// Lets time pass.
    pub fn tick(&mut self, plan: &RecoveryPlan, now: Instant) {
        self.end_hold(plan, now);
        self.rise(plan, now);
    }

    fn end_hold(&mut self, plan: &RecoveryPlan, now: Instant) {
        if self.hold.as_ref().is_none_or(|hold| now < hold.until) {
            return;
        }
        self.hold = None;
        if let Some(control) = plan.flap {
            self.forget(&control, now);
            if self.changes.len() > control.limit as usize {
                self.hold_out(&control, now);
            }
        }
    }

    fn rise(&mut self, plan: &RecoveryPlan, now: Instant) {
        let Some(since) = self.rising_since else {
            return;
        };
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= plan.slow_start {
            self.rising_since = None;
            self.parts = None;
        } else {
            // A part more than the time that has passed: the first at once.
            // Deadlines are rounded down to nanoseconds.
            let passed = elapsed.as_nanos() * u128::from(STEPS) + u128::from(STEPS - 1);
            let parts = passed / plan.slow_start.as_nanos() + 1;
            self.parts = Some(u32::try_from(parts).map_or(PARTS, |parts| parts.min(PARTS)));
        }
    }

    fn hold_out(&mut self, control: &FlapControl, now: Instant) {
        let duration = match self.last_hold {
            Some(last) => (last * 2).min(control.hold_down_max),
            None => control.hold_down.min(control.hold_down_max),
        };
        self.last_hold = Some(duration);
        self.hold = Some(Hold {
            until: now + duration,
            reason: format!(
                "held out for {} s: its checks went up and down more than {} times in {} s",
                duration.as_secs_f64(),
                control.limit,
                control.window.as_secs_f64()
            ),
        });
    }

    /// Forgets changes that are too long ago to count.
    fn forget(&mut self, control: &FlapControl, now: Instant) {
        let is_old = |at: &Instant| now.saturating_duration_since(*at) > control.window;
        while self.changes.front().is_some_and(is_old) {
            self.changes.pop_front();
        }
        if self.changes.is_empty() {
            self.last_hold = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: RecoveryPlan = RecoveryPlan {
        slow_start: Duration::from_secs(27),
        flap: Some(FlapControl {
            limit: 3,
            window: Duration::from_secs(60),
            hold_down: Duration::from_secs(20),
            hold_down_max: Duration::from_secs(50),
        }),
    };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Lets the deadlines pass until there are none; how long after `start`
    /// each was, and the parts and the hold after it.
    fn run(recovery: &mut Recovery, start: Instant) -> Vec<(f64, u32, bool)> {
        let mut seen = Vec::new();
        while let Some(deadline) = recovery.deadline(&PLAN) {
            let early = deadline - Duration::from_nanos(1);
            let before = (recovery.parts(), recovery.hold_reason().is_some());
            recovery.tick(&PLAN, early);
            let same = (recovery.parts(), recovery.hold_reason().is_some());
            assert_eq!(same, before, "nothing before its time");
            recovery.tick(&PLAN, deadline);
            let held = recovery.hold_reason().is_some();
            seen.push(((deadline - start).as_secs_f64(), recovery.parts(), held));
            assert!(seen.len() < 100, "it comes to an end: {seen:?}");
        }
        seen
    }

    #[test]
    fn a_share_grows_from_a_tenth_to_the_whole_in_equal_steps() {
        let start = Instant::now();
        let mut recovery = Recovery::default();
        recovery.come_up(&PLAN, start);
        assert_eq!(recovery.parts(), PARTS, "a server that never was down");
        recovery.gone_down();
        recovery.come_up(&PLAN, start);
        assert_eq!(recovery.parts(), 1);
        let expected: Vec<_> = (1..=9)
            .map(|step| (f64::from(step) * 3.0, step + 1, false))
            .collect();
        assert_eq!(run(&mut recovery, start), expected);
    }

    #[test]
    fn a_late_tick_skips_steps_and_going_down_begins_anew() {
        let start = Instant::now();
        let mut recovery = Recovery::default();
        recovery.gone_down();
        recovery.come_up(&PLAN, start);
        recovery.tick(&PLAN, start + seconds(16));
        assert_eq!(recovery.parts(), 6);
        recovery.gone_down();
        assert_eq!(recovery.deadline(&PLAN), None);
        recovery.come_up(&PLAN, start + seconds(20));
        assert_eq!(recovery.parts(), 1);
        recovery.tick(&PLAN, start + seconds(1000));
        assert_eq!((recovery.parts(), recovery.deadline(&PLAN)), (PARTS, None));
    }

    #[test]
    fn a_server_is_held_out_for_more_changes_than_the_limit_within_the_window() {
        let start = Instant::now();
        let mut recovery = Recovery::default();
        for second in [0, 30, 61, 80] {
            recovery.changed(&PLAN, start + seconds(second));
        }
        assert_eq!(recovery.hold_reason(), None, "the first is forgotten at 61");
        recovery.changed(&PLAN, start + seconds(85));
        assert_eq!(
            recovery.hold_reason().map(String::as_str),
            Some("held out for 20 s: its checks went up and down more than 3 times in 60 s")
        );
        assert_eq!(
            run(&mut recovery, start),
            [(105.0, PARTS, false)],
            "the one at 30 is old"
        );
    }

    #[test]
    fn holds_grow_while_a_server_keeps_flapping_and_are_short_again_after_a_quiet_window() {
        let start = Instant::now();
        let mut recovery = Recovery::default();
        let mut flap = |from: u64| {
            for second in from..from + 4 {
                recovery.changed(&PLAN, start + seconds(second));
            }
            recovery.clone()
        };
        // Held from 3 on; the changes are forgotten after 60 s: 20, 40, 50 s.
        let mut held = flap(0);
        assert_eq!(
            run(&mut held, start),
            [(23.0, PARTS, true), (63.0, PARTS, false)],
            "still four changes within the window at 23"
        );
        held.changed(&PLAN, start + seconds(70));
        assert_eq!(held.hold_reason(), None);
        for second in 71..74 {
            held.changed(&PLAN, start + seconds(second));
        }
        assert_eq!(
            held.deadline(&PLAN),
            Some(start + seconds(73 + 20)),
            "short again"
        );
    }

    #[test]
    fn without_flap_control_nothing_is_held_and_nothing_kept() {
        let plan = RecoveryPlan::default();
        let start = Instant::now();
        let mut recovery = Recovery::default();
        for second in 0..1000 {
            recovery.changed(&plan, start + seconds(second));
        }
        recovery.gone_down();
        recovery.come_up(&plan, start);
        assert_eq!(recovery.hold_reason(), None);
        assert_eq!((recovery.parts(), recovery.changes.len()), (PARTS, 0));
        assert_eq!(recovery.deadline(&plan), None);
    }
}
