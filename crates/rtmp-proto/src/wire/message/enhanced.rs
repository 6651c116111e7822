//! The common part of the enhanced headers of audio and video (Enhanced RTMP
//! v2).

use std::fmt;

use serde::{Deserialize, Serialize};

/// A four-character code of Enhanced RTMP (`hvc1`, `av01`, `Opus`, …).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FourCc(pub [u8; 4]);

impl fmt::Debug for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// The packet type that announces several tracks; audio and video differ.
pub(super) struct Multitrack(u8);

impl Multitrack {
    pub(super) const VIDEO: Self = Self(6);
    pub(super) const AUDIO: Self = Self(5);
}

/// The common part of the enhanced headers of audio and video.
pub(super) struct ExHead<'a> {
    pub(super) packet_type: u8,
    pub(super) four_cc: Option<FourCc>,
    pub(super) track: u8,
    /// What follows it for that track; empty if it is cut off.
    pub(super) body: &'a [u8],
}

const PACKET_MOD_EX: u8 = 7;
const ONE_TRACK: u8 = 0;
const MANY_TRACKS_MANY_CODECS: u8 = 2;

impl<'a> ExHead<'a> {
    /// Reads on after the first byte, whose packet type is given: modifiers,
    /// which are passed over, then the tracks' head, then the codec.
    pub(super) fn parse(
        mut packet_type: u8,
        mut rest: &'a [u8],
        multitrack: Multitrack,
    ) -> Option<ExHead<'a>> {
        while packet_type == PACKET_MOD_EX {
            let (&short, tail) = rest.split_first()?;
            rest = tail;
            let mut size = usize::from(short) + 1;
            if size == 256 {
                let (long, tail) = rest.split_first_chunk()?;
                rest = tail;
                size = usize::from(u16::from_be_bytes(*long)) + 1;
            }
            let (&next, tail) = rest.get(size..)?.split_first()?;
            packet_type = next & 0x0f;
            rest = tail;
        }
        if packet_type != multitrack.0 {
            let four_cc = rest.first_chunk().copied().map(FourCc);
            return Some(ExHead {
                packet_type,
                four_cc,
                track: 0,
                body: rest.get(4..).unwrap_or_default(),
            });
        }
        let (&tracks, tail) = rest.split_first()?;
        rest = tail;
        let mut four_cc = None;
        if tracks >> 4 != MANY_TRACKS_MANY_CODECS {
            let (code, tail) = rest.split_first_chunk()?;
            four_cc = Some(FourCc(*code));
            rest = tail;
        } else {
            rest = rest.get(4..)?;
        }
        let (&track, tail) = rest.split_first()?;
        let body = match tracks >> 4 {
            ONE_TRACK => tail,
            _ => sized(tail).unwrap_or_default(),
        };
        Some(ExHead {
            packet_type: tracks & 0x0f,
            four_cc,
            track,
            body,
        })
    }
}

/// What follows a length of 24 bits.
fn sized(bytes: &[u8]) -> Option<&[u8]> {
    let (&[a, b, c], rest) = bytes.split_first_chunk()?;
    rest.get(..u32::from_be_bytes([0, a, b, c]) as usize)
}
