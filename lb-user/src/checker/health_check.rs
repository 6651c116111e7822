//! The seam between the driver of checks and their kinds.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::machine::ProbeOutcome;

/// A kind of check. It is shown as the configuration names it, with what is checked:
/// `TCP_CHECK 10.0.0.2:80`. Whatever has the same text is taken for the same check after
/// an upgrade.
pub trait HealthCheck: fmt::Display {
    /// Checks once.
    fn check(&self) -> BoxFuture<'_, ProbeOutcome>;

    /// The longest time that a check takes.
    fn max_duration(&self) -> Duration;
}
