//! Asks other servers of a service at once, and again, until one answers.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::task::{AbortHandle, JoinSet};

use super::plan::ServiceKey;
use crate::checker::CheckSpec;
use crate::checker::machine::Outcome;

/// From the end of a round to the next one.
const PAUSE: Duration = Duration::from_secs(1);

/// The services of which other servers are being asked.
#[derive(Debug, Default)]
pub struct SecondOpinions {
    tasks: JoinSet<ServiceKey>,
    asking: HashMap<ServiceKey, AbortHandle>,
}

impl SecondOpinions {
    /// Makes these checks of other servers of `service`, in place of others.
    pub fn ask(&mut self, service: ServiceKey, checks: Vec<CheckSpec>) {
        self.stop(service);
        if checks.is_empty() {
            return;
        }
        let asked = async move {
            while !any_succeeds(&checks).await {
                tokio::time::sleep(PAUSE).await;
            }
            service
        };
        self.asking.insert(service, self.tasks.spawn(asked));
    }

    /// Asks no more about `service`.
    pub fn stop(&mut self, service: ServiceKey) {
        if let Some(task) = self.asking.remove(&service) {
            task.abort();
        }
    }

    /// Asks no more; returns when nobody is being asked.
    pub async fn end(&mut self) {
        self.asking.clear();
        self.tasks.shutdown().await;
    }

    /// The next service of which another server has answered; never, while none
    /// is asked about.
    pub async fn answered(&mut self) -> ServiceKey {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(service)) => return service,
                // One that was stopped.
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }
}

async fn any_succeeds(checks: &[CheckSpec]) -> bool {
    let mut outcomes: FuturesUnordered<_> = checks.iter().map(|check| check.probe.run()).collect();
    while let Some(outcome) = outcomes.next().await {
        if matches!(outcome, Outcome::Success | Outcome::Weighted(_)) {
            return true;
        }
    }
    false
}
