//! What is particular to recordings in fragmented MP4: `ftyp` and `moov` come first, then a
//! fragment for each second. Every fragment makes the file whole again.

use std::time::Duration;

use hls::segmenter::{Container, LeftOut, Output, Segmenter, Settings};
use rtmp_proto::wire::{Message, MessageType};
use serde::{Deserialize, Serialize};

/// Length of a fragment.
const FRAGMENT: Duration = Duration::from_secs(1);
/// What HLS would call a segment is not cut here: the longest that the segmenter takes.
const SEGMENT: Duration = Duration::from_secs(3_600);

/// A box behind `moov` by which a file of this server's is known again (ISO/IEC 14496-12
/// §8.1.2: players skip it).
pub(super) const MARK: &[u8] = b"\0\0\0\x1afreeMillrace recording";

/// Makes fragments of messages. It can be written down between two of them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Mp4 {
    segmenter: Segmenter,
    #[serde(skip)]
    outputs: Vec<Output>,
    /// The file has its `moov`.
    is_begun: bool,
    /// Bytes for the next file, once the tracks have changed: a file has one `moov`.
    next: Option<Vec<u8>>,
    #[serde(skip)]
    left_out: Vec<LeftOut>,
}

impl Mp4 {
    pub(super) fn new() -> Self {
        let settings = Settings {
            container: Container::Fmp4,
            part_target: FRAGMENT,
            fragment: SEGMENT,
            max_fragments: 1.0,
            ..Settings::default()
        };
        Self {
            segmenter: Segmenter::new(&settings),
            outputs: Vec::new(),
            is_begun: false,
            next: None,
            left_out: Vec::new(),
        }
    }

    /// Takes a message of this time in the file, ms, and appends what is ready to `out`.
    pub(super) fn push(&mut self, message: &Message, time_ms: u64, out: &mut Vec<u8>) {
        self.segmenter.push(message, time_ms, &mut self.outputs);
        self.write(out);
    }

    /// Appends the last fragment.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        self.segmenter.finish(&mut self.outputs);
        self.write(out);
    }

    fn write(&mut self, out: &mut Vec<u8>) {
        for output in self.outputs.drain(..) {
            match output {
                Output::Initialization(initialization) => {
                    if self.is_begun {
                        self.next = Some(Vec::new());
                    }
                    self.is_begun = true;
                    let out = self.next.as_mut().unwrap_or(out);
                    out.extend_from_slice(&initialization.bytes);
                    out.extend_from_slice(MARK);
                }
                Output::Part(part) => {
                    let out = self.next.as_mut().unwrap_or(out);
                    out.extend_from_slice(&part.bytes);
                }
                Output::LeftOut(left_out) => self.left_out.push(left_out),
                Output::TargetDuration(_)
                | Output::Discontinuity
                | Output::Key(_)
                | Output::SegmentEnd(_) => {}
            }
        }
    }

    /// The first bytes of the file that has to follow, if one has to.
    pub(super) fn next(&self) -> Option<&[u8]> {
        self.next.as_deref()
    }

    /// That file has begun, with those bytes.
    pub(super) fn begin_next(&mut self) {
        self.next = None;
    }

    /// What has no place in the file, once each.
    pub(super) fn take_left_out(&mut self) -> Vec<LeftOut> {
        std::mem::take(&mut self.left_out)
    }
}

/// `message`, of a stream that flags no keyframes, as the keyframe that a file begins with.
pub(super) fn as_keyframe(message: &Message) -> Message {
    /// Frame type of a keyframe (FLV specification E.4.3.1), in enhanced RTMP as well.
    const KEYFRAME: u8 = 0x10;
    let mut payload = message.payload.to_vec();
    if let Some(first) = payload.first_mut()
        && message.message_type == MessageType::VIDEO
    {
        *first = (*first & 0x8f) | KEYFRAME;
    }
    Message {
        payload: payload.into(),
        ..message.clone()
    }
}
