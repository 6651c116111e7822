//! The past that a log still has, as messages.

use std::io;

use rtmp_proto::wire::Message;

use super::index::History;
use super::{Log, MESSAGE_STREAM};

/// A stretch of a log of chunks that has been read, and not been taken apart yet.
#[derive(Debug)]
pub(in crate::stream) struct Past {
    history: History,
    chunks: Vec<u8>,
}

impl Log {
    /// The past `length_ms` milliseconds of the present publication, see
    /// [`super::index::Index::history`]. Nobody may write meanwhile.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(in crate::stream) fn past(&self, length_ms: u64) -> io::Result<Past> {
        // Locked while the file is read: what is read must not be given back meanwhile.
        let index = self.index();
        let history = index.history(length_ms);
        let chunks = match history.from < history.end {
            true => self.file.copy(history.from, history.end)?,
            false => Vec::new(),
        };
        Ok(Past { history, chunks })
    }

    /// The messages of `past`, headers first, each with its time, ms.
    ///
    /// # Errors
    /// The log has something else than chunks.
    pub(in crate::stream) fn messages(&self, past: Past) -> io::Result<Vec<(Message, u64)>> {
        let Past { history, chunks } = past;
        let headers = history.headers.iter();
        let headers = headers.map(|header| header.message(MESSAGE_STREAM));
        let mut messages: Vec<_> = headers.map(|header| (header, history.begin_ms)).collect();
        let mut chunks = chunks.as_slice();
        let mut times = history.times.into_iter();
        let mut reader = self.reader()?;
        while let Some(message) = reader.read(&mut chunks).map_err(io::Error::other)? {
            let time = times.next().ok_or(io::ErrorKind::InvalidData)?;
            messages.push((message, time));
        }
        Ok(messages)
    }
}
