//! The driver of checks: a task for each, in which its checker sleeps, checks and
//! decides.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::machine::{Action, Checker, Input, ProbeOutcome};
use super::{CheckEvent, CheckReport, CheckResult, CheckSpec};

/// A check that is being made again and again, until this is dropped.
#[derive(Debug)]
pub struct RunningCheck {
    task: AbortOnDropHandle<()>,
}

impl RunningCheck {
    /// Starts to check; changes are sent to `events`. `known`: the result of an
    /// earlier check of the same thing, if there was one.
    pub fn start(
        spec: CheckSpec,
        known: Option<&CheckResult>,
        events: mpsc::UnboundedSender<CheckReport>,
    ) -> Self {
        let now = now();
        let spread = fastrand::f64();
        let checker = match known {
            Some(CheckResult::Up(share)) => Checker::resume(spec.timing, now, spread, true, *share),
            Some(CheckResult::Down(_)) => Checker::resume(spec.timing, now, spread, false, None),
            None => Checker::new(spec.timing, now, spread),
        };
        let probe = Arc::new(spec.probe.clone());
        let ask = move || {
            let probe = Arc::clone(&probe);
            async move { probe.run().await }
        };
        Self {
            task: AbortOnDropHandle::new(tokio::spawn(drive(spec, checker, events, ask))),
        }
    }

    /// Ends it; returns when nothing of it is left.
    pub async fn end(self) {
        self.task.abort();
        // It was aborted, or had ended.
        let _ = self.task.await;
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Has `ask` called whenever `checker` wants it, until nobody wants its `events`.
async fn drive<F: Future<Output = ProbeOutcome>>(
    spec: CheckSpec,
    mut checker: Checker,
    events: mpsc::UnboundedSender<CheckReport>,
    ask: impl Fn() -> F,
) {
    let mut trouble = None;
    let mut last_reason = None;
    loop {
        let mut action = match checker.deadline() {
            Some(due) => {
                tokio::time::sleep_until(Instant::into(due)).await;
                checker.handle(now(), Input::Tick)
            }
            None => Some(Action::Check),
        };
        if action == Some(Action::Check) {
            let outcome = ask().await;
            let met = match &outcome {
                ProbeOutcome::Local(reason) => Some(reason.clone()),
                _ => None,
            };
            if met != trouble {
                trouble.clone_from(&met);
                if events
                    .send(CheckReport::NotChecked(spec.clone(), met))
                    .is_err()
                {
                    return;
                }
            }
            action = checker.handle(now(), Input::Finished(outcome));
        }
        let result = match action {
            Some(Action::Up(share)) => CheckResult::Up(share),
            Some(Action::Down(reason)) => CheckResult::Down(reason),
            // It is down for another reason than before.
            Some(Action::Failed(reason))
                if !checker.is_up() && last_reason.as_ref() != Some(&reason) =>
            {
                CheckResult::Down(reason)
            }
            Some(Action::Failed(reason) | Action::NotChecked(reason)) => {
                log::debug!("{}: {reason}", spec.probe);
                continue;
            }
            Some(Action::Check) | None => continue,
        };
        last_reason = match &result {
            CheckResult::Down(reason) => Some(reason.clone()),
            CheckResult::Up(_) => None,
        };
        let event = CheckEvent {
            spec: spec.clone(),
            result,
        };
        if events.send(CheckReport::Found(event)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;
    use crate::checker::Probe;
    use crate::checker::machine::Timing;
    use crate::checker::tcp::{Connection, TcpProbe};

    /// A check that is made every second from the start on.
    fn every_second(retry: u32, alpha: bool) -> CheckSpec {
        let connection = Connection {
            to: ([127, 0, 0, 1], 1).into(),
            from: None,
            timeout: Duration::from_secs(1),
        };
        CheckSpec {
            probe: Probe::Tcp(TcpProbe(connection)),
            timing: Timing {
                delay_loop: Duration::from_secs(1),
                delay_before_retry: Duration::from_secs(1),
                retry,
                first_check: Duration::ZERO,
                warmup: Duration::ZERO,
                alpha,
            },
        }
    }

    #[tokio::test(start_paused = true)]
    async fn trouble_of_our_own_is_told_once_and_so_is_its_end() {
        let spec = every_second(0, false);
        let (events, mut news) = mpsc::unbounded_channel();
        let asked = Mutex::new(0);
        let ask = move || {
            let mut asked = asked.lock().expect("no panic");
            *asked += 1;
            let outcome = match *asked {
                1..=3 => ProbeOutcome::Local("no ports left".to_owned()),
                4 => ProbeOutcome::Success,
                _ => ProbeOutcome::Failure("refused".to_owned()),
            };
            async { outcome }
        };
        let checker = Checker::new(spec.timing, now(), 0.0);
        let task = tokio::spawn(drive(spec.clone(), checker, events, ask));
        let told = [
            CheckReport::NotChecked(spec.clone(), Some("no ports left".to_owned())),
            CheckReport::NotChecked(spec.clone(), None),
        ];
        for expected in told {
            assert_eq!(news.recv().await, Some(expected));
        }
        let down = CheckResult::Down("refused".to_owned());
        let event = CheckEvent { spec, result: down };
        assert_eq!(news.recv().await, Some(CheckReport::Found(event)));
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn why_a_server_is_down_is_told_as_it_changes_and_once_each() {
        // Down at first, so that a reason of ours stands until the first check.
        let spec = every_second(1, true);
        let (events, mut news) = mpsc::unbounded_channel();
        let outcomes = [
            Some("503"),
            Some("503"),
            Some("404"),
            None,
            Some("once"),
            Some("twice"),
        ];
        let outcomes = Mutex::new(outcomes.into_iter());
        let ask = move || {
            let next = outcomes.lock().expect("no panic").next();
            async move {
                match next {
                    Some(Some(reason)) => ProbeOutcome::Failure(reason.to_owned()),
                    Some(None) => ProbeOutcome::Success,
                    None => std::future::pending().await,
                }
            }
        };
        let checker = Checker::new(spec.timing, now(), 0.0);
        let task = tokio::spawn(drive(spec.clone(), checker, events, ask));
        let down = |reason: &str| CheckResult::Down(reason.to_owned());
        // A failure that does not take an up server out is no news.
        for result in [
            down("503"),
            down("404"),
            CheckResult::Up(None),
            down("twice"),
        ] {
            let spec = spec.clone();
            let found = CheckReport::Found(CheckEvent { spec, result });
            assert_eq!(news.recv().await, Some(found));
        }
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_is_found_to_be_gone_and_to_be_back_within_the_time_of_detection() {
        const TIMEOUT: Duration = Duration::from_secs(5);
        let timing = Timing {
            delay_loop: Duration::from_secs(1),
            delay_before_retry: Duration::from_secs(2),
            retry: 3,
            first_check: Duration::ZERO,
            warmup: Duration::ZERO,
            alpha: false,
        };
        let spec = CheckSpec {
            probe: Probe::Tcp(TcpProbe(Connection {
                to: ([127, 0, 0, 1], 1).into(),
                from: None,
                timeout: TIMEOUT,
            })),
            timing,
        };
        let (events, mut news) = mpsc::unbounded_channel();
        let answers = Arc::new(Mutex::new(true));
        let server = Arc::clone(&answers);
        let ask = move || {
            // What is decided when it is asked: a SYN that is lost is lost.
            let answers = *server.lock().expect("no panic");
            async move {
                if answers {
                    return ProbeOutcome::Success;
                }
                tokio::time::sleep(TIMEOUT).await;
                ProbeOutcome::Failure("no answer".to_owned())
            }
        };
        let checker = Checker::new(spec.timing, now(), 0.0);
        let task = tokio::spawn(drive(spec.clone(), checker, events, ask));
        let down = CheckResult::Down("no answer".to_owned());
        for (answer, expected) in [(false, down), (true, CheckResult::Up(None))] {
            // In the middle of a delay, or of a check.
            tokio::time::sleep(Duration::from_millis(20_500)).await;
            *answers.lock().expect("no panic") = answer;
            let changed = now();
            let event = CheckEvent {
                spec: spec.clone(),
                result: expected,
            };
            assert_eq!(news.recv().await, Some(CheckReport::Found(event)));
            let took = now() - changed;
            assert!(took <= spec.detection(), "{took:?}");
        }
        task.abort();
    }

    /// Five hundred servers, five checks a second each: every check begins when
    /// the one before has ended and `delay_loop` has passed, to the millisecond
    /// that tokio's clock counts in, from the first to the last.
    #[tokio::test(start_paused = true)]
    async fn checks_of_five_hundred_servers_do_not_drift() {
        const SERVERS: u16 = 500;
        const DELAY: Duration = Duration::from_millis(200);
        const COST: Duration = Duration::from_millis(5);
        let timing = Timing {
            delay_loop: DELAY,
            delay_before_retry: DELAY,
            retry: 0,
            first_check: DELAY,
            warmup: DELAY,
            alpha: false,
        };
        let (events, _results) = mpsc::unbounded_channel();
        let mut tasks = Vec::new();
        let mut all_starts = Vec::new();
        for server in 0..SERVERS {
            let connection = Connection {
                to: ([127, 0, 0, 1], 1 + server).into(),
                from: None,
                timeout: DELAY,
            };
            let spec = CheckSpec {
                probe: Probe::Tcp(TcpProbe(connection)),
                timing,
            };
            let checker = Checker::new(timing, now(), f64::from(server) / f64::from(SERVERS));
            let starts = Arc::new(Mutex::new(Vec::new()));
            all_starts.push(Arc::clone(&starts));
            let ask = move || {
                starts.lock().expect("no panic").push(now());
                async {
                    tokio::time::sleep(COST).await;
                    ProbeOutcome::Success
                }
            };
            tasks.push(tokio::spawn(drive(spec, checker, events.clone(), ask)));
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        for (server, starts) in all_starts.iter().enumerate() {
            let starts = starts.lock().expect("no panic");
            assert!(
                starts.len() >= 280,
                "server {server}: {} checks",
                starts.len()
            );
            for pair in starts.windows(2) {
                let late = (pair[1] - pair[0]).saturating_sub(DELAY + COST);
                // Two sleeps, each rounded up to a millisecond.
                assert!(
                    late <= Duration::from_millis(2),
                    "server {server}: {late:?} late"
                );
            }
        }
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
