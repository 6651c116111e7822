//! RTMP messages: the envelope, and one file per family of contents.

pub mod aggregate;
pub mod audio;
mod command;
mod control;
pub mod data;
mod enhanced;
mod envelope;
pub mod video;

pub use command::Command;
pub use control::{BandwidthLimit, Control, UserControl};
pub use enhanced::FourCc;
pub use envelope::{Message, MessageType};
