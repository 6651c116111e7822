//! The bytes of a stream's segments: a third log in memory.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use rtmp_proto::session::StreamKey;
use serde::{Deserialize, Serialize};

use crate::hand_over::{HandedOver, Inherited};
use crate::stream::log::file::{LogFile, LogFilePart, releasable};
use crate::stream::memory::{Holding, MemoryPool};

/// Segments of a stream, one after another.
///
/// One thread appends and gives back, any number read.
#[derive(Debug)]
pub(crate) struct HlsLog {
    file: LogFile,
    end: AtomicU64,
    /// Nothing before this offset can be read. Locked while something is read, so that no
    /// zeros are sent in place of what is given back meanwhile.
    start: RwLock<u64>,
    held: Holding,
}

/// An [`HlsLog`] for the program that the process becomes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HlsLogPart {
    file: LogFilePart,
    start: u64,
    end: u64,
}

impl HlsLog {
    /// The log for the program that the process becomes.
    pub(super) fn part(&self, handed_over: &mut HandedOver) -> HlsLogPart {
        HlsLogPart {
            file: self.file.part(handed_over),
            start: *self.readable_from(),
            end: self.end.load(Ordering::Relaxed),
        }
    }

    /// Goes on with a log that this process has had before.
    ///
    /// # Errors
    /// Its descriptor is missing.
    pub(super) fn take_over(
        part: &HlsLogPart,
        key: &StreamKey,
        pool: Arc<MemoryPool>,
        inherited: &mut Inherited,
    ) -> io::Result<Self> {
        let name = file_name(key);
        let log = Self {
            file: LogFile::take_over(&part.file, &name, inherited)?,
            end: AtomicU64::new(part.end),
            start: RwLock::new(part.start),
            held: Holding::additional(pool),
        };
        log.hold();
        Ok(log)
    }

    /// The empty log of the stream `key`, whose memory is a part of `pool`.
    pub(super) fn new(key: &StreamKey, pool: Arc<MemoryPool>) -> Self {
        Self {
            file: LogFile::new(&file_name(key)),
            end: AtomicU64::new(0),
            start: RwLock::new(0),
            held: Holding::additional(pool),
        }
    }

    /// Appends `bytes`; the range that they have.
    ///
    /// # Errors
    /// No descriptor or no memory left.
    pub(super) fn append(&self, bytes: &[u8]) -> io::Result<Range<u64>> {
        let start = self.end.load(Ordering::Relaxed);
        self.file.write(start, bytes)?;
        let end = start + bytes.len() as u64;
        self.end.store(end, Ordering::Relaxed);
        self.hold();
        Ok(start..end)
    }

    /// Gives back what lies before `offset`, in whole blocks.
    ///
    /// # Errors
    /// The kernel's refusal; the memory is then kept.
    pub(super) fn give_back(&self, offset: u64) -> io::Result<()> {
        let mut start = self.start.write().unwrap_or_else(PoisonError::into_inner);
        if offset <= *start || self.file.is_empty() {
            return Ok(());
        }
        *start = offset;
        let released = self.file.release(offset);
        drop(start);
        self.hold();
        released
    }

    fn hold(&self) {
        let end = self.end.load(Ordering::Relaxed);
        self.held.set(end - releasable(*self.readable_from()));
    }

    fn readable_from(&self) -> RwLockReadGuard<'_, u64> {
        self.start.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if what lies at `offset` can be read.
    pub(crate) fn has(&self, offset: u64) -> bool {
        self.lock_at(offset).is_ok()
    }

    /// True if all logs together are beyond their limit.
    pub(super) fn is_memory_exhausted(&self) -> bool {
        self.held.pool().is_exhausted()
    }

    /// The lock under which what lies at `offset` can be read.
    fn lock_at(&self, offset: u64) -> io::Result<RwLockReadGuard<'_, u64>> {
        let start = self.readable_from();
        if offset < *start {
            let message = "the segment is no longer in memory";
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        Ok(start)
    }

    /// Sends from `offset` up to `end` to `socket`, as much as it takes now; the bytes sent.
    ///
    /// # Errors
    /// `WouldBlock`, the socket's error, or `NotFound` if it has been given back.
    pub(crate) fn send(&self, socket: BorrowedFd<'_>, offset: u64, end: u64) -> io::Result<usize> {
        let _start = self.lock_at(offset)?;
        self.file.send(socket, offset, end)
    }

    /// Reads the bytes from `offset` on that `bytes` has room for.
    ///
    /// # Errors
    /// `NotFound` if they have been given back.
    pub(crate) fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let _start = self.lock_at(offset)?;
        self.file.read(offset, bytes)
    }

    /// Copies `range`.
    ///
    /// # Errors
    /// `NotFound` if it has been given back.
    pub(crate) fn copy(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let _start = self.lock_at(range.start)?;
        self.file.copy(range.start, range.end)
    }

    /// The bytes of memory that it holds.
    ///
    /// # Errors
    /// The kernel's refusal to say.
    pub(crate) fn memory(&self) -> io::Result<u64> {
        self.file.memory()
    }
}

fn file_name(key: &StreamKey) -> String {
    format!("hls:{key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(pool: &Arc<MemoryPool>) -> HlsLog {
        let key = StreamKey {
            vhost: "v".to_owned(),
            app: "live".to_owned(),
            stream: "s".to_owned(),
        };
        HlsLog::new(&key, pool.clone())
    }

    #[test]
    fn what_is_given_back_can_no_longer_be_read() {
        let pool = MemoryPool::new(1 << 30);
        let log = log(&pool);
        assert_eq!(log.append(b"first").unwrap(), 0..5);
        assert_eq!(log.append(b"second").unwrap(), 5..11);
        assert_eq!(log.copy(0..5).unwrap(), b"first");
        log.give_back(5).unwrap();
        let gone = log.copy(0..5).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        assert_eq!(log.copy(5..11).unwrap(), b"second");
        assert!(log.has(5) && !log.has(4));
    }

    #[test]
    fn its_memory_counts_while_it_is_held() {
        let pool = MemoryPool::new(1 << 30);
        let log = log(&pool);
        let block = vec![7; 4 << 20];
        log.append(&block).unwrap();
        log.append(&block).unwrap();
        assert_eq!(pool.used(), 8 << 20);
        log.give_back(4 << 20).unwrap();
        assert_eq!(pool.used(), 4 << 20);
        drop(log);
        assert_eq!(pool.used(), 0);
    }
}
