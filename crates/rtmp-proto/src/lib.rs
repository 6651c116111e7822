//! RTMP without I/O: bytes and decisions in, bytes and events out.
//!
//! - [`wire`]: handshake, chunks, messages, AMF0. Bytes in, structures out.
//! - [`session`]: the command dialogue of a connection, server and client side.
//!
//! Nothing here opens a socket or reads a clock, so that everything is tested with
//! tables of bytes.

#![forbid(unsafe_code)]

pub mod session;
pub mod wire;
