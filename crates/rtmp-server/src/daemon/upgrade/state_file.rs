//! The file in memory by which what is known goes to the other program.

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::slice;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use serde::Serialize;

use crate::hand_over::{Blob, HandOverError};

/// A file in memory, without a name.
#[derive(Debug)]
pub(super) struct StateFile(File);

impl From<OwnedFd> for StateFile {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor.into())
    }
}

impl AsRawFd for StateFile {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl StateFile {
    /// An empty one, with memory for about as much as `bytes`: it is not asked for while
    /// everybody stands still.
    ///
    /// # Errors
    /// There is no memory or descriptor left.
    pub(super) fn new(bytes: usize) -> io::Result<Self> {
        let file = memfd_create("hand-over", MFdFlags::MFD_CLOEXEC)?;
        // More may have come until then.
        let bytes = i64::try_from(bytes.saturating_add(bytes / 8)).unwrap_or(i64::MAX);
        if bytes > 0 {
            fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
        }
        Ok(Self(file.into()))
    }

    /// Writes `value`; returns the number of bytes.
    ///
    /// # Errors
    /// It cannot be written down, or there is no memory.
    pub(super) fn write(&self, value: &impl Serialize) -> Result<u64, HandOverError> {
        let mut writer = BufWriter::new(&self.0);
        Blob::write_to(value, &mut writer)?;
        writer.flush()?;
        let bytes = (&self.0).stream_position()?;
        self.0.set_len(bytes)?;
        Ok(bytes)
    }

    /// What has been written.
    ///
    /// # Errors
    /// There is nothing, or it cannot be mapped.
    pub(super) fn map(&self) -> io::Result<Mapped> {
        let bytes = usize::try_from(self.0.metadata()?.len()).map_err(io::Error::other)?;
        let bytes = NonZeroUsize::new(bytes).ok_or_else(|| {
            io::Error::new(io::ErrorKind::UnexpectedEof, "nothing is handed over")
        })?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_POPULATE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start = unsafe { mmap(None, bytes, ProtFlags::PROT_READ, flags, &self.0, 0) }?;
        Ok(Mapped { start, bytes })
    }
}

/// A [`StateFile`] as memory.
#[derive(Debug)]
pub(super) struct Mapped {
    start: NonNull<std::ffi::c_void>,
    bytes: NonZeroUsize,
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: it is mapped, to be read, until it is dropped. Nobody else has the file, which
        // the program that has written it has become.
        unsafe { slice::from_raw_parts(self.start.as_ptr().cast(), self.bytes.get()) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody has a reference to it any more.
        let _ = unsafe { munmap(self.start, self.bytes.get()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_whatever_memory_there_was_for() {
        for room in [0, 7, 1 << 20] {
            let file = StateFile::new(room).unwrap();
            let written: Vec<u32> = (0..20_000).collect();
            let bytes = file.write(&written).unwrap();
            let mapped = file.map().unwrap();
            assert_eq!(mapped.len() as u64, bytes);
            assert_eq!(Blob::read_from::<Vec<u32>>(&mapped).unwrap(), written);
        }
        assert!(StateFile::new(7).unwrap().map().is_ok());
        assert!(
            StateFile::new(0).unwrap().map().is_err(),
            "nothing is mapped"
        );
    }
}
