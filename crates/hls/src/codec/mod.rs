//! What decoders' configurations say: RTMP's sequence headers, and the heads of frames
//! where a codec has none.

mod atom_format;
mod audio;
mod bits;
mod describe;
mod size;
mod video;

pub use describe::{AudioDescription, VideoDescription};

pub(crate) use audio::{Aac, AudioConfig, AudioFormat};
pub(crate) use video::{VideoConfig, VideoFormat};

use std::fmt;

use serde::{Deserialize, Serialize};

/// The size of a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    /// Pixels in a row.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// As `RESOLUTION` wants it.
impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}
