//! A stream's log of FLV tags: the same messages as in its log of chunks, in another
//! form.

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use http_flv::tag;
use rtmp_proto::wire::Limits;
use rtmp_proto::wire::chunk::{ChunkReader, DEFAULT_CHUNK_SIZE, csid, encode_message};
use rtmp_proto::wire::message::Control;

use super::file::LogFile;
use super::index::Index;
use super::{FlvFraming, Framing, Log};
use crate::stream::memory::{Holding, MemoryPool};

/// The log is written in pieces of this size, in bytes, and a tag more.
const PIECE_BYTES: usize = 1 << 20;

impl Log {
    /// A log of FLV tags that goes on where this one, which has chunks, goes on. It
    /// begins with a copy of the newest group of pictures. Nobody may write meanwhile.
    ///
    /// # Errors
    /// No descriptor or no memory left.
    pub(in crate::stream) fn flv_copy(
        &self,
        framing: FlvFraming,
        pool: Arc<MemoryPool>,
    ) -> io::Result<Self> {
        let (from, chunks, index) = self.newest_group()?;
        let kind = match framing {
            FlvFraming::Bare => "flv",
            FlvFraming::WebSocket => "ws-flv",
        };
        let file = LogFile::new(&format!("{kind}:{}", self.key));
        let framing = Framing::Flv(framing);
        // With the file header, so that nothing has the offset 0: whoever has had
        // nothing of the log stands there.
        let mut tags = tag::file_header(true, true).to_vec();
        let mut offsets = Vec::new();
        let mut written = 0;
        let mut chunks = chunks.as_slice();
        let mut reader = self.reader()?;
        while let Some(message) = reader.read(&mut chunks).map_err(io::Error::other)? {
            offsets.push(written + tags.len() as u64);
            framing.encode(&message, &mut tags);
            if tags.len() >= PIECE_BYTES {
                file.write(written, &tags)?;
                written += tags.len() as u64;
                tags.clear();
            }
        }
        file.write(written, &tags)?;
        let copy = index.copy_from(from, &offsets, written + tags.len() as u64);
        let log = Self {
            key: self.key.clone(),
            framing,
            file,
            index: Mutex::new(copy),
            held: Holding::additional(pool),
            readers: self.readers.clone(),
            copying: Mutex::default(),
            abandoned: AtomicBool::new(false),
        };
        log.give_back(log.index());
        Ok(log)
    }

    /// The newest group of pictures: its offset, its chunks, and the index of it.
    fn newest_group(&self) -> io::Result<(u64, Vec<u8>, Index)> {
        // Locked while the file is read: what is read must not be given back meanwhile.
        // Workers wait for this lock, so that no more is done under it.
        let index = self.index();
        let end = index.end();
        let from = index.join_offset().unwrap_or(end);
        let chunks = match from < end {
            true => self.file.copy(from, end)?,
            false => Vec::new(),
        };
        Ok((from, chunks, index.copy_since(from)))
    }

    /// A reader of the log's chunks.
    pub(in crate::stream) fn reader(&self) -> io::Result<ChunkReader> {
        let mut reader = ChunkReader::new(&Limits::default());
        let Framing::Chunks(size) = self.framing else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let mut bytes = Vec::new();
        let set_size = Control::SetChunkSize(size).to_message();
        encode_message(&set_size, DEFAULT_CHUNK_SIZE, csid::CONTROL, &mut bytes);
        let read = reader.read(&mut bytes.as_slice());
        read.map_err(io::Error::other)?;
        Ok(reader)
    }
}
