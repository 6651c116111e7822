//! The wire and session layers of `rtmp-core` by themselves, and what is done
//! to them. They need nothing of the layers above, so that a build for fuzzing
//! need not have these (and no runtime, no HTTP) instrumented.

extern crate self as rtmp_core;

#[path = "../../rtmp-core/src/session/mod.rs"]
pub mod session;
#[path = "../../rtmp-core/src/wire/mod.rs"]
pub mod wire;

pub mod targets;
