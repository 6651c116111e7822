//! Optional deadlines.

use std::future::pending;

use tokio::time::Instant;

/// Sleeps until `deadline`, of tokio's clock or the standard library's; for ever
/// without one.
pub async fn sleep_until(deadline: Option<impl Into<Instant>>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => pending().await,
    }
}
