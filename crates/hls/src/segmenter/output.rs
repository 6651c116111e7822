//! What comes out of a segmenter.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use rtmp_proto::wire::media::Codec;
use serde::{Deserialize, Serialize};

use crate::codec::Resolution;
use crate::encryption::KEY_BYTES;

/// What comes out of a segmenter, in this order within a segment: a discontinuity and an
/// initialization where they are due, parts, the segment's end.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// `EXT-X-TARGETDURATION`, in whole seconds. It comes once, before or with the first
    /// segment's end.
    TargetDuration(Duration),
    /// The next segment does not continue the one before (`EXT-X-DISCONTINUITY`).
    Discontinuity,
    /// The tracks of the segments that follow (`EXT-X-MAP`).
    Initialization(Initialization),
    /// The key of the segments that follow (`EXT-X-KEY`), which an
    /// [`Encryptor`](crate::encryption::Encryptor) has used.
    Key([u8; KEY_BYTES]),
    /// The next piece of the segment (`EXT-X-PART`). A segment's bytes are those of its
    /// parts.
    Part(Part),
    /// The segment is whole: the next part begins another one (`EXTINF`).
    SegmentEnd(SegmentEnd),
    /// What does not become part of the segments. Each codec is reported once.
    LeftOut(LeftOut),
}

/// The tracks of segments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Initialization {
    /// The initialization section; empty in MPEG-TS, which has none.
    #[serde(with = "rtmp_proto::wire::bytes_format")]
    pub bytes: Bytes,
    /// The tracks' codecs for `CODECS`, separated by commas.
    pub codecs: String,
    /// The size of the pictures; `None` if there are none, or if it is not known.
    pub resolution: Option<Resolution>,
}

/// A part of a segment.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// What is appended to the segment.
    pub bytes: Bytes,
    /// The part target at most.
    pub duration: Duration,
    /// A player can begin here.
    pub independent: bool,
}

/// The end of a segment.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentEnd {
    /// From the segment's begin to the next one's.
    pub duration: Duration,
    /// Pictures in it.
    pub pictures: u32,
}

/// What does not become part of the segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftOut {
    /// The coding of the track.
    pub codec: Codec,
    /// Why.
    pub reason: LeftOutReason,
}

/// For a log line.
impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.codec {
            Codec::Audio(codec) => codec.name(),
            Codec::Video(codec) => codec.name(),
        };
        match self.reason {
            LeftOutReason::Codec => write!(f, "{name} has no place in HLS segments"),
            LeftOutReason::Container => {
                write!(f, "{name} has no place in MPEG-TS segments: fMP4 has one")
            }
            LeftOutReason::SequenceHeader => {
                write!(f, "{name}: the publisher's sequence header is broken")
            }
            LeftOutReason::AnotherTrack => {
                write!(f, "{name}: another track of its kind came first")
            }
        }
    }
}

/// Why something does not become part of the segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOutReason {
    /// No container here carries the codec.
    Codec,
    /// MPEG-TS does not carry the codec; fragmented MP4 does.
    Container,
    /// The decoder's configuration cannot be read.
    SequenceHeader,
    /// Segments have one track of a kind.
    AnotherTrack,
}
