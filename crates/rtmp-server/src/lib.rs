//! The library of the two RTMP servers, in layers: each uses only those below it.
//!
//! - `daemon`: the command line and the life of a server process.
//! - `http`: the HTTP API.
//! - `server`: listeners, connections, time-outs, hooks, upstreams.
//! - `stream`: registry, log, fan-out. A stream is a file in memory, a player an
//!   offset into it.
//! - `transport`: a connection's bytes, plain or by TLS.
//! - `redact`: URLs without secrets.
//! - [`config`], which all of them use: SRS's configuration.
//! - `hand_over`, which all of them use: values, times and descriptors for the program that
//!   the process becomes by an upgrade.
//!
//! The protocol is `rtmp-proto`'s, which performs no I/O and reads no clock.
//!
//! A daemon calls [`run`] with its [`Options`]. Tests start a [`Server`] themselves.

pub mod config;
mod daemon;
#[cfg(test)]
mod flv_file;
mod hand_over;
mod http;
mod redact;
mod server;
mod stream;
mod top;
mod transport;
mod uri;

pub use daemon::{Options, run};
pub use http::{serve as serve_http_api, serve_https as serve_https_api};
pub use server::{Client, Clients, Protocol, Server, listen};
pub use stream::StreamState;
