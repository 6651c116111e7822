//! keepalived's checker as a state machine: no sockets, no clock, no chance.
//!
//! Facts: keepalived 2.2 `check_api.c`, `check_tcp.c`; keepalived.conf(5).

use std::time::{Duration, Instant};

use lb_wire::load::Load;

/// The times and counts that a checker keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timing {
    /// Delay from the end of one check to the next.
    pub delay_loop: Duration,
    /// Delay after a failure that a server in the pool is still allowed.
    pub delay_before_retry: Duration,
    /// Failures in a row that are allowed before the last one.
    pub retry: u32,
    /// Delay of the first check beyond the random part.
    pub first_check: Duration,
    /// Upper bound of the random delay of the first check.
    pub warmup: Duration,
    /// True if the server stays out until its first success.
    pub alpha: bool,
}

/// A share of new connections that a check asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// This one in place of the configured one.
    Of(u32),
    /// This much added to the configured one.
    Added(i32),
    /// One that follows from the room that the server has, beside the others.
    Load(Load),
}

/// The outcome of a finished check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// The server answered as it should.
    Success,
    /// It did, and asks for another share of new connections.
    Weighted(Share),
    /// It did not, for this reason.
    Failure(String),
    /// The check could not be made, for a reason of this machine; says nothing
    /// about the server.
    Local(String),
}

/// An input of a checker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// The check that was asked for has finished.
    Finished(ProbeOutcome),
}

/// An action that a checker wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make a check, and report its outcome.
    Check,
    /// The server has come up, or asks for another share of new connections
    /// than before: `None` for its configured one.
    Up(Option<Share>),
    /// The server has gone down, for this reason.
    Down(String),
    /// A check failed without changing anything yet, for this reason.
    Failed(String),
    /// A check could not be made, for this reason of ours.
    NotChecked(String),
}

/// One checker of one address.
#[derive(Debug, Clone)]
pub struct Checker {
    timing: Timing,
    is_up: bool,
    has_run: bool,
    /// Failures in a row so far.
    failures: u32,
    /// The share that it asked for last.
    share: Option<Share>,
    /// When the next check starts; `None` while one is under way.
    due: Option<Instant>,
}

impl Checker {
    /// A checker that starts at `now`. `spread` is a random number from 0 to 1
    /// that scatters first checks over the warm-up.
    pub fn new(timing: Timing, now: Instant, spread: f64) -> Self {
        let delay = timing.first_check + timing.warmup.mul_f64(spread.clamp(0.0, 1.0));
        Self {
            timing,
            is_up: !timing.alpha,
            has_run: false,
            failures: 0,
            share: None,
            due: Some(now + delay),
        }
    }

    /// A checker that takes over what another has found: its result stands
    /// until as many checks as ever say otherwise. `share` is what the other
    /// asked for last.
    pub fn resume(
        timing: Timing,
        now: Instant,
        spread: f64,
        is_up: bool,
        share: Option<Share>,
    ) -> Self {
        Self {
            is_up,
            share,
            has_run: true,
            ..Self::new(timing, now, spread)
        }
    }

    /// True if the server counts as up.
    pub fn is_up(&self) -> bool {
        self.is_up
    }

    /// When to call [`handle`](Self::handle) with [`Input::Tick`]; `None` while
    /// a check is under way.
    pub fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Takes an input at `now`, and says what to do.
    pub fn handle(&mut self, now: Instant, input: Input) -> Option<Action> {
        match input {
            Input::Tick => self.tick(now),
            Input::Finished(outcome) => self.finished(now, outcome),
        }
    }

    fn tick(&mut self, now: Instant) -> Option<Action> {
        self.due.take_if(|due| *due <= now).map(|_| Action::Check)
    }

    fn finished(&mut self, now: Instant, outcome: ProbeOutcome) -> Option<Action> {
        let first = !self.has_run;
        self.has_run |= !matches!(outcome, ProbeOutcome::Local(_));
        let (delay, action) = match outcome {
            ProbeOutcome::Local(reason) => {
                (self.timing.delay_loop, Some(Action::NotChecked(reason)))
            }
            ProbeOutcome::Success => (self.timing.delay_loop, self.succeeded(None)),
            ProbeOutcome::Weighted(share) => (self.timing.delay_loop, self.succeeded(Some(share))),
            ProbeOutcome::Failure(reason) if !self.is_up => {
                (self.timing.delay_loop, Some(Action::Failed(reason)))
            }
            // The first check decides at once: no check has succeeded yet.
            ProbeOutcome::Failure(reason) if first || self.failures >= self.timing.retry => {
                self.failures = 0;
                self.is_up = false;
                (self.timing.delay_loop, Some(Action::Down(reason)))
            }
            ProbeOutcome::Failure(reason) => {
                self.failures += 1;
                (self.timing.delay_before_retry, Some(Action::Failed(reason)))
            }
        };
        // From the end of the check, so that a slow server is not asked more
        // often than a quick one.
        self.due = Some(now + delay);
        action
    }

    fn succeeded(&mut self, share: Option<Share>) -> Option<Action> {
        self.failures = 0;
        let came_up = !std::mem::replace(&mut self.is_up, true);
        let before = std::mem::replace(&mut self.share, share);
        // A load that stays the same is news, too: it is not stale.
        let is_load = matches!(share, Some(Share::Load(_)));
        (came_up || before != share || is_load).then_some(Action::Up(share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The deployment's timing: delay_loop 6, retry 3, delay_before_retry 3.
    const TIMING: Timing = Timing {
        delay_loop: Duration::from_secs(6),
        delay_before_retry: Duration::from_secs(3),
        retry: 3,
        first_check: Duration::from_secs(1),
        warmup: Duration::from_secs(6),
        alpha: false,
    };

    fn failure() -> ProbeOutcome {
        ProbeOutcome::Failure("refused".to_owned())
    }

    /// A checker in made-up time: each check takes `cost`.
    struct Run {
        checker: Checker,
        start: Instant,
        now: Instant,
        cost: Duration,
    }

    impl Run {
        fn new(timing: Timing) -> Self {
            let start = Instant::now();
            let checker = Checker::new(timing, start, 0.0);
            Self {
                checker,
                start,
                now: start,
                cost: Duration::ZERO,
            }
        }

        /// Waits for the next check, lets it end with `outcome`; returns the
        /// second at which the check began, and what the checker then wanted.
        fn check(&mut self, outcome: ProbeOutcome) -> (f64, Option<Action>) {
            let due = self.checker.deadline().expect("a check is planned");
            let early = due - Duration::from_nanos(1);
            assert_eq!(
                self.checker.handle(early, Input::Tick),
                None,
                "a check before its time"
            );
            assert_eq!(self.checker.handle(due, Input::Tick), Some(Action::Check));
            assert_eq!(self.checker.deadline(), None, "one check at a time");
            self.now = due + self.cost;
            let action = self.checker.handle(self.now, Input::Finished(outcome));
            ((due - self.start).as_secs_f64(), action)
        }
    }

    #[test]
    fn a_server_is_in_the_pool_before_its_first_check() {
        assert!(Run::new(TIMING).checker.is_up());
    }

    #[test]
    fn the_first_check_comes_after_a_second_and_a_random_part_of_the_warm_up() {
        let now = Instant::now();
        for (spread, expected) in [(0.0, 1.0), (0.5, 4.0), (1.0, 7.0)] {
            let due = Checker::new(TIMING, now, spread)
                .deadline()
                .expect("a check is planned");
            assert_eq!((due - now).as_secs_f64(), expected, "spread {spread}");
        }
    }

    #[test]
    fn the_very_first_failure_takes_a_server_out() {
        let mut run = Run::new(TIMING);
        assert_eq!(
            run.check(failure()),
            (1.0, Some(Action::Down("refused".to_owned())))
        );
        assert!(!run.checker.is_up());
        assert_eq!(run.check(failure()).0, 7.0, "then a check every delay_loop");
    }

    #[test]
    fn a_server_that_was_up_is_out_after_retry_and_one_failures_in_a_row() {
        let mut run = Run::new(TIMING);
        let failed = Some(Action::Failed("refused".to_owned()));
        assert_eq!(run.check(ProbeOutcome::Success), (1.0, None));
        assert_eq!(run.check(failure()), (7.0, failed.clone()));
        assert_eq!(run.check(failure()), (10.0, failed.clone()));
        assert_eq!(run.check(failure()), (13.0, failed.clone()));
        assert!(run.checker.is_up(), "three failures are allowed");
        assert_eq!(
            run.check(failure()),
            (16.0, Some(Action::Down("refused".to_owned())))
        );
        assert_eq!(
            run.check(failure()),
            (22.0, failed),
            "down: every delay_loop"
        );
        assert_eq!(
            run.check(ProbeOutcome::Success),
            (28.0, Some(Action::Up(None))),
            "one success suffices"
        );
        assert_eq!(run.check(ProbeOutcome::Success), (34.0, None));
    }

    #[test]
    fn success_resets_the_count_of_failures() {
        let mut run = Run::new(TIMING);
        run.check(ProbeOutcome::Success);
        for _ in 0..5 {
            for _ in 0..3 {
                assert!(matches!(run.check(failure()).1, Some(Action::Failed(_))));
            }
            assert_eq!(run.check(ProbeOutcome::Success).1, None);
        }
        assert!(run.checker.is_up());
    }

    #[test]
    fn without_retries_one_failure_takes_a_server_out() {
        let mut run = Run::new(Timing { retry: 0, ..TIMING });
        run.check(ProbeOutcome::Success);
        assert!(matches!(run.check(failure()), (7.0, Some(Action::Down(_)))));
    }

    #[test]
    fn delays_run_from_the_end_of_a_check() {
        let mut run = Run::new(TIMING);
        run.cost = Duration::from_secs(2);
        assert_eq!(run.check(ProbeOutcome::Success).0, 1.0);
        assert_eq!(run.check(failure()).0, 9.0);
        assert_eq!(run.check(failure()).0, 14.0);
    }

    #[test]
    fn local_trouble_never_counts() {
        let mut run = Run::new(Timing { retry: 0, ..TIMING });
        let trouble = || ProbeOutcome::Local("no ports left".to_owned());
        let not_checked = Some(Action::NotChecked("no ports left".to_owned()));
        assert_eq!(run.check(trouble()), (1.0, not_checked.clone()));
        assert_eq!(
            run.check(trouble()),
            (7.0, not_checked),
            "again after delay_loop"
        );
        assert!(run.checker.is_up());
        assert!(
            matches!(run.check(failure()).1, Some(Action::Down(_))),
            "it was no first check either"
        );
    }

    #[test]
    fn local_trouble_between_failures_does_not_excuse_them() {
        let mut run = Run::new(Timing { retry: 1, ..TIMING });
        run.check(ProbeOutcome::Success);
        run.check(failure());
        run.check(ProbeOutcome::Local("no ports left".to_owned()));
        assert!(matches!(run.check(failure()).1, Some(Action::Down(_))));
    }

    #[test]
    fn a_success_may_ask_for_another_weight() {
        let mut run = Run::new(TIMING);
        let seven = Share::Of(7);
        let weighted = || ProbeOutcome::Weighted(seven);
        assert_eq!(run.check(weighted()).1, Some(Action::Up(Some(seven))));
        assert_eq!(run.check(weighted()).1, None, "no news");
        assert_eq!(
            run.check(ProbeOutcome::Success).1,
            Some(Action::Up(None)),
            "the configured one"
        );
    }

    #[test]
    fn every_answer_about_the_load_is_news() {
        let mut run = Run::new(TIMING);
        let load = Share::Load(Load::default());
        for _ in 0..2 {
            let action = run.check(ProbeOutcome::Weighted(load)).1;
            assert_eq!(action, Some(Action::Up(Some(load))));
        }
    }

    #[test]
    fn a_resumed_checker_allows_the_retries_that_a_first_check_has_not() {
        let start = Instant::now();
        let checker = Checker::resume(TIMING, start, 0.0, true, None);
        let mut run = Run {
            checker,
            ..Run::new(TIMING)
        };
        assert!(matches!(run.check(failure()).1, Some(Action::Failed(_))));
        let checker = Checker::resume(TIMING, start, 0.0, false, None);
        assert!(
            !checker.is_up(),
            "what was down stays down until it succeeds"
        );
    }

    #[test]
    fn a_resumed_checker_takes_back_the_share_that_was_asked_for_before() {
        let start = Instant::now();
        let checker = Checker::resume(TIMING, start, 0.0, true, Some(Share::Of(7)));
        let mut run = Run {
            checker,
            ..Run::new(TIMING)
        };
        assert_eq!(run.check(ProbeOutcome::Success).1, Some(Action::Up(None)));
    }

    #[test]
    fn alpha_keeps_a_server_out_until_its_first_success() {
        let mut run = Run::new(Timing {
            alpha: true,
            ..TIMING
        });
        assert!(!run.checker.is_up());
        assert!(matches!(run.check(failure()).1, Some(Action::Failed(_))));
        assert_eq!(
            run.check(ProbeOutcome::Success),
            (7.0, Some(Action::Up(None)))
        );
    }
}
