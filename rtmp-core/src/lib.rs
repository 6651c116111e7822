//! What the two RTMP servers share: wire, session, stream, server.

pub mod config;
