//! The few boxes that say where samples lie and when they are shown (ISO/IEC
//! 14496-12 §8).

use super::{super::demuxer::SampleKind, Planned};

/// A track, as `moov` describes it.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Track {
    id: u32,
    timescale: u32,
    is_video: bool,
    defaults: Defaults,
}

/// What holds for samples that say nothing else (`trex`, `tfhd`).
#[derive(Debug, Clone, Copy, Default)]
struct Defaults {
    duration: u32,
    size: u32,
    flags: u32,
}

/// A fragment has fewer samples than this, and its times are less far off, in
/// milliseconds.
const MAX_SAMPLES: usize = 100_000;
const MAX_TIME_MS: i64 = 1 << 53;

const TFHD_BASE_OFFSET: u32 = 0x1;
const TFHD_DESCRIPTION: u32 = 0x2;
const TFHD_DURATION: u32 = 0x8;
const TFHD_SIZE: u32 = 0x10;
const TFHD_FLAGS: u32 = 0x20;
const TRUN_OFFSET: u32 = 0x1;
const TRUN_FIRST_FLAGS: u32 = 0x4;
const TRUN_DURATION: u32 = 0x100;
const TRUN_SIZE: u32 = 0x200;
const TRUN_FLAGS: u32 = 0x400;
const TRUN_COMPOSITION: u32 = 0x800;
/// `sample_is_non_sync_sample`.
const NON_SYNC: u32 = 0x0001_0000;

/// A box's whole size and type; `None` if its header is not complete.
pub(super) fn header(bytes: &[u8]) -> Option<(u64, [u8; 4])> {
    let mut fields = Fields(bytes);
    let size = fields.u32()?;
    let kind = fields.take()?;
    match size {
        1 => Some((fields.u64()?, kind)),
        // To the end of the file: no live stream has that.
        0 => Some((u64::MAX, kind)),
        size => Some((size.into(), kind)),
    }
}

/// The tracks of a `moov`'s contents.
pub(super) fn movie(contents: &[u8]) -> Option<Vec<Track>> {
    let mut tracks = Vec::new();
    let mut defaults = Vec::new();
    for (kind, contents) in Boxes(contents) {
        match &kind {
            b"trak" => tracks.push(track(contents)?),
            b"mvex" => {
                for (_, contents) in Boxes(contents).filter(|(kind, _)| kind == b"trex") {
                    defaults.push(track_extends(contents)?);
                }
            }
            _ => {}
        }
    }
    for (id, defaults) in defaults {
        for track in tracks.iter_mut().filter(|track| track.id == id) {
            track.defaults = defaults;
        }
    }
    Some(tracks)
}

fn track(contents: &[u8]) -> Option<Track> {
    let mut header = Fields(find(contents, b"tkhd")?);
    let version = header.u32()? >> 24;
    // Creation and modification time.
    header.skip(if version == 1 { 16 } else { 8 })?;
    let id = header.u32()?;
    let media = find(contents, b"mdia")?;
    let mut header = Fields(find(media, b"mdhd")?);
    let version = header.u32()? >> 24;
    header.skip(if version == 1 { 16 } else { 8 })?;
    let timescale = header.u32().filter(|timescale| *timescale > 0)?;
    let mut handler = Fields(find(media, b"hdlr")?);
    handler.skip(8)?;
    Some(Track {
        id,
        timescale,
        is_video: &handler.take::<4>()? == b"vide",
        defaults: Defaults::default(),
    })
}

fn track_extends(contents: &[u8]) -> Option<(u32, Defaults)> {
    let mut fields = Fields(contents);
    fields.skip(4)?;
    let id = fields.u32()?;
    fields.skip(4)?;
    let defaults = Defaults {
        duration: fields.u32()?,
        size: fields.u32()?,
        flags: fields.u32()?,
    };
    Some((id, defaults))
}

/// The contents of a `moof`.
pub(super) struct Fragment<'a>(pub(super) &'a [u8]);

impl Fragment<'_> {
    /// Its samples of known tracks; offsets count from the `moof` (CMAF's
    /// *default-base-is-moof*).
    pub(super) fn samples(&self, tracks: &[Track]) -> Option<Vec<Planned>> {
        let mut samples = Vec::new();
        for (_, contents) in Boxes(self.0).filter(|(kind, _)| kind == b"traf") {
            track_fragment(contents, tracks, &mut samples)?;
        }
        Some(samples)
    }
}

fn track_fragment(contents: &[u8], tracks: &[Track], samples: &mut Vec<Planned>) -> Option<()> {
    let mut header = Fields(find(contents, b"tfhd")?);
    let flags = header.u32()?;
    let id = header.u32()?;
    let track = tracks.iter().find(|track| track.id == id)?;
    let mut defaults = track.defaults;
    if flags & TFHD_BASE_OFFSET != 0 {
        header.skip(8)?;
    }
    if flags & TFHD_DESCRIPTION != 0 {
        header.skip(4)?;
    }
    for (flag, field) in [
        (TFHD_DURATION, &mut defaults.duration),
        (TFHD_SIZE, &mut defaults.size),
        (TFHD_FLAGS, &mut defaults.flags),
    ] {
        if flags & flag != 0 {
            *field = header.u32()?;
        }
    }
    let mut time = Fields(find(contents, b"tfdt")?);
    let version = time.u32()? >> 24;
    let mut decode_time = match version {
        0 => time.u32()?.into(),
        _ => time.u64()?,
    };
    let mut offset = 0;
    for (_, contents) in Boxes(contents).filter(|(kind, _)| kind == b"trun") {
        let mut fields = Fields(contents);
        let flags = fields.u32()?;
        let count = fields.u32()?;
        if flags & TRUN_OFFSET != 0 {
            offset = u64::from(fields.u32()?);
        }
        let mut first_flags = match flags & TRUN_FIRST_FLAGS {
            0 => None,
            _ => Some(fields.u32()?),
        };
        if samples.len() + count as usize > MAX_SAMPLES {
            return None;
        }
        for _ in 0..count {
            let mut field = |flag, default| match flags & flag {
                0 => Some(default),
                _ => fields.u32(),
            };
            let duration = field(TRUN_DURATION, defaults.duration)?;
            let size = field(TRUN_SIZE, defaults.size)?;
            let own_flags = field(TRUN_FLAGS, defaults.flags)?;
            // Signed in version 1; in version 0 no live stream's is that large.
            let composition = field(TRUN_COMPOSITION, 0)?.cast_signed();
            let sample_flags = first_flags.take().unwrap_or(own_flags);
            let milliseconds = |time: i128| {
                let time = i64::try_from(time * 1000 / i128::from(track.timescale)).ok();
                time.filter(|time| time.abs() <= MAX_TIME_MS)
            };
            let decode = i128::from(decode_time);
            samples.push(Planned {
                offset,
                size,
                kind: match track.is_video {
                    true => SampleKind::Video {
                        is_keyframe: sample_flags & NON_SYNC == 0,
                    },
                    false => SampleKind::Audio,
                },
                decode_ms: milliseconds(decode)?,
                present_ms: milliseconds(decode + i128::from(composition))?,
            });
            decode_time = decode_time.checked_add(duration.into())?;
            offset = offset.checked_add(size.into())?;
        }
    }
    Some(())
}

/// The boxes within a box; ends at the first that is broken.
struct Boxes<'a>(&'a [u8]);

impl<'a> Iterator for Boxes<'a> {
    type Item = ([u8; 4], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (size, kind) = header(self.0)?;
        let header = if self.0[..4] == [0, 0, 0, 1] { 16 } else { 8 };
        let size = usize::try_from(size).ok()?;
        let contents = self.0.get(header..size)?;
        self.0 = &self.0[size..];
        Some((kind, contents))
    }
}

fn find<'a>(contents: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    Boxes(contents)
        .find(|(found, _)| found == kind)
        .map(|(_, contents)| contents)
}

/// Fields in network byte order.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.get(bytes..)?;
        Some(())
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }
}
