//! RTMP as it stands on the wire: handshake, chunk streams, messages, AMF0.
//!
//! Nothing here performs I/O, looks at a clock or knows what a session is.
//! "RTMP 1.0" in the comments is Adobe's specification of 21 December 2012.

pub mod amf0;
pub mod bytes_format;
pub mod chunk;
pub mod handshake;
mod limits;
pub mod media;
pub mod message;

pub use limits::{Limit, Limits};
pub use message::{Message, MessageType};
