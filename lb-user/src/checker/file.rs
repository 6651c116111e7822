//! `FILE_CHECK`: the number in a file says that all is well.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::health_check::HealthCheck;
use super::machine::{ProbeOutcome, Share};
use lb_script::{Factor, NumberFile};

/// A check of a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileProbe {
    /// The file.
    pub file: NumberFile,
    /// The factor by which its number counts.
    pub factor: Factor,
}

impl HealthCheck for FileProbe {
    fn check(&self) -> BoxFuture<'_, ProbeOutcome> {
        Box::pin(check(self))
    }

    fn max_duration(&self) -> Duration {
        Duration::ZERO
    }
}

impl fmt::Display for FileProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FILE_CHECK {}", self.file.path.display())
    }
}

/// Reads the file, and judges its number (keepalived.conf(5), "Track files").
async fn check(probe: &FileProbe) -> ProbeOutcome {
    judge(probe.factor, probe.file.read().await)
}

fn judge(factor: Factor, number: i32) -> ProbeOutcome {
    match factor.apply(number) {
        None => ProbeOutcome::Failure(format!("it says {number}")),
        // keepalived's word for a fault is the lowest number that there is.
        Some(product) if product <= i64::from(i32::MIN) => {
            ProbeOutcome::Failure(format!("it says {number}, which amounts to {product}"))
        }
        Some(0) => ProbeOutcome::Success,
        Some(product) => {
            let added = i32::try_from(product).unwrap_or(i32::MAX);
            ProbeOutcome::Weighted(Share::Added(added))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_added_to_the_weight_or_fails() {
        let judged = |weight, reverse, number| judge(Factor { weight, reverse }, number);
        let added = |number| ProbeOutcome::Weighted(Share::Added(number));
        assert_eq!(judged(1, false, 0), ProbeOutcome::Success);
        assert_eq!(judged(1, false, 5), added(5));
        assert_eq!(judged(3, true, 5), added(-15));
        assert_eq!(judged(i32::MAX, false, 3), added(i32::MAX));
        assert_eq!(
            judged(1, false, i32::MIN),
            ProbeOutcome::Failure("it says -2147483648, which amounts to -2147483648".to_owned())
        );
        assert_eq!(
            judged(0, false, 5),
            ProbeOutcome::Failure("it says 5".to_owned())
        );
        assert_eq!(judged(0, true, 5), ProbeOutcome::Success);
    }
}
