//! Pictures and sound of RTSP as messages of RTMP: no I/O, no clock.
//!
//! `retina` makes frames of RTP's packets. [`Tracks`] makes messages of them, with times that
//! do not fall and that the sender's reports bring together ([`Alignment`]). A time that jumps
//! ends the stream ([`Jump`]).

#![forbid(unsafe_code)]

mod alignment;
mod continuity;
mod decode_order;
mod frames;
mod tracks;

pub use alignment::{Alignment, Track};
pub use continuity::Jump;
pub use frames::Tracks;
pub use tracks::{SoundCoding, SoundTrack, VideoCoding, VideoTrack};
