//! The chunk layer: messages cut into chunks and interleaved (RTMP 1.0 §5.3).

pub mod csid;
mod header;
mod reader;
mod writer;

pub use header::{DEFAULT_CHUNK_SIZE, MAX_MESSAGE_LEN};
pub use reader::{ChunkError, ChunkReader};
pub use writer::{ChunkWriter, encode_message, encoded_len, readdress};
