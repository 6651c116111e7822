//! The sessions against the programs that people use: ffmpeg, librtmp,
//! GStreamer, mpv as clients, nginx-rtmp as a server. Whatever is not installed is
//! skipped, with a line that says so.
//!
//! `MILLRACE_RECORD=directory cargo test --test real_peers` writes down what
//! the clients said, for `tests/captures`.

mod clients;
#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "the other test programs use the rest")]
mod common;
mod http_flv;
mod names;
mod nginx;
mod origin;
mod relay;
mod tracks;
