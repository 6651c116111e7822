//! The pid file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::logging::create_parent;

/// Holds our process id while we run. It is locked, so that another server with the
/// same file does not take it for a stale one.
pub(super) struct PidFile {
    path: PathBuf,
    file: File,
}

impl PidFile {
    /// Goes on with the file that this process has had before: it is locked still.
    pub(super) fn take_over(path: PathBuf, descriptor: OwnedFd) -> Self {
        let file = descriptor.into();
        Self { path, file }
    }

    /// Its name and descriptor, for the program that the process becomes.
    pub(super) fn part(&self) -> (&Path, RawFd) {
        (&self.path, self.file.as_raw_fd())
    }

    /// Opens and locks the file: before the daemon goes to the background, so that an
    /// error is still seen.
    ///
    /// # Errors
    /// It cannot be written, or belongs to a process that runs.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        loop {
            let file = create_parent(path).and_then(|()| {
                // Not truncated: another server may have written it and still run.
                let mut options = OpenOptions::new();
                options.write(true).create(true).truncate(false).open(path)
            });
            let file = file.with_context(|| write_error(path))?;
            if let Err(TryLockError::WouldBlock) = file.try_lock() {
                let pid = std::fs::read_to_string(path).unwrap_or_default();
                let (path, pid) = (path.display(), pid.trim());
                bail!(
                    "the pid file {path} is that of another server, which runs as process {pid}: \
                     choose another by `pid` or --pid"
                );
            }
            // Its former owner may have removed it between our open and our lock.
            if is_at(&file, path) {
                let path = path.to_owned();
                return Ok(Self { path, file });
            }
        }
    }

    /// Writes our process id. It changes when the daemon goes to the background.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write(&mut self) -> anyhow::Result<()> {
        let written = self.file.set_len(0).and_then(|()| self.file.rewind());
        let written = written.and_then(|()| writeln!(self.file, "{}", std::process::id()));
        written.with_context(|| write_error(&self.path))
    }
}

/// Returns true if `path` still is the name of `file`.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: io::Result<std::fs::Metadata>| {
        let metadata = metadata.ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    identity(file.metadata()) == identity(path.metadata())
}

fn write_error(path: &Path) -> String {
    let path = path.display();
    format!("cannot write the pid file {path}: choose another by `pid` or --pid")
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // It may have been removed already.
        let _ = std::fs::remove_file(&self.path);
    }
}
