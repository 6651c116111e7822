//! The properties of a generated stream.

/// The properties of a generated stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Bits of video a second.
    pub video_bits_per_second: u64,
    /// Bits of audio a second; 0 for none.
    pub audio_bits_per_second: u64,
    /// Pictures a second.
    pub frames_per_second: u32,
    /// Pictures from one keyframe to the next.
    pub gop_frames: u32,
}
