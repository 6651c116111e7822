//! The control socket, a Unix socket on which the command line asks the agent, and the
//! same over HTTP.

mod calls;
mod client;
pub(crate) mod credentials;
mod entries;
mod error;
pub(crate) mod event_log;
pub(crate) mod http;
mod metrics;
mod orders;
pub mod protocol;
#[cfg(test)]
pub(crate) mod sample;
pub mod selection;
mod server;
pub(crate) mod told_tables;

pub use calls::Call;
pub use client::{Client, request};
pub use error::Error;
pub use server::Server;

/// The agent's socket unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/millrace/lb-user.sock";
