//! The files that programs write to.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Time for opening a file: a file server may be gone.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// Files that are being opened at a time at most: an attempt that hangs keeps a thread.
static OPENING: Semaphore = Semaphore::const_new(8);

/// Opens `path` to append to it; it is made if there is none.
///
/// # Errors
/// It cannot be opened, not within five seconds, or is a FIFO that nobody reads.
pub(super) async fn open(path: &Path) -> io::Result<File> {
    let named = |error: io::Error| {
        let why = match error.raw_os_error() {
            Some(nix::libc::ENXIO) => "nobody reads what is written to it".to_owned(),
            _ => error.to_string(),
        };
        io::Error::new(error.kind(), format!("{}: {why}", path.display()))
    };
    let opened = async {
        let permit = OPENING.acquire().await.map_err(io::Error::other)?;
        let path = path.to_owned();
        let opened = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            open_now(path)
        });
        opened.await.map_err(io::Error::other)?
    };
    let opened = timeout(OPEN_TIMEOUT, opened).await;
    opened
        .unwrap_or_else(|slow| Err(slow.into()))
        .map_err(named)
}

fn open_now(path: PathBuf) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o644);
    // The opening of a FIFO waits for a reader otherwise (fifo(7)).
    options.custom_flags(OFlag::O_NONBLOCK.bits() | OFlag::O_NOCTTY.bits());
    let file = options.open(path)?;
    // The program expects that its writes wait.
    let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
    fcntl(&file, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    Ok(file)
}
