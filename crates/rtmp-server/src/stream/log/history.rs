//! The past that a log still has, as messages.

use std::io;

use rtmp_proto::wire::Message;

use super::index::History;
use super::{Log, MESSAGE_STREAM};

impl Log {
    /// The past `length_ms` milliseconds of the present publication, see
    /// [`super::index::Index::history`]. It is kept until [`Log::messages`] has read it; one
    /// at a time is.
    pub(in crate::stream) fn keep_history(&self, length_ms: u64) -> History {
        let reader = self.readers.packager();
        self.index().keep_history(reader, length_ms)
    }

    /// The messages of `history`, headers first, each with its time, ms. It is kept no
    /// longer.
    ///
    /// # Errors
    /// The log cannot be read, or has something else than chunks.
    pub(in crate::stream) fn messages(&self, history: History) -> io::Result<Vec<(Message, u64)>> {
        // The index is not locked meanwhile: the publisher and the fan-out go on.
        let chunks = match history.from < history.end {
            true => self.file.copy(history.from, history.end),
            false => Ok(Vec::new()),
        };
        self.index().remove_reader(self.readers.packager());
        let chunks = chunks?;
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
