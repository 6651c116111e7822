//! `MISC_CHECK`: a program of the operator's succeeds.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::health_check::HealthCheck;
use super::machine::{ProbeOutcome, Share};
use lb_script::{Runnable, run_script};

/// A check by a program.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MiscProbe {
    /// The program.
    pub script: Runnable,
    /// Time limit, after which it is killed.
    pub timeout: Duration,
    /// True if its exit status sets the weight (`misc_dynamic`).
    pub dynamic: bool,
}

impl HealthCheck for MiscProbe {
    fn check(&self) -> BoxFuture<'_, ProbeOutcome> {
        Box::pin(check(self))
    }

    fn max_duration(&self) -> Duration {
        self.timeout
    }
}

impl fmt::Display for MiscProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MISC_CHECK {}", self.script.script.command.join(" "))
    }
}

/// Runs the program, and judges its exit status (keepalived.conf(5),
/// `MISC_CHECK`).
async fn check(probe: &MiscProbe) -> ProbeOutcome {
    let status = match timeout(probe.timeout, run_script(&probe.script)).await {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => return ProbeOutcome::Local(format!("cannot be run: {error}")),
        Err(_) => {
            return ProbeOutcome::Failure(format!(
                "killed after {} s",
                probe.timeout.as_secs_f64()
            ));
        }
    };
    match status.code() {
        Some(0) => ProbeOutcome::Success,
        Some(code @ 2..) if probe.dynamic => {
            ProbeOutcome::Weighted(Share::Of((code - 2).unsigned_abs()))
        }
        _ => ProbeOutcome::Failure(status.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_model::config::Script;

    async fn exit(command: &str, dynamic: bool) -> ProbeOutcome {
        let command = ["/bin/sh", "-c", command].map(str::to_owned).to_vec();
        let script = Script {
            command,
            ..Script::default()
        };
        check(&MiscProbe {
            script: script.into(),
            timeout: Duration::from_secs(10),
            dynamic,
        })
        .await
    }

    #[tokio::test]
    async fn the_exit_status_decides_and_may_set_the_weight() {
        assert_eq!(exit("exit 0", false).await, ProbeOutcome::Success);
        assert_eq!(
            exit("exit 3", false).await,
            ProbeOutcome::Failure("exit status: 3".to_owned())
        );
        assert_eq!(exit("exit 0", true).await, ProbeOutcome::Success);
        assert_eq!(
            exit("exit 1", true).await,
            ProbeOutcome::Failure("exit status: 1".to_owned())
        );
        assert_eq!(
            exit("exit 2", true).await,
            ProbeOutcome::Weighted(Share::Of(0))
        );
        assert_eq!(
            exit("exit 255", true).await,
            ProbeOutcome::Weighted(Share::Of(253))
        );
        assert_eq!(
            exit("kill -9 $$", true).await,
            ProbeOutcome::Failure("signal: 9 (SIGKILL)".to_owned())
        );
    }

    #[tokio::test]
    async fn a_program_that_takes_too_long_fails_and_one_that_is_missing_does_not() {
        let script = |program: &str| {
            Runnable::from(Script {
                command: vec![program.to_owned(), "1000".to_owned()],
                ..Script::default()
            })
        };
        let timeout = Duration::from_millis(10);
        let slow = MiscProbe {
            script: script("sleep"),
            timeout,
            dynamic: false,
        };
        assert_eq!(
            check(&slow).await,
            ProbeOutcome::Failure("killed after 0.01 s".to_owned())
        );
        let missing = MiscProbe {
            script: script("/nonexistent"),
            timeout,
            dynamic: false,
        };
        assert!(matches!(check(&missing).await, ProbeOutcome::Local(_)));
    }
}
