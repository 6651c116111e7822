//! What every daemon needs, whatever it serves.
//!
//! - [`systemd`]: readiness, status, watchdog, levels of log lines.
//! - [`http`]: an HTTP server with limits to its connections and their time.
//! - [`OneLine`]: text of others in one line of a log.

#![forbid(unsafe_code)]

pub mod http;
mod log_text;
pub mod systemd;

pub use log_text::OneLine;
