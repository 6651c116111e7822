//! `MISC_CHECK`: what a program of the operator's says.

use std::time::Duration;

use tokio::time::timeout;

use super::machine::{Outcome, Share};
use lb_script::script::{self, Runnable};

/// A check by a program.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MiscProbe {
    /// The program.
    pub script: Runnable,
    /// How long it may run.
    pub timeout: Duration,
    /// Whether its exit status sets the weight (`misc_dynamic`).
    pub dynamic: bool,
}

/// Runs the program, and judges its exit status (keepalived.conf(5),
/// `MISC_CHECK`).
pub async fn check(probe: &MiscProbe) -> Outcome {
    let status = match timeout(probe.timeout, script::run(&probe.script)).await {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => return Outcome::Local(format!("cannot be run: {error}")),
        Err(_) => {
            return Outcome::Failure(format!("killed after {} s", probe.timeout.as_secs_f64()));
        }
    };
    match status.code() {
        Some(0) => Outcome::Success,
        Some(code @ 2..) if probe.dynamic => {
            Outcome::Weighted(Share::Of((code - 2).unsigned_abs()))
        }
        _ => Outcome::Failure(status.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_model::config::Script;

    async fn exit(command: &str, dynamic: bool) -> Outcome {
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
        assert_eq!(exit("exit 0", false).await, Outcome::Success);
        assert_eq!(
            exit("exit 3", false).await,
            Outcome::Failure("exit status: 3".to_owned())
        );
        assert_eq!(exit("exit 0", true).await, Outcome::Success);
        assert_eq!(
            exit("exit 1", true).await,
            Outcome::Failure("exit status: 1".to_owned())
        );
        assert_eq!(exit("exit 2", true).await, Outcome::Weighted(Share::Of(0)));
        assert_eq!(
            exit("exit 255", true).await,
            Outcome::Weighted(Share::Of(253))
        );
        assert_eq!(
            exit("kill -9 $$", true).await,
            Outcome::Failure("signal: 9 (SIGKILL)".to_owned())
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
            Outcome::Failure("killed after 0.01 s".to_owned())
        );
        let missing = MiscProbe {
            script: script("/nonexistent"),
            timeout,
            dynamic: false,
        };
        assert!(matches!(check(&missing).await, Outcome::Local(_)));
    }
}
