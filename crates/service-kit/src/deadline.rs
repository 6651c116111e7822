//! Deadlines that need not be there.

use std::future::pending;

use tokio::time::Instant;

/// Sleeps until `deadline`, by tokio's clock or the standard library's; without one,
/// for ever.
pub async fn sleep_until(deadline: Option<impl Into<Instant>>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => pending().await,
    }
}
