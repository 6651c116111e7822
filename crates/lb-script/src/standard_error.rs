//! A script's standard error, which is logged line by line.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::time::sleep;

/// Lines of one run that are logged.
const MAX_LINES: usize = 20;

/// Bytes of one line that are logged.
const MAX_LINE_BYTES: usize = 500;

/// Interval at which the rest is read and dropped, so that the script need not wait.
const DRAIN_INTERVAL: Duration = Duration::from_millis(10);

/// Bytes of one read: the capacity of a pipe (pipe(7)).
const READ_BYTES: usize = 64 * 1024;

/// The reading end of the pipe that is a script's standard error.
///
/// Programs that a script has left in the background keep the writing end, and may
/// outlive the agent. Therefore the writing end is open for reading, too: a write then
/// never ends in SIGPIPE (fifo(7)). And when this is dropped it becomes non-blocking: a
/// write to the full pipe then fails with EAGAIN instead of waiting for ever.
#[derive(Debug)]
pub(crate) struct StandardError {
    pipe: Receiver,
    other_end: File,
    buffer: Vec<u8>,
    line: Vec<u8>,
    lines: usize,
}

impl StandardError {
    /// A pipe: this, and the file that is to be the script's standard error.
    ///
    /// # Errors
    /// The process or the system has no descriptors left.
    pub(crate) fn new() -> io::Result<(Self, File)> {
        let (reader, writer) = io::pipe()?;
        let other_end = OpenOptions::new()
            .read(true)
            .write(true)
            .open(format!("/proc/self/fd/{}", writer.as_raw_fd()))?;
        let for_script = other_end.try_clone()?;
        let reader_end = Self {
            pipe: Receiver::from_owned_fd(OwnedFd::from(reader))?,
            other_end,
            buffer: vec![0; READ_BYTES],
            line: Vec::new(),
            lines: 0,
        };
        Ok((reader_end, for_script))
    }

    /// Calls `log` with each line as it comes; returns only if the pipe cannot be read.
    pub(crate) async fn forward(&mut self, mut log: impl FnMut(&str)) -> io::Error {
        loop {
            match self.pipe.read(&mut self.buffer).await {
                Ok(length) => self.take(length, &mut log),
                Err(error) => return error,
            }
            if self.lines > MAX_LINES {
                sleep(DRAIN_INTERVAL).await;
            }
        }
    }

    /// Calls `log` with the lines that are left at the script's end.
    pub(crate) fn finish(mut self, mut log: impl FnMut(&str)) {
        // One read: what fills a pipe while it is emptied would never end.
        if let Ok(length) = self.pipe.try_read(&mut self.buffer) {
            self.take(length, &mut log);
        }
        if !self.line.is_empty() {
            self.end_line(&mut log);
        }
    }

    fn take(&mut self, length: usize, log: &mut impl FnMut(&str)) {
        for at in 0..length {
            match self.buffer[at] {
                _ if self.lines > MAX_LINES => return,
                b'\n' => self.end_line(log),
                byte if self.line.len() < MAX_LINE_BYTES => self.line.push(byte),
                _ => {}
            }
        }
    }

    fn end_line(&mut self, log: &mut impl FnMut(&str)) {
        if self.lines < MAX_LINES {
            log(&String::from_utf8_lossy(&self.line));
        } else {
            log("(and more)");
        }
        self.line.clear();
        self.lines += 1;
    }
}

impl Drop for StandardError {
    fn drop(&mut self) {
        // The flag is the open file's: it holds for every process that has the end.
        if let Err(error) = fcntl(&self.other_end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)) {
            log::warn!("what a script has left in the background may hang: {error}");
        }
    }
}
