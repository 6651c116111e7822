//! The parts that every daemon needs.
//!
//! - [`systemd`]: readiness, status, watchdog, levels of log lines.
//! - [`http`]: an HTTP server with limits.
//! - [`metrics`]: Prometheus' text format, and histograms.
//! - [`sleep_until`]: an optional deadline.
//! - [`OneLine`]: escaping of foreign text in log lines.

#![forbid(unsafe_code)]

mod deadline;
pub mod http;
mod log_text;
pub mod metrics;
pub mod systemd;

pub use deadline::sleep_until;
pub use log_text::OneLine;
