//! HTTP-FLV and WebSocket-FLV, as bytes: no I/O, no clock.
//!
//! - [`tag`]: the parts of an FLV file.
//! - [`mod@file`]: the tags of such a file.
//! - [`request`]: the head of a player's request.
//! - [`answer`]: what a server answers.
//! - [`websocket`]: the frames of a WebSocket (RFC 6455).

#![forbid(unsafe_code)]

pub mod answer;
pub mod file;
pub mod request;
pub mod tag;
pub mod websocket;
