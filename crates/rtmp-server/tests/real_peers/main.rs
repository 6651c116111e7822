//! The sessions against the programs that people use: ffmpeg, librtmp,
//! GStreamer, mpv as clients, nginx-rtmp as a server. `scripts/setup.sh` installs them:
//! without one, its tests fail. Only a missing Node.js is skipped.
//!
//! `MILLRACE_RECORD=directory cargo test --test real_peers` writes down what
//! the clients said, for `tests/captures`.

mod clients;
#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "the other test programs use the rest")]
mod common;
mod dvr;
mod forward;
mod hls;
mod http_flv;
mod names;
mod nginx;
mod origin;
mod relay;
mod tls;
mod tracks;
