//! Scripts whose success virtual routers track (`vrrp_script`).

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Health;
use lb_script::{NotRunnable, Runnable, run_script};
use tokio_util::task::AbortOnDropHandle;

/// A script that is tracked.
#[derive(Debug, Clone, PartialEq)]
pub struct ScriptSettings {
    /// Its name.
    pub name: String,
    /// The script.
    pub script: Runnable,
    /// Interval between runs.
    pub interval: Duration,
    /// Time after which a run has failed.
    pub timeout: Duration,
    /// Successes in a row that make it succeed.
    pub rise: u32,
    /// Failures in a row that make it fail.
    pub fall: u32,
    /// True if it counts as failed at first (`init_fail`).
    pub starts_failed: bool,
}

/// Counts successes and failures in a row (`rise`, `fall`), as keepalived does.
#[derive(Debug, Clone)]
pub(crate) struct RunCounter {
    rise: u32,
    fall: u32,
    health: Health,
    /// Results in a row that differ from `health`.
    against: u32,
    /// True once it has been run.
    has_run: bool,
}

impl RunCounter {
    /// Before the first result; `health` is what earlier settings left known.
    pub(crate) fn new(settings: &ScriptSettings, health: Option<Health>) -> Self {
        let at_first = if settings.starts_failed {
            Health::Down
        } else {
            Health::Unknown
        };
        Self {
            rise: settings.rise,
            fall: settings.fall,
            health: health.unwrap_or(at_first),
            against: 0,
            has_run: false,
        }
    }

    /// Health of the script.
    pub(crate) fn health(&self) -> Health {
        self.health
    }

    /// Counts a result; returns true if the health has changed. The first result decides
    /// at once. A script that must not be run, or
    /// never could be, is not tracked, as in keepalived; here only until it is
    /// run. One that could be run and is gone has failed.
    pub(crate) fn count(&mut self, outcome: &ScriptOutcome) -> bool {
        let (result, needed) = match outcome {
            ScriptOutcome::Success => (Health::Up, self.rise),
            ScriptOutcome::Failure => (Health::Down, self.fall),
            ScriptOutcome::Refused(NotRunnable::Impossible(_)) if self.has_run => {
                (Health::Down, self.fall)
            }
            ScriptOutcome::Refused(_) => (Health::Untracked, 1),
        };
        self.has_run |= !matches!(outcome, ScriptOutcome::Refused(_));
        if result == self.health {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let is_first = matches!(self.health, Health::Unknown | Health::Untracked);
        if !is_first && self.against < needed {
            return false;
        }
        self.against = 0;
        self.health = result;
        true
    }
}

/// The outcome of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ScriptOutcome {
    /// Well.
    Success,
    /// Not well, or not in time.
    Failure,
    /// It was not run, for this reason.
    Refused(NotRunnable),
}

/// The result of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScriptResult {
    /// The script's name.
    pub name: String,
    /// The outcome.
    pub outcome: ScriptOutcome,
}

/// A script that is run again and again, until this is dropped.
#[derive(Debug)]
pub(crate) struct RunningScript {
    task: AbortOnDropHandle<()>,
}

impl RunningScript {
    /// Starts to run it; results are sent to `results`.
    pub(crate) fn start(
        settings: ScriptSettings,
        results: mpsc::UnboundedSender<ScriptResult>,
    ) -> Self {
        Self {
            task: AbortOnDropHandle::new(tokio::spawn(run_repeatedly(settings, results))),
        }
    }

    /// Runs it no more; returns when nothing of it is left.
    pub(crate) async fn end(self) {
        self.task.abort();
        // It was aborted, or had ended.
        let _ = self.task.await;
    }
}

async fn run_repeatedly(settings: ScriptSettings, results: mpsc::UnboundedSender<ScriptResult>) {
    let name = settings.name.as_str();
    let mut due = interval(settings.interval);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        let outcome = run_once(&settings).await;
        let name = name.to_owned();
        if results.send(ScriptResult { name, outcome }).is_err() {
            return;
        }
    }
}

async fn run_once(settings: &ScriptSettings) -> ScriptOutcome {
    let ScriptSettings {
        name,
        script,
        timeout: limit,
        ..
    } = settings;
    if let Err(reason) = script.check() {
        return ScriptOutcome::Refused(reason);
    }
    match timeout(*limit, run_script(script)).await {
        Ok(Ok(status)) if status.success() => ScriptOutcome::Success,
        Ok(Ok(_)) => ScriptOutcome::Failure,
        Ok(Err(error)) => {
            log::warn!("vrrp_script {name} cannot be run: {error}");
            ScriptOutcome::Failure
        }
        Err(_) => {
            log::warn!("vrrp_script {name}: killed after {limit:?}");
            ScriptOutcome::Failure
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_model::config::Script;

    fn settings(rise: u32, fall: u32, starts_failed: bool) -> ScriptSettings {
        ScriptSettings {
            name: "chk".to_owned(),
            script: Script {
                command: vec!["true".to_owned()],
                ..Script::default()
            }
            .into(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            rise,
            fall,
            starts_failed,
        }
    }

    /// The health after each result; `+` is a success, `x` a script that others
    /// may write, `0` one that is not there.
    fn follow(settings: &ScriptSettings, results: &str) -> String {
        let mut counter = RunCounter::new(settings, None);
        let letters = results.chars().map(|result| {
            counter.count(&match result {
                '+' => ScriptOutcome::Success,
                '-' => ScriptOutcome::Failure,
                'x' => {
                    ScriptOutcome::Refused(NotRunnable::Unsafe("others may write it".to_owned()))
                }
                _ => ScriptOutcome::Refused(NotRunnable::Impossible("it is not there".to_owned())),
            });
            match counter.health() {
                Health::Up => 'U',
                Health::Down => 'D',
                Health::Untracked => 'X',
                Health::Unknown | Health::Number(_) => '?',
            }
        });
        letters.collect()
    }

    #[test]
    fn the_first_result_decides_and_later_ones_need_to_come_in_a_row() {
        // Rise, fall, results, health after each.
        let table = [
            (1, 1, "+-+-", "UDUD"),
            (3, 1, "+", "U"),
            (1, 3, "-", "D"),
            (2, 3, "+--+---++", "UUUUUUDDU"),
            (3, 1, "-++-+++", "DDDDDDU"),
            (3, 3, "x-x+x-", "XDXUXD"),
            (1, 1, "00-0+", "XXDDU"),
            (1, 2, "0+00+", "XUUDU"),
        ];
        for (rise, fall, results, expected) in table {
            let followed = follow(&settings(rise, fall, false), results);
            assert_eq!(followed, expected, "rise {rise}, fall {fall}: {results}");
        }
    }

    #[test]
    fn init_fail_must_be_overcome_like_any_failure() {
        assert_eq!(follow(&settings(2, 1, true), "+++"), "DUU");
        assert_eq!(
            follow(&settings(2, 1, true), "0"),
            "X",
            "nothing to overcome"
        );
    }

    #[test]
    fn what_was_known_before_a_reload_is_known_after_it() {
        let counter = RunCounter::new(&settings(1, 1, true), Some(Health::Up));
        assert_eq!(counter.health(), Health::Up);
    }

    #[tokio::test]
    async fn a_script_that_takes_too_long_has_failed() {
        let mut slow = settings(1, 1, false);
        slow.script.script.command = vec!["sleep".to_owned(), "600".to_owned()];
        slow.timeout = Duration::from_millis(1);
        let (sender, mut results) = mpsc::unbounded_channel();
        let _running = RunningScript::start(slow, sender);
        let result = results.recv().await.expect("a result");
        assert_eq!(
            result,
            ScriptResult {
                name: "chk".to_owned(),
                outcome: ScriptOutcome::Failure
            }
        );
    }
}
