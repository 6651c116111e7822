//! Segments that are encrypted as a whole: AES-128 in CBC mode with PKCS #7 padding
//! (RFC 8216 §4.3.2.4). The initialization vector is the media sequence number (§5.2), so that
//! no two segments of a key have the same.

use aes::Aes128;
use aes::cipher::generic_array::GenericArray;
use aes::cipher::{BlockEncryptMut, KeyIvInit};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::segmenter::{Output, Part};

/// Length of a key.
pub const KEY_BYTES: usize = 16;
/// Length of a block.
const BLOCK_BYTES: usize = 16;

/// Encrypts what comes out of a segmenter. It can be written down, and goes on where it is read.
#[derive(Debug, Serialize, Deserialize)]
pub struct Encryptor {
    /// Number of segments that have one key (SRS: `hls_fragments_per_key`).
    segments_per_key: u64,
    /// The media sequence number of the segment that has begun, or begins next.
    segment: u64,
    key: Option<[u8; KEY_BYTES]>,
    /// The segment that has begun.
    begun: Option<Segment>,
}

#[derive(Serialize, Deserialize)]
struct Segment {
    key: [u8; KEY_BYTES],
    /// What the next block is combined with: the encrypted block before it.
    vector: [u8; BLOCK_BYTES],
    /// Less than a block, which waits for what follows.
    rest: Vec<u8>,
}

/// Without its state: it is as good as the key.
impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment").finish_non_exhaustive()
    }
}

impl Encryptor {
    /// An encryptor of segments from number `first_segment` on, which get another key where
    /// their number is a multiple of `segments_per_key`.
    #[must_use]
    pub fn new(first_segment: u64, segments_per_key: u64) -> Self {
        Self {
            segments_per_key: segments_per_key.max(1),
            segment: first_segment,
            key: None,
            begun: None,
        }
    }

    /// Encrypts the parts in `outputs`, and tells of keys, which are random bytes that
    /// `new_key` gives.
    ///
    /// # Errors
    /// That of `new_key`: `outputs` are to be thrown away.
    pub fn encrypt<E>(
        &mut self,
        outputs: &mut Vec<Output>,
        mut new_key: impl FnMut() -> Result<[u8; KEY_BYTES], E>,
    ) -> Result<(), E> {
        let mut encrypted = Vec::with_capacity(outputs.len() + 2);
        for output in outputs.drain(..) {
            match output {
                Output::Part(part) => {
                    if self.begun.is_none() {
                        let key = self.begin(&mut encrypted, &mut new_key)?;
                        self.begun = Some(Segment::new(&key, self.segment));
                    }
                    let bytes = match &mut self.begun {
                        Some(segment) => segment.update(&part.bytes),
                        None => Bytes::new(),
                    };
                    encrypted.push(Output::Part(Part { bytes, ..part }));
                }
                Output::SegmentEnd(end) => {
                    if let Some(segment) = self.begun.take() {
                        encrypted.push(Output::Part(Part {
                            bytes: segment.finish(),
                            duration: std::time::Duration::ZERO,
                            independent: false,
                        }));
                    }
                    self.segment += 1;
                    encrypted.push(Output::SegmentEnd(end));
                }
                other => encrypted.push(other),
            }
        }
        *outputs = encrypted;
        Ok(())
    }

    /// The key of the segment that begins.
    fn begin<E>(
        &mut self,
        outputs: &mut Vec<Output>,
        new_key: &mut impl FnMut() -> Result<[u8; KEY_BYTES], E>,
    ) -> Result<[u8; KEY_BYTES], E> {
        if let Some(key) = self
            .key
            .filter(|_| !self.segment.is_multiple_of(self.segments_per_key))
        {
            return Ok(key);
        }
        let key = new_key()?;
        self.key = Some(key);
        outputs.push(Output::Key(key));
        Ok(key)
    }
}

impl Segment {
    fn new(key: &[u8; KEY_BYTES], number: u64) -> Self {
        Self {
            key: *key,
            vector: u128::from(number).to_be_bytes(),
            rest: Vec::with_capacity(BLOCK_BYTES),
        }
    }

    /// The whole blocks of what waits and of `bytes`.
    fn update(&mut self, bytes: &[u8]) -> Bytes {
        let mut blocks = Vec::with_capacity(self.rest.len() + bytes.len());
        blocks.append(&mut self.rest);
        blocks.extend_from_slice(bytes);
        let whole = blocks.len() - blocks.len() % BLOCK_BYTES;
        self.rest.extend_from_slice(&blocks[whole..]);
        blocks.truncate(whole);
        let mut cipher = cbc::Encryptor::<Aes128>::new(&self.key.into(), &self.vector.into());
        for block in blocks.chunks_exact_mut(BLOCK_BYTES) {
            cipher.encrypt_block_mut(GenericArray::from_mut_slice(block));
        }
        if let Some(last) = blocks.last_chunk() {
            self.vector = *last;
        }
        blocks.into()
    }

    /// The last block, with the padding.
    fn finish(mut self) -> Bytes {
        let missing = BLOCK_BYTES - self.rest.len();
        let padding = u8::try_from(missing).expect("a block has 16 bytes");
        self.update(&vec![padding; missing])
    }
}
