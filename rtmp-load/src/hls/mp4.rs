//! Finds the samples of fragmented MP4 (ISO/IEC 14496-12, CMAF) as the bytes
//! come: movie and fragment headers are kept, samples are stepped over but for
//! their first bytes.

mod boxes;

use std::collections::VecDeque;

use crc32fast::Hasher;

use super::demuxer::{DemuxError, Sample, SampleKind};
use crate::chunks::HEAD_BYTES;
use boxes::{Fragment, Track};

/// The longest `moov` or `moof` that is believed, in bytes.
const MAX_HEADER_BYTES: u64 = 1024 * 1024;
const MAX_BOX_HEADER_BYTES: usize = 16;

/// A sample to come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Planned {
    /// From the first byte of the fragment's `moof`.
    pub(super) offset: u64,
    pub(super) size: u32,
    pub(super) kind: SampleKind,
    pub(super) decode_ms: i64,
    pub(super) present_ms: i64,
}

/// What is being read.
///
/// ```text
/// Header ─┬─ moov, moof ─▶ Kept ──┬─▶ Header
///         ├─ mdat ─▶ Samples ─────┤
///         └─ any other ─▶ Skipped ┘
/// ```
#[derive(Debug, Clone, Copy)]
enum Part {
    Header,
    Kept { movie: bool, remaining: u64 },
    Samples { remaining: u64 },
    Skipped { remaining: u64 },
}

/// See the module's description.
#[derive(Debug)]
pub(super) struct Mp4Reader {
    checksums: bool,
    tracks: Vec<Track>,
    part: Part,
    /// A box's header, or the contents of one that is kept.
    kept: Vec<u8>,
    /// Bytes since the first of the last `moof`.
    position: u64,
    planned: VecDeque<Planned>,
    head: Vec<u8>,
    tail: Option<Hasher>,
}

impl Mp4Reader {
    pub(super) fn new(checksums: bool) -> Self {
        Self {
            checksums,
            tracks: Vec::new(),
            part: Part::Header,
            kept: Vec::new(),
            position: 0,
            planned: VecDeque::new(),
            head: Vec::new(),
            tail: None,
        }
    }

    /// Takes bytes as they came and calls `sink` for each sample that they
    /// complete.
    ///
    /// # Errors
    /// If they are no fragmented MP4.
    pub(super) fn read(
        &mut self,
        mut bytes: &[u8],
        sink: &mut dyn FnMut(Sample<'_>),
    ) -> Result<(), DemuxError> {
        while !bytes.is_empty() {
            match self.part {
                Part::Header => {
                    self.kept.push(bytes[0]);
                    bytes = &bytes[1..];
                    self.position += 1;
                    self.header()?;
                }
                Part::Kept { movie, remaining } => {
                    let taken = take(&mut bytes, remaining);
                    self.kept.extend_from_slice(taken);
                    let remaining = self.advance(taken, remaining);
                    self.part = Part::Kept { movie, remaining };
                    if remaining == 0 {
                        self.understand(movie)?;
                    }
                }
                Part::Samples { remaining } => {
                    let taken = take(&mut bytes, remaining);
                    self.samples(taken, sink);
                    self.part = match remaining - taken.len() as u64 {
                        0 => Part::Header,
                        remaining => Part::Samples { remaining },
                    };
                }
                Part::Skipped { remaining } => {
                    let taken = take(&mut bytes, remaining);
                    self.part = match self.advance(taken, remaining) {
                        0 => Part::Header,
                        remaining => Part::Skipped { remaining },
                    };
                }
            }
        }
        Ok(())
    }

    /// The resource has ended.
    ///
    /// # Errors
    /// If it did within a box, or before the last of a fragment's samples.
    pub(super) fn end(&mut self) -> Result<(), DemuxError> {
        let complete = matches!(self.part, Part::Header) && self.kept.is_empty();
        let missing = self.planned.len();
        self.restart();
        match (complete, missing) {
            (false, _) => Err(DemuxError::CutShort),
            (true, 0) => Ok(()),
            (true, missing) => Err(DemuxError::MissingSamples(missing)),
        }
    }

    /// Forgets what was not read to its end.
    pub(super) fn restart(&mut self) {
        self.part = Part::Header;
        self.kept.clear();
        self.planned.clear();
        self.head.clear();
    }

    fn advance(&mut self, taken: &[u8], remaining: u64) -> u64 {
        self.position += taken.len() as u64;
        remaining - taken.len() as u64
    }

    /// Opens the next box once its whole header is there.
    fn header(&mut self) -> Result<(), DemuxError> {
        let Some((size, kind)) = boxes::header(&self.kept) else {
            debug_assert!(self.kept.len() < MAX_BOX_HEADER_BYTES);
            return Ok(());
        };
        let header = self.kept.len() as u64;
        let remaining = size
            .checked_sub(header)
            .ok_or(DemuxError::Box("a box that is smaller than its header"))?;
        self.kept.clear();
        self.part = match &kind {
            b"moov" | b"moof" if remaining > MAX_HEADER_BYTES => {
                return Err(DemuxError::Box("a moov or moof of more than 1 MB"));
            }
            b"moof" if !self.planned.is_empty() => {
                return Err(DemuxError::MissingSamples(self.planned.len()));
            }
            b"moov" => Part::Kept {
                movie: true,
                remaining,
            },
            b"moof" => {
                self.position = header;
                Part::Kept {
                    movie: false,
                    remaining,
                }
            }
            b"mdat" if remaining > 0 => Part::Samples { remaining },
            // Letters and digits: what is no box at all is found early.
            _ if !kind.iter().all(|byte| (0x20..0x7f).contains(byte)) => {
                return Err(DemuxError::Box("bytes that are no box"));
            }
            _ if remaining == 0 => Part::Header,
            _ => Part::Skipped { remaining },
        };
        Ok(())
    }

    fn understand(&mut self, movie: bool) -> Result<(), DemuxError> {
        let contents = std::mem::take(&mut self.kept);
        self.part = Part::Header;
        if movie {
            self.tracks = boxes::movie(&contents).ok_or(DemuxError::Box("a broken moov"))?;
            return Ok(());
        }
        if self.tracks.is_empty() {
            return Err(DemuxError::Box("a moof before any moov (EXT-X-MAP)"));
        }
        let mut planned = Fragment(&contents)
            .samples(&self.tracks)
            .ok_or(DemuxError::Box("a broken moof"))?;
        planned.sort_by_key(|sample| sample.offset);
        self.planned = planned.into();
        Ok(())
    }

    /// Bytes of an `mdat`.
    fn samples(&mut self, mut bytes: &[u8], sink: &mut dyn FnMut(Sample<'_>)) {
        while let Some(sample) = self.planned.front().copied() {
            let end = sample.offset + u64::from(sample.size);
            let gap = sample.offset.saturating_sub(self.position);
            self.position += take(&mut bytes, gap).len() as u64;
            if self.position < sample.offset {
                return;
            }
            if self.position == sample.offset {
                self.head.clear();
                self.tail = self.checksums.then(Hasher::new);
            }
            let taken = take(&mut bytes, end.saturating_sub(self.position));
            self.position += taken.len() as u64;
            let room = HEAD_BYTES.saturating_sub(self.head.len()).min(taken.len());
            let (head, tail) = taken.split_at(room);
            self.head.extend_from_slice(head);
            if let Some(hasher) = &mut self.tail {
                hasher.update(tail);
            }
            if self.position < end {
                return;
            }
            self.planned.pop_front();
            sink(Sample {
                kind: sample.kind,
                decode_ms: sample.decode_ms,
                present_ms: sample.present_ms,
                head: &self.head,
                tail: self.tail.take(),
            });
        }
        self.position += bytes.len() as u64;
    }
}

fn take<'a>(bytes: &mut &'a [u8], most: u64) -> &'a [u8] {
    let count = usize::try_from(most).map_or(bytes.len(), |most| most.min(bytes.len()));
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    taken
}
