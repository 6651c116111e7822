//! The samples of a segment or part, whichever container it has.

use crc32fast::Hasher;

use super::{mp4::Mp4Reader, ts::TsReader};

/// A picture or a frame of sound that has arrived completely.
#[derive(Debug)]
pub(super) struct Sample<'a> {
    pub(super) kind: SampleKind,
    /// When it is decoded, in milliseconds of the container's clock.
    pub(super) decode_ms: i64,
    /// When it is shown.
    pub(super) present_ms: i64,
    /// Its first bytes.
    pub(super) head: &'a [u8],
    /// Checksum of the bytes behind `head`, where checksums were asked for.
    pub(super) tail: Option<Hasher>,
}

/// What a sample is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SampleKind {
    Audio,
    Video { is_keyframe: bool },
}

/// Bytes that are no segment.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum DemuxError {
    /// In MP4.
    #[error("has {0}")]
    Box(&'static str),
    /// In MPEG-TS.
    #[error("has a transport stream packet {0}")]
    Packet(&'static str),
    /// It ends in the middle.
    #[error("ends within a box or packet")]
    CutShort,
    /// It has fewer samples than it says.
    #[error("lacks {0} of its samples")]
    MissingSamples(usize),
}

/// See the module's description.
#[derive(Debug)]
pub(super) enum Demuxer {
    /// Nothing has come that would say.
    Unknown {
        checksums: bool,
    },
    Mp4(Mp4Reader),
    Ts(TsReader),
}

impl Demuxer {
    /// `checksums` makes it read all bytes of the samples.
    pub(super) fn new(checksums: bool) -> Self {
        Self::Unknown { checksums }
    }

    /// Takes bytes as they came and calls `sink` for each sample that they
    /// complete.
    ///
    /// # Errors
    /// If they are neither MP4 nor MPEG-TS.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        sink: &mut dyn FnMut(Sample<'_>),
    ) -> Result<(), DemuxError> {
        if let (Self::Unknown { checksums }, Some(first)) = (&*self, bytes.first()) {
            *self = match first {
                // No box is as long as one that would begin with this byte.
                0x47 => Self::Ts(TsReader::new(*checksums)),
                _ => Self::Mp4(Mp4Reader::new(*checksums)),
            };
        }
        match self {
            Self::Unknown { .. } => Ok(()),
            Self::Mp4(reader) => reader.read(bytes, sink),
            Self::Ts(reader) => reader.read(bytes, sink),
        }
    }

    /// The resource has ended.
    ///
    /// # Errors
    /// If it is not complete.
    pub(super) fn end(&mut self, sink: &mut dyn FnMut(Sample<'_>)) -> Result<(), DemuxError> {
        match self {
            Self::Unknown { .. } => Ok(()),
            Self::Mp4(reader) => reader.end(),
            Self::Ts(reader) => reader.end(sink),
        }
    }

    /// Forgets what was not read to its end.
    pub(super) fn restart(&mut self) {
        match self {
            Self::Unknown { .. } => {}
            Self::Mp4(reader) => reader.restart(),
            Self::Ts(reader) => reader.restart(),
        }
    }

    /// The next times have nothing to do with those before.
    pub(super) fn discontinuity(&mut self) {
        if let Self::Ts(reader) = self {
            reader.discontinuity();
        }
    }
}
