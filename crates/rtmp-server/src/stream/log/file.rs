//! The bytes of a stream's log: a file in memory whose offsets only grow.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::sendfile::sendfile64;
use serde::{Deserialize, Serialize};

use crate::hand_over::{HandedOver, Inherited, hand_over};

/// Memory is given back in blocks of this size, in bytes.
///
/// Never part of a page: punching a hole in part of a page overwrites the rest
/// of the range with zeros *in place*, and the page may still be on its way to
/// a player (`sendfile` lends pages to the socket, it does not copy them).
/// Where the kernel backs shared memory with huge pages the same holds for
/// those, hence the larger block.
fn release_block() -> u64 {
    const SMALL: u64 = 64 * 1024;
    const HUGE: u64 = 2 * 1024 * 1024;
    static BLOCK: OnceLock<u64> = OnceLock::new();
    *BLOCK.get_or_init(|| {
        let policy = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
        match policy {
            Ok(policy) if !policy.contains("[never]") && !policy.contains("[deny]") => HUGE,
            _ => SMALL,
        }
    })
}

/// The part of what lies before `offset` that can be given back: whole blocks.
#[must_use]
pub(crate) fn releasable(offset: u64) -> u64 {
    let block = release_block();
    offset / block * block
}

/// A `memfd` that is written at its end, read anywhere, and given back from
/// its beginning. One thread writes, any number read and give back.
///
/// There is none before the first byte: a stream that nobody has published yet
/// costs no descriptor.
///
/// Minimum kernel: 3.17 (`memfd_create`).
#[derive(Debug)]
pub(crate) struct LogFile {
    name: String,
    file: OnceLock<File>,
    /// Everything before this offset has been given back.
    released: AtomicU64,
}

/// A [`LogFile`] for the program that the process becomes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LogFilePart {
    descriptor: Option<RawFd>,
    released: u64,
}

impl LogFile {
    /// An empty file; `name` is what `/proc/PID/fd` shows.
    #[must_use]
    pub(crate) fn new(name: &str) -> Self {
        let readable = name.chars().filter(|&character| character != '\0');
        Self {
            name: readable.take(200).collect(),
            file: OnceLock::new(),
            released: AtomicU64::new(0),
        }
    }

    /// The file for the program that the process becomes.
    pub(crate) fn part(&self, handed_over: &mut HandedOver) -> LogFilePart {
        LogFilePart {
            descriptor: self.file.get().map(|file| hand_over(file, handed_over)),
            released: self.released.load(Ordering::Relaxed),
        }
    }

    /// Goes on with a file that this process has had before; `name` is for one that is still
    /// to be made.
    ///
    /// # Errors
    /// The descriptor is missing.
    pub(crate) fn take_over(
        part: &LogFilePart,
        name: &str,
        inherited: &mut Inherited,
    ) -> io::Result<Self> {
        let taken = Self::new(name);
        taken.released.store(part.released, Ordering::Relaxed);
        if let Some(number) = part.descriptor {
            let file = File::from(inherited.take(number)?);
            taken.file.get_or_init(|| file);
        }
        Ok(taken)
    }

    /// True if nothing has ever been written.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.file.get().is_none()
    }

    /// The file; nothing can be read from one that is not there.
    fn file(&self) -> io::Result<&File> {
        self.file
            .get()
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Writes `bytes` at `offset`.
    ///
    /// # Errors
    /// No descriptor or no memory left.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let file = if let Some(file) = self.file.get() {
            file
        } else {
            let made = memfd_create(self.name.as_str(), MFdFlags::MFD_CLOEXEC)?;
            self.file.get_or_init(|| made.into())
        };
        file.write_all_at(bytes, offset)
    }

    /// Gives the memory of what lies before `offset` back, in whole blocks.
    /// Reading there afterwards would give zeros: nobody may.
    ///
    /// # Errors
    /// The kernel's refusal; the memory is then kept.
    pub(crate) fn release(&self, offset: u64) -> io::Result<()> {
        let end = releasable(offset);
        let released = self.released.load(Ordering::Relaxed);
        if end <= released {
            return Ok(());
        }
        let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let (start, length) = (released.cast_signed(), (end - released).cast_signed());
        fallocate(self.file()?, mode, start, length)?;
        self.released.fetch_max(end, Ordering::Relaxed);
        Ok(())
    }

    /// The bytes of memory that the file holds now.
    ///
    /// # Errors
    /// The kernel's refusal to say.
    pub(crate) fn memory(&self) -> io::Result<u64> {
        use std::os::unix::fs::MetadataExt;
        const BLOCK_BYTES: u64 = 512;
        match self.file.get() {
            Some(file) => Ok(file.metadata()?.blocks() * BLOCK_BYTES),
            None => Ok(0),
        }
    }

    /// Copies the bytes from `offset` up to `end`.
    ///
    /// # Errors
    /// The range is not in the file.
    pub(crate) fn copy(&self, offset: u64, end: u64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(end - offset).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.read(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads the bytes from `offset` on that `bytes` has room for.
    ///
    /// # Errors
    /// The range is not in the file.
    pub(crate) fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file()?.read_exact_at(bytes, offset)
    }

    /// Sends from `offset` up to `end` to `socket`, as much as it takes now: at least one
    /// byte.
    ///
    /// # Errors
    /// The socket's error; `WouldBlock` if it takes nothing at present.
    pub(crate) fn send(&self, socket: BorrowedFd<'_>, offset: u64, end: u64) -> io::Result<usize> {
        // The most that one call transfers (sendfile(2)).
        const MAX_COUNT: u64 = 0x7fff_f000;
        let mut position = offset.cast_signed();
        let count = usize::try_from((end - offset).min(MAX_COUNT)).map_err(io::Error::other)?;
        let file = self.file()?.as_fd();
        loop {
            return match sendfile64(socket, file, Some(&mut position), count) {
                // A file that ends before `end` cannot be: the log's end is
                // published after its bytes.
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(sent) => Ok(sent),
                Err(Errno::EINTR) => continue,
                Err(error) => Err(error.into()),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_and_later_bytes_stay_where_they_were() {
        let log = LogFile::new("test");
        let block = release_block();
        let bytes = vec![7; usize::try_from(4 * block).unwrap()];
        log.write(0, &bytes).unwrap();
        assert!(log.memory().unwrap() >= 4 * block);
        log.release(3 * block + 1).unwrap();
        assert_eq!(log.memory().unwrap(), block);
        let kept = log.copy(3 * block, 4 * block).unwrap();
        assert!(
            kept.iter().all(|&byte| byte == 7),
            "the part kept has changed"
        );
    }

    #[test]
    fn part_of_a_block_is_never_given_back() {
        let log = LogFile::new("test");
        log.write(0, &[7; 4096]).unwrap();
        log.release(4096).unwrap();
        assert_eq!(log.copy(0, 4096).unwrap(), [7; 4096]);
    }

    #[test]
    fn before_the_first_byte_there_is_no_descriptor() {
        let log = LogFile::new("a name\0 with a nought");
        assert!(log.is_empty());
        assert_eq!(log.memory().unwrap(), 0);
        assert!(log.copy(0, 1).is_err(), "nothing to read");
        log.write(0, b"now").unwrap();
        assert!(!log.is_empty());
        assert_eq!(log.copy(0, 3).unwrap(), b"now");
    }
}
