//! Parts of a log for players on another message stream than the log's.
//!
//! Clients are given message stream 1 for the first stream that they create,
//! and few create a second. For those that play on another, the log is copied
//! piece by piece, with the message stream changed in each message's header.

use std::io;

use rtmp_proto::wire::chunk::readdress;

use super::Log;

/// Bytes copied at once, unless a single message is longer.
const MAX_BYTES: u64 = 64 * 1024;

impl Log {
    /// Messages of the log from `offset` on and not beyond `end`, addressed to
    /// the message stream `stream_id`; and where in the log they end. At least
    /// one message, if there is one.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(in crate::stream) fn readdressed(
        &self,
        offset: u64,
        end: u64,
        stream_id: u32,
    ) -> io::Result<(Vec<u8>, u64)> {
        let mut beginnings = Vec::new();
        let mut after = offset;
        for message in self.index().messages_in(offset, end) {
            if after > offset && message.end - offset > MAX_BYTES {
                break;
            }
            beginnings.push(message.start - offset);
            after = message.end;
        }
        let mut bytes = self.file.copy(offset, after)?;
        for beginning in beginnings {
            let beginning = usize::try_from(beginning).map_err(io::Error::other)?;
            readdress(&mut bytes[beginning..], stream_id);
        }
        Ok((bytes, after))
    }
}
