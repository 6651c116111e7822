//! Track files: files that hold a number (keepalived.conf(5), "Track files").
//!
//! keepalived watches them with inotify. Here they are read four times a second:
//! that costs some microseconds each, and works on any file system, also for a
//! file that is not there yet, or is replaced by another.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use lb_model::config::{InitFile, TrackFile};

/// Interval at which a file is read.
pub const READ_INTERVAL: Duration = Duration::from_millis(250);

/// Time that a writer takes at most between emptying a file and filling it.
const MAX_WRITE_TIME: Duration = Duration::from_millis(20);

/// keepalived.conf(5), `weight` of `track_file`.
const DEFAULT_WEIGHT: i32 = 1;

/// Bytes of a file that are read.
const MAX_READ_BYTES: u64 = 127;

/// A file that holds a number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NumberFile {
    /// Its path.
    pub path: PathBuf,
    /// The number that is written to it at the start, if any.
    pub initial: Option<InitFile>,
}

/// The factor by which a file's number counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Factor {
    /// The multiplier; 0: any number but 0 is a failure.
    pub weight: i32,
    /// True to change the sign; with weight 0, to make 0 the failure.
    pub reverse: bool,
}

impl Factor {
    /// The product for a number; `None` is a failure.
    pub fn apply(self, number: i32) -> Option<i64> {
        if self.weight == 0 {
            return ((number == 0) != self.reverse).then_some(0);
        }
        let product = i64::from(number) * i64::from(self.weight);
        Some(if self.reverse { -product } else { product })
    }
}

impl NumberFile {
    /// Reads the number. It is 0 if the file does not exist, cannot be read or holds no
    /// number, as in keepalived.
    pub async fn read(&self) -> i32 {
        let mut text = self.beginning().await;
        if text.is_empty() {
            // Perhaps its writer has only just made room for the number.
            sleep(MAX_WRITE_TIME).await;
            text = self.beginning().await;
        }
        number(&text)
    }

    async fn beginning(&self) -> Vec<u8> {
        let path = self.path.clone();
        let read = spawn_blocking(move || beginning_of(&path)).await;
        read.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// Writes the initial number, unless the file exists and is not to be
    /// overwritten.
    fn initialise(&self, may_overwrite: bool) -> io::Result<()> {
        let Some(InitFile { value, overwrite }) = self.initial else {
            return Ok(());
        };
        if self.path.exists() && !(overwrite && may_overwrite) {
            return Ok(());
        }
        fs::write(&self.path, format!("{value}\n"))
    }
}

impl From<&TrackFile> for NumberFile {
    fn from(given: &TrackFile) -> Self {
        Self {
            path: given.file.clone().into(),
            initial: given.init_file,
        }
    }
}

impl From<&TrackFile> for Factor {
    fn from(given: &TrackFile) -> Self {
        Self {
            weight: given.weight.unwrap_or(DEFAULT_WEIGHT),
            reverse: given.reverse,
        }
    }
}

/// Writes the initial numbers of files. One that cannot be written is logged:
/// it counts as 0 then.
pub fn initialise_files<'a>(files: impl IntoIterator<Item = &'a NumberFile>, may_overwrite: bool) {
    for file in files {
        if let Err(error) = file.initialise(may_overwrite) {
            log::warn!("track_file {}: {error}", file.path.display());
        }
    }
}

/// The first bytes of a file, or what a pipe has ready.
fn beginning_of(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let mut text = Vec::new();
    file.take(MAX_READ_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

/// The number that a text begins with, as strtol(3) with base 0 reads it; 0 if
/// there is none that fits.
fn number(text: &[u8]) -> i32 {
    let text = String::from_utf8_lossy(text);
    let text = text.trim_start();
    let (sign, digits) = match text.as_bytes().first() {
        Some(b'-') => (-1, &text[1..]),
        Some(b'+') => (1, &text[1..]),
        _ => (1, text),
    };
    let hexadecimal = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"));
    let (base, digits) = match hexadecimal {
        Some(digits) => (16, digits),
        None if digits.starts_with('0') => (8, digits),
        None => (10, digits),
    };
    let length = digits
        .find(|c: char| !c.is_digit(base))
        .unwrap_or(digits.len());
    let magnitude = i64::from_str_radix(&digits[..length], base).unwrap_or(0);
    i32::try_from(sign * magnitude).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_strtol_reads_them() {
        let table = [
            ("7\n", 7),
            ("  -12 and more", -12),
            ("+3", 3),
            ("0x1F", 31),
            ("010", 8),
            ("08", 0),
            ("", 0),
            ("\n", 0),
            ("up", 0),
            ("-", 0),
            ("0x", 0),
            ("2147483647", i32::MAX),
            ("-2147483648", i32::MIN),
            ("2147483648", 0),
            ("99999999999999999999", 0),
            ("5\0x", 5),
        ];
        for (text, expected) in table {
            assert_eq!(number(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(number(b"4\xff"), 4, "no UTF-8");
    }

    #[test]
    fn a_number_is_multiplied_and_without_a_weight_it_is_a_failure() {
        let table = [
            (1, false, 5, Some(5)),
            (-2, false, 5, Some(-10)),
            (2, true, 5, Some(-10)),
            (254, false, -1, Some(-254)),
            (i32::MAX, true, i32::MIN, Some(4_611_686_016_279_904_256)),
            (0, false, 0, Some(0)),
            (0, false, 5, None),
            (0, true, 0, None),
            (0, true, -1, Some(0)),
        ];
        for (weight, reverse, number, expected) in table {
            let factor = Factor { weight, reverse };
            assert_eq!(factor.apply(number), expected, "{factor:?}, {number}");
        }
    }

    #[tokio::test]
    async fn a_file_is_created_with_its_initial_number_and_kept_unless_told_otherwise() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |overwrite| NumberFile {
            path: directory.path().join("number"),
            initial: Some(InitFile {
                value: -4,
                overwrite,
            }),
        };
        let keeping = file(false);
        assert_eq!(keeping.read().await, 0, "it does not exist");
        initialise_files([&keeping], true);
        assert_eq!(keeping.read().await, -4);
        fs::write(&keeping.path, "6").expect("it is written");
        initialise_files([&keeping], true);
        initialise_files([&file(true)], false);
        assert_eq!(keeping.read().await, 6, "kept");
        initialise_files([&file(true)], true);
        assert_eq!(keeping.read().await, -4, "overwritten");
    }

    #[tokio::test]
    async fn a_pipe_that_nobody_writes_to_and_a_directory_say_0() {
        let directory = tempfile::tempdir().expect("a directory");
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        for path in [pipe, directory.path().to_owned()] {
            let file = NumberFile {
                path,
                initial: None,
            };
            assert_eq!(file.read().await, 0, "{}", file.path.display());
        }
    }
}
