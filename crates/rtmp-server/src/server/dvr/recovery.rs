//! Files that were written when their server ended, by a crash or for want of power: they are
//! cut behind what is whole, and get what is entered at the end.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_flv::tag::{FILE_HEADER_BYTES, TAG_HEADER_BYTES};
use nix::fcntl::OFlag;

use super::file::{Patch, enter, give_name};
use super::{flv, mp4};
use crate::stream::PerTrack;

/// The mark of a file of this server's lies within its first bytes.
const MARK_WITHIN: usize = 64 << 10;
/// An empty file has no mark: one that is younger may be another program's.
const EMPTY_FOR: Duration = Duration::from_secs(86_400);

/// What has become of an unfinished file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recovered {
    /// It has this name now.
    Finished(PathBuf),
    /// It had no media, and is removed.
    Removed,
    /// Another one writes it, or it is no file of this server's.
    LeftAlone,
}

/// The whole part of a file.
struct Whole {
    length: u64,
    patches: Vec<Patch>,
}

/// True if the file was written by a server of this kind.
pub(super) fn is_own(file: &File) -> io::Result<bool> {
    let mut head = vec![0; MARK_WITHIN];
    let length = read_up_to(file, 0, &mut head)?;
    let head = &head[..length];
    let marks = [flv::MARK, mp4::MARK];
    Ok(marks
        .iter()
        .any(|mark| head.windows(mark.len()).any(|bytes| bytes == *mark)))
}

/// Finishes the file `unfinished`, which is to be called `path`, unless it is being written.
///
/// # Errors
/// It cannot be read, cut or renamed.
pub(super) fn recover(unfinished: &Path, path: &Path) -> io::Result<Recovered> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(unfinished)?;
    if file.try_lock().is_err() {
        return Ok(Recovered::LeftAlone);
    }
    let metadata = file.metadata()?;
    let length = metadata.len();
    let is_left = match length {
        // One of the future is new: the clock was set back.
        0 => metadata.modified()?.elapsed().unwrap_or_default() >= EMPTY_FOR,
        _ => is_own(&file)?,
    };
    if !is_left {
        return Ok(Recovered::LeftAlone);
    }
    let is_mp4 = path.extension().is_some_and(|it| it == "mp4");
    let whole = match is_mp4 {
        true => whole_mp4(&file, length)?,
        false => whole_flv(&file, length)?,
    };
    let Some(Whole { length, patches }) = whole else {
        std::fs::remove_file(unfinished)?;
        return Ok(Recovered::Removed);
    };
    enter(&file, length, &patches)?;
    Ok(Recovered::Finished(give_name(unfinished, path)?))
}

/// The whole tags of an FLV file; `None` if there is no sound and no picture.
fn whole_flv(file: &File, length: u64) -> io::Result<Option<Whole>> {
    let mut media = PerTrack {
        audio: false,
        video: false,
    };
    // A file may have its stream's times (`time_jitter off`).
    let mut first_ms = None;
    let mut newest_ms = 0;
    let mut end = FILE_HEADER_BYTES as u64;
    let mut header = [0; TAG_HEADER_BYTES];
    let mut trailer = [0; 4];
    while read_up_to(file, end, &mut header)? == header.len() {
        let [kind, l0, l1, l2, t0, t1, t2, extension, ..] = header;
        let tag = TAG_HEADER_BYTES as u64 + u64::from(u32::from_be_bytes([0, l0, l1, l2]));
        let is_whole = end + tag + 4 <= length
            && read_up_to(file, end + tag, &mut trailer)? == trailer.len()
            && u64::from(u32::from_be_bytes(trailer)) == tag;
        if !is_whole || !matches!(kind, 8 | 9 | 18) {
            break;
        }
        media.audio |= kind == 8;
        media.video |= kind == 9;
        if kind != 18 {
            let time_ms = u32::from_be_bytes([extension, t0, t1, t2]);
            first_ms = first_ms.or(Some(time_ms));
            newest_ms = newest_ms.max(time_ms);
        }
        end += tag + 4;
    }
    if !media.audio && !media.video {
        return Ok(None);
    }
    let length_ms = newest_ms - first_ms.unwrap_or(newest_ms);
    let duration = Duration::from_millis(length_ms.into());
    Ok(Some(Whole {
        length: end,
        patches: flv::patches(media, duration, end).into(),
    }))
}

/// The whole fragments of an MP4 file; `None` if there is none.
fn whole_mp4(file: &File, length: u64) -> io::Result<Option<Whole>> {
    let mut end = 0;
    let mut whole = None;
    let mut header = [0; 8];
    // Our boxes have 32 bits for their lengths (ISO/IEC 14496-12 §4.2).
    while read_up_to(file, end, &mut header)? == header.len() {
        let [s0, s1, s2, s3, kind @ ..] = header;
        let size = u64::from(u32::from_be_bytes([s0, s1, s2, s3]));
        if size < 8 || end + size > length {
            break;
        }
        end += size;
        if &kind == b"mdat" {
            whole = Some(end);
        }
    }
    Ok(whole.map(|length| Whole {
        length,
        patches: Vec::new(),
    }))
}

/// Reads at `offset` until `bytes` are full or the file ends; returns how many there are.
fn read_up_to(file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http_flv::tag::{TagKind, write_tag};

    use super::*;
    use crate::server::dvr::flv::tests::duration_and_size;

    #[test]
    fn a_file_with_its_streams_times_is_as_long_as_what_is_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.flv");
        let unfinished = directory.path().join("s.flv.tmp");
        let mut bytes = flv::beginning(PerTrack::BOTH, None);
        for time_ms in [9_000_000, 9_000_500, 9_001_500] {
            write_tag(TagKind::Audio, time_ms, b"\xaf\x01sound", &mut bytes);
        }
        std::fs::write(&unfinished, bytes).unwrap();
        let recovered = recover(&unfinished, &path).unwrap();
        assert_eq!(recovered, Recovered::Finished(path.clone()));
        let (duration, _) = duration_and_size(&std::fs::read(&path).unwrap());
        assert_eq!(duration, 1.5);
    }

    #[test]
    fn an_empty_file_that_may_be_anothers_stays_for_a_day() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.flv");
        let unfinished = directory.path().join("s.flv.tmp");
        let file = File::create(&unfinished).unwrap();
        for (age_h, is_left) in [(0, true), (23, true), (25, false)] {
            let age = Duration::from_secs(age_h * 3_600);
            file.set_modified(SystemTime::now() - age).unwrap();
            recover(&unfinished, &path).unwrap();
            assert_eq!(unfinished.exists(), is_left, "{age_h} h");
        }
    }
}
