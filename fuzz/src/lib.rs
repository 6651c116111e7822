//! What is done to `rtmp-proto` with the bytes that a fuzzer makes.

pub mod targets;
