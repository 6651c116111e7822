//! What the two RTMP servers share, in layers; each knows only those below it.
//!
//! - [`wire`]: handshake, chunks, messages, AMF0. Bytes in, structures out.
//! - [`session`]: the command dialogue of a connection, server and client side.
//!
//! Neither of these two performs I/O or looks at a clock.

#![warn(missing_docs)]

pub mod session;
pub mod wire;
