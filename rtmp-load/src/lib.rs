//! An RTMP load generator: thousands of players, and publishers for them, from
//! one process; with honest figures of what each player got and when.
//!
//! The path of a run, in the order of reading: `options` → `plan` → `run` →
//! `worker` (one event loop per thread) → `player` and `publisher` (what a
//! connection is there for) → `dialogue` (its protocol) → `client`, `flv_player`
//! or `hls` → `chunks`, `flv_tags` or the demuxers of `hls` (what arrives) →
//! `report`. From `player` on nothing performs I/O.
//!
//! What arrives is read and judged by rules of its own, not by the code of the
//! servers under test: `chunks`, `flv_tags`, `http`, `hls`, `media`, `timeline`,
//! `stamp`.

#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod address;
mod chunks;
mod client;
mod clock;
mod control;
mod dialogue;
mod flv_player;
mod flv_tags;
mod hls;
mod http;
mod limits;
mod link;
mod media;
mod options;
mod plan;
mod player;
mod progress;
mod publisher;
mod report;
mod run;
mod slot;
mod source;
mod stamp;
mod stats;
mod timeline;
mod tls;
mod usage;
mod worker;

pub use options::Options;
pub use report::Report;
pub use run::{RunError, run};
