//! What every daemon needs, whatever it serves.
//!
//! - [`systemd`]: readiness, status, watchdog, levels of log lines.
//! - [`http`]: an HTTP server with limits to its connections and their time.
//! - [`sleep_until`]: waits for a deadline, if there is one.
//! - [`OneLine`]: text of others in one line of a log.

#![forbid(unsafe_code)]

mod deadline;
pub mod http;
mod log_text;
pub mod systemd;

pub use deadline::sleep_until;
pub use log_text::OneLine;
