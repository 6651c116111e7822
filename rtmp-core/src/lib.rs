//! What the two RTMP servers share, in layers; each knows only those below it.
//!
//! - [`wire`]: handshake, chunks, messages, AMF0. Bytes in, structures out.
//! - [`stream`]: registry, log, fan-out. A stream is a file in memory, a player
//!   an offset into it.
//! - [`session`]: the command dialogue of a connection, server and client side.
//! - [`server`]: listeners, connections, time-outs, the daemon.
//! - [`config`] and [`http`] stand beside it; [`systemd`] and [`log_text`] serve
//!   every daemon.
//!
//! [`wire`] and [`session`] perform no I/O and look at no clock.

#![warn(missing_docs)]

pub mod config;
pub mod http;
pub mod log_text;
pub mod server;
pub mod session;
pub mod stream;
pub mod systemd;
pub mod wire;
