//! Confirmation probes: other servers of a service are probed at once, and again,
//! until one answers.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::task::{AbortHandle, JoinSet};

use crate::checker::CheckSpec;
use crate::checker::machine::ProbeOutcome;
use lb_model::ServiceKey;

/// From the end of a round to the next one.
const PAUSE: Duration = Duration::from_secs(1);

/// Confirmation probes, at most one for a service.
#[derive(Debug, Default)]
pub(super) struct ConfirmationProbes {
    tasks: JoinSet<ServiceKey>,
    running: HashMap<ServiceKey, AbortHandle>,
}

impl ConfirmationProbes {
    /// Makes these checks of other servers of `service`, in place of earlier ones.
    pub(super) fn start(&mut self, service: ServiceKey, checks: Vec<CheckSpec>) {
        self.stop(service);
        if checks.is_empty() {
            return;
        }
        let probe = async move {
            while !any_succeeds(&checks).await {
                tokio::time::sleep(PAUSE).await;
            }
            service
        };
        self.running.insert(service, self.tasks.spawn(probe));
    }

    /// Ends the probe for `service`.
    pub(super) fn stop(&mut self, service: ServiceKey) {
        if let Some(task) = self.running.remove(&service) {
            task.abort();
        }
    }

    /// Ends all probes; returns when nothing of them is left.
    pub(super) async fn end(&mut self) {
        self.running.clear();
        self.tasks.shutdown().await;
    }

    /// The next service of which another server has answered; never, while there are
    /// no probes. May be dropped without losing one.
    pub(super) async fn answered(&mut self) -> ServiceKey {
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
        if matches!(outcome, ProbeOutcome::Success | ProbeOutcome::Weighted(_)) {
            return true;
        }
    }
    false
}
