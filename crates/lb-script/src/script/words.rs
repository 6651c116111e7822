//! What a script says on its standard error, line by line.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::time::sleep;

/// Lines of one run that are passed on, and bytes of each.
const MOST_LINES: usize = 20;
const LONGEST_LINE: usize = 500;

/// How often more than that is read, and forgotten, lest the script wait.
const PAUSE: Duration = Duration::from_millis(10);

/// What is read at once: as much as a pipe holds.
const READ_BYTES: usize = 64 * 1024;

/// The end that is read of a script's standard error.
///
/// What a script has started in the background has the other end as long as it
/// likes, and may outlive the agent. So that end is open for reading, too: then it
/// is never the end of a broken pipe (fifo(7)). And once nobody reads any more it
/// says that it is full instead of having the writer wait.
#[derive(Debug)]
pub struct Words {
    pipe: Receiver,
    other_end: File,
    buffer: Vec<u8>,
    line: Vec<u8>,
    lines: usize,
}

impl Words {
    /// What is read, and what the script is to have as its standard error.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn new() -> io::Result<(Self, File)> {
        let (reader, writer) = io::pipe()?;
        let other_end = OpenOptions::new()
            .read(true)
            .write(true)
            .open(format!("/proc/self/fd/{}", writer.as_raw_fd()))?;
        let for_script = other_end.try_clone()?;
        let words = Self {
            pipe: Receiver::from_owned_fd(OwnedFd::from(reader))?,
            other_end,
            buffer: vec![0; READ_BYTES],
            line: Vec::new(),
            lines: 0,
        };
        Ok((words, for_script))
    }

    /// Lets `say` have each line as it comes; returns only if that is impossible.
    pub async fn pass_on(&mut self, mut say: impl FnMut(&str)) -> io::Error {
        loop {
            match self.pipe.read(&mut self.buffer).await {
                Ok(length) => self.take(length, &mut say),
                Err(error) => return error,
            }
            if self.lines > MOST_LINES {
                sleep(PAUSE).await;
            }
        }
    }

    /// Lets `say` have what is left at the script's end.
    pub fn finish(mut self, mut say: impl FnMut(&str)) {
        // One read: what fills a pipe while it is emptied would never end.
        if let Ok(length) = self.pipe.try_read(&mut self.buffer) {
            self.take(length, &mut say);
        }
        if !self.line.is_empty() {
            self.end_line(&mut say);
        }
    }

    fn take(&mut self, length: usize, say: &mut impl FnMut(&str)) {
        for at in 0..length {
            match self.buffer[at] {
                _ if self.lines > MOST_LINES => return,
                b'\n' => self.end_line(say),
                byte if self.line.len() < LONGEST_LINE => self.line.push(byte),
                _ => {}
            }
        }
    }

    fn end_line(&mut self, say: &mut impl FnMut(&str)) {
        if self.lines < MOST_LINES {
            say(&String::from_utf8_lossy(&self.line));
        } else {
            say("(and more)");
        }
        self.line.clear();
        self.lines += 1;
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        if let Err(error) = fcntl(&self.other_end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)) {
            log::warn!("what a script has left in the background may hang: {error}");
        }
    }
}
