//! An address that packets do not reach.

use std::time::Instant;

/// The state of an address that packets do not reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outage {
    /// Since then; it still counts.
    Since(Instant),
    /// For too long: it counts for nothing.
    Lasting,
}
