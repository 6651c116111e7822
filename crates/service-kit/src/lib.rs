//! The parts that every daemon needs.
//!
//! - [`systemd`]: readiness, status, watchdog, levels of log lines.
//! - [`http`]: an HTTP server with limits.
//! - [`Credentials`]: HTTP basic authentication.
//! - [`is_of_own_site`]: whether a page of another site asks.
//! - [`EventRing`]: the latest events, for whoever asks what is new.
//! - [`metrics`]: Prometheus' text format, and histograms.
//! - [`process`]: programs that a daemon starts and watches.
//! - [`program`]: the program that a process runs, and how it becomes another one.
//! - [`sleep_until`]: an optional deadline.
//! - [`stuck_thread`]: a thread that waits for a disk which hangs.
//! - [`OneLine`]: escaping of foreign text in log lines.
//! - [`with_causes`]: an error with its causes, in words.

#![deny(unsafe_code)]

mod basic_auth;
mod causes;
mod deadline;
mod event_ring;
pub mod http;
mod log_text;
pub mod metrics;
mod own_site;
pub mod process;
pub mod program;
mod stuck;
pub mod systemd;

pub use basic_auth::Credentials;
pub use causes::with_causes;
pub use deadline::sleep_until;
pub use event_ring::{EventRing, Numbered, unix_ms};
pub use log_text::OneLine;
pub use own_site::is_of_own_site;
pub use stuck::stuck_thread;
