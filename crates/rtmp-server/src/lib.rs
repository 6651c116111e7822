//! What the two RTMP servers share, in layers; each knows only those below it.
//!
//! - [`server`]: listeners, connections, time-outs, the daemon.
//! - [`stream`]: registry, log, fan-out. A stream is a file in memory, a player
//!   an offset into it.
//! - [`config`] and [`http`] stand beside it.
//!
//! The protocol is `rtmp-proto`'s, which performs no I/O and looks at no clock.

pub mod config;
pub mod http;
pub mod server;
pub mod stream;
