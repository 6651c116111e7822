//! HTTP Live Streaming (RFC 8216) and Low-Latency HLS (RFC 8216bis), as bytes and text:
//! no I/O, no clock.
//!
//! - [`segmenter`]: RTMP's media messages go in; parts and segments come out, in
//!   fragmented MP4 (ISO/IEC 14496-12, CMAF) or MPEG-TS (ISO/IEC 13818-1).
//! - [`codec`]: what a sequence header says of its stream.
//! - [`encryption`]: whole segments by AES-128 (RFC 8216 §4.3.2.4).
//! - [`playlist`]: the window of segments, the text of playlists, blocking reload.
//!
//! The outputs of a [`segmenter::Segmenter`] are given to a [`playlist::Playlist`] in
//! their order; the bytes of the parts are appended to one log, of which the playlist
//! knows the ranges.

#![forbid(unsafe_code)]

pub mod codec;
pub mod encryption;
mod fmp4;
mod mpegts;
pub mod playlist;
pub mod segmenter;
